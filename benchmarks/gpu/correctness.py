"""(a) The tests marked `gpu`, on the device; none of them stops the others."""

from __future__ import annotations

import contextlib
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
    report, log = setting.scratch / "gpu-tests.xml", setting.scratch / "gpu-tests.log"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-v", "--tb=short", f"--gpu-device={setting.device.type}"]
    command += [f"--junitxml={report}", "-p", "no:cacheprovider"]
    command += [f"--session-timeout={max(30.0, seconds - 10):.0f}"]  # ends after the test in hand, and still reports
    command += ["-k", "not test_encoders or r2plus1d_18_narrow"] if setting.smoke else []  # one stands for all
    with log.open("w") as file, contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(command, stdout=file, stderr=file, timeout=seconds + 60, check=False)
    if not report.exists():
        return {"error": f"pytest left no report: {log.read_text(errors='replace')[-2000:]}"}
    return _read(report)


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
