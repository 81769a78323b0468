"""(a) The tests marked `gpu`, on the device; none of them stops the others."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.gpu.setting import Jobs, Row, Setting

TITLE = "tests marked gpu"


def jobs(setting: Setting) -> Jobs:
    """Yield the one job."""
    yield "tests", partial(_run, setting)


def _run(setting: Setting, seconds: float) -> Row:
    report = setting.scratch / "gpu-tests.xml"
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-q", "--tb=short", f"--gpu-device={setting.device.type}"]
    command += [f"--junitxml={report}", "-p", "no:cacheprovider"]
    command += ["-k", "not test_encoders or r2plus1d_18_narrow"] if setting.smoke else []  # one stands for all
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"the tests took longer than {seconds:.0f} s"}
    if not report.exists():
        return {"error": f"pytest ended with status {done.returncode}: {(done.stdout + done.stderr)[-2000:]}"}
    row = _read(report)
    row["status"] = done.returncode
    return row


def _read(report: Path) -> Row:
    """Return how many tests passed, and of the others name and reason."""
    passed, failed, skipped, slow = 0, {}, {}, {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        slow[name] = float(case.get("time", 0))
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        if bad is not None:
            failed[name] = re.sub(r"\s+", " ", f"{bad.get('message', '')} {bad.text or ''}")[:1500]
        elif (pardon := case.find("skipped")) is not None:
            skipped[name] = pardon.get("message", "")
        else:
            passed += 1
    slowest = dict(sorted(slow.items(), key=lambda item: -item[1])[:5])
    return {"passed": passed, "failed": failed, "skipped": skipped, "slowest": slowest}


def show(rows: dict[str, Row]) -> list[str]:
    """Return lines for the terminal."""
    row = rows["tests"]
    lines = [f"{row['passed']} passed, {len(row['failed'])} failed, {len(row['skipped'])} skipped"]
    return lines + [f"FAILED {name}: {reason[:200]}" for name, reason in row["failed"].items()]


def is_good(rows: dict[str, Row]) -> bool:
    """Say whether all tests passed."""
    return not rows.get("tests", {}).get("failed")
