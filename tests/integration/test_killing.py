"""Runs that are killed at a few points, which stay the same; ``python -m tests.killing`` does so at any number."""

import os
import subprocess
import sys

POINTS = 3


def test_what_is_killed_in_any_phase_goes_on_to_the_same_bytes(benchmark_set, tmp_path):
    """What examines, what caches, then the main process while it trains."""
    (tmp_path / "data").symlink_to(benchmark_set.root)
    command = [sys.executable, "-m", "tests.killing", str(tmp_path), "--seed", "875", "--count", str(POINTS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{POINTS} of {POINTS} the same" in done.stdout
