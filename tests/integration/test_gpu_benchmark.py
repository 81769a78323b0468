"""The GPU benchmark runs as a whole at toy size: nothing in it is run for the first time when a GPU is there."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from benchmarks.gpu.__main__ import SECTIONS, attempt
from benchmarks.gpu.setting import Results

COMMAND = [sys.executable, "-m", "benchmarks.gpu"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def smoke(out, *arguments):
    command = [*COMMAND, "--device", "cpu", "--smoke", "--out", str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=550, env=ENVIRONMENT)


def rows_of(out):
    return {
        (name, key): row
        for name in SECTIONS
        if (out / f"{name}.json").exists()
        for key, row in json.loads((out / f"{name}.json").read_text())["rows"].items()
    }


def test_a_killed_smoke_run_goes_on_through_all_sections_and_repeats_nothing(tmp_path):
    command = [*COMMAND, "--device", "cpu", "--smoke", "--out", str(tmp_path), "--only", "memory"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    while ("memory", "tsm_resnet18_narrow bf16 plain full") not in rows_of(tmp_path):
        assert process.poll() is None
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = rows_of(tmp_path)
    done = smoke(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = rows_of(tmp_path)
    assert {name for name, _ in rows} == set(SECTIONS)
    assert not {key: row["error"] for key, row in rows.items() if "error" in row}
    assert before.items() <= rows.items()
    assert rows["tests", "tests"]["failed"] == {}
    assert rows["tests", "tests"]["passed"] >= 25
    assert all(str(name) in done.stdout for name in ("frames/s", "chunked", "times as fast", "average mAP"))
    again = smoke(tmp_path)
    assert again.returncode == 0
    assert rows_of(tmp_path) == rows


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_is_content(tmp_path):
    done = subprocess.run([*COMMAND, "--out", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "no CUDA device" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_fails_costs_no_other_and_is_tried_again(tmp_path):
    results = Results(tmp_path / "x.json", "x")
    results.add("a", attempt(lambda seconds: {"value": 1 / seconds}, 0.0))
    results.add("b", attempt(lambda seconds: {"value": 1 / seconds}, 2.0))
    again = Results(tmp_path / "x.json", "x")
    assert not again.has("a")
    assert "ZeroDivisionError" in again.rows["a"]["error"]
    assert again.has("b")
