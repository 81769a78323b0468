"""(f) The paper's experiments in miniature at a size that a GPU allows: `lofi reproduce 1 2 --data bench_gpu`.

Row after row and seed after seed, as far as time allows; the benchmark is rendered on the spot by all cores. What is
cut goes on at the next call, for the folder of the runs is kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks.gpu.setting import LATER, Jobs, Row, Setting
from lofi_tal.files import write_text

TITLE = "Tables 1 and 2 in miniature (recipe bench_gpu)"
ROWS = ("acp", "long", "t", "s", "st", "short", "acp_plus")
SEEDS = 3
_LEAST = 20.0  # seconds in which it is worth while to begin a row
_FAREWELL = 20.0  # seconds that an interrupted row has to write its checkpoint
_TOY = """
extends: bench
name: toy
data:
  {annotations: DATA/annotations.json, videos: DATA/videos, clips: DATA/clips.csv, clips_root: DATA/clips, workers: 0}
encoder: {options: {width: 8}}
snippets: {count: 8, frames: 4, size: 32}
pretrain: {epochs: 1}
finetune: {epochs: 1}
lofi: {epochs: 1, reestimate: 1}
head: {epochs: 1, lrs: [1e-3], options: {hidden_1d: 16, hidden_2d: 8, hidden_3d: 16}}
"""


def jobs(setting: Setting) -> Jobs:
    """Yield every row of every seed."""
    rows, seeds = (("acp",), 1) if setting.smoke else (ROWS, SEEDS)
    for seed in range(seeds):
        for row in rows:
            yield f"{row} {seed}", partial(_run, setting, row, seed)


def _run(setting: Setting, row: str, seed: int, seconds: float) -> Row:
    if seconds < _LEAST and not setting.smoke:
        return {LATER: f"{seconds:.0f} s are left: too little to begin a row"}
    data = str(_toy(setting)) if setting.smoke else "bench_gpu"
    precision = "fp32" if setting.smoke else "bf16"
    results = setting.scratch / "results"
    command = [
        sys.executable,
        "-m",
        "lofi_tal.cli",
        "reproduce",
        "--data",
        data,
        "--rows",
        row,
        "--seeds",
        f"{seed}-{seed}",
    ]
    command += ["--seeds", f"{seed}-{seed}", "--out", str(setting.scratch / "runs"), "--results", str(results)]
    command += ["--device", setting.device.type, "--precision", precision, "-q"]
    began, log = time.monotonic(), setting.scratch / "miniature.log"
    environment = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # deterministic products
    with log.open("w") as file:  # files, not pipes: processes that render would hold those open
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_FAREWELL)
            return {LATER: f"interrupted after {seconds:.0f} s"}
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    said = log.read_text(errors="replace")
    found = list(results.glob(f"*/{row}/seed-{seed}.json"))
    result = json.loads(found[0].read_text()) if found else {"failed": said[-1500:]}
    if "failed" in result:
        return {"error": result["failed"]}
    return {"result": result, "seconds": time.monotonic() - began, "ran": shlex.join(command[1:])}


def _toy(setting: Setting) -> Path:
    """Return a recipe of the smallest benchmark."""
    from lofi_tal.demo import make_benchmark

    folder = setting.scratch / "toy"
    make_benchmark(folder, preset="tiny", seed=0, quiet=True)
    recipe = setting.scratch / "toy.yaml"
    write_text(recipe, _TOY.replace("DATA", str(folder)))
    return recipe


def show(rows: dict[str, Row]) -> list[str]:
    """Return a line for each row and seed."""
    lines = []
    for key, row in rows.items():
        if "result" in row:
            scores = ", ".join(f"{way} {100 * one['average_mAP']:.2f}" for way, one in row["result"]["scores"].items())
            lines.append(f"{key:14} average mAP {scores} ({row['seconds']:.0f} s)")
    return lines


def is_good(rows: dict[str, Row]) -> bool:
    """Say that there is nothing to hold them against."""
    return True
