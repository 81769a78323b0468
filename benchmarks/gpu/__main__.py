"""What a GPU has to show, in a few minutes: tests, memory, speed, and the experiments in miniature.

    python -m benchmarks.gpu [--minutes 8] [--only SECTION ...] [--out results/gpu]
    python -m benchmarks.gpu --device cpu --smoke       # everything at toy size, in two minutes, on any machine

Sections run in the order of their worth, each within its share of the time, and write a row as soon as it is there; the
same command goes on where the last one stopped. Without a GPU it says so, and ends with exit status 0.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import traceback
from pathlib import Path
from types import ModuleType

import torch

from benchmarks.gpu import correctness, head, memory, miniature, stage2, throughput
from benchmarks.gpu.setting import LATER, Results, Row, Setting, Work
from lofi_tal.runtime import free_unused

SECTIONS: dict[str, tuple[ModuleType, float]] = {  # what, and its share of the time
    "tests": (correctness, 0.30),
    "memory": (memory, 0.20),
    "stage2": (stage2, 0.12),
    "head": (head, 0.03),
    "throughput": (throughput, 0.15),
    "miniature": (miniature, 0.20),
}


def main() -> int:
    """Run the sections and return the exit status: 1 if a limit does not hold, a test or a row fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything together")
    parser.add_argument("--only", nargs="+", choices=tuple(SECTIONS), default=tuple(SECTIONS))
    parser.add_argument("--out", type=Path, help="results/gpu; a folder that is thrown away with --smoke")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--smoke", action="store_true", help="toy sizes: the code is run, nothing is measured")
    options = parser.parse_args()
    if options.device == "cpu" and not options.smoke:
        parser.error("--device cpu goes with --smoke: a CPU has benchmarks of its own (benchmarks/*.py)")
    if options.device == "cuda" and not torch.cuda.is_available():
        print("torch sees no CUDA device: nothing is measured. (--device cpu --smoke runs everything at toy size.)")
        return 0
    with tempfile.TemporaryDirectory() as thrown_away:
        out = options.out or (Path(thrown_away) if options.smoke else Path("results/gpu"))
        scratch = out / "scratch"  # ignored by git; what it holds makes the next call faster
        scratch.mkdir(parents=True, exist_ok=True)
        return run(Setting(torch.device(options.device), options.smoke, out, scratch), options.only, options.minutes)


def run(setting: Setting, names: list[str], minutes: float) -> int:
    """Run sections within their time; return the exit status. Time that one leaves is the next one's."""
    began, status, spare = time.monotonic(), 0, 0.0
    whole = sum(SECTIONS[name][1] for name in names)
    for name, (section, share) in SECTIONS.items():
        if name not in names:
            continue
        results, started = Results(setting.out / f"{name}.json", section.TITLE), time.monotonic()
        box = 60 * minutes * share / whole + spare
        print(f"\n{section.TITLE}", flush=True)
        left = 0
        for key, work in section.jobs(setting):
            if results.has(key):
                continue
            if time.monotonic() - started >= box:
                left += 1
                continue
            results.add(key, attempt(work, box - (time.monotonic() - started)))
            torch.compiler.reset()  # compiled code and CUDA graphs of a row must not weigh on the next
            free_unused()
        spare = box - (time.monotonic() - started)  # negative, if the last row took longer than there was time for
        good = {key: row for key, row in results.rows.items() if not row.keys() & {"error", LATER}}
        for line in section.show(good) if good else []:
            print(f"  {line}")
        for key, row in results.rows.items():
            if told := row.get("error", row.get(LATER)):
                print(f"  {key}: {'FAILED: ' if 'error' in row else ''}{told.splitlines()[-1]}")
        if left:
            print(f"  {left} rows are left for the next call")
        held = setting.smoke or section.is_good(good)
        print(
            f"  {time.monotonic() - began:.0f} s after the start{'' if held else '; A LIMIT DOES NOT HOLD'}", flush=True
        )
        failed = any("error" in row or row.get("failed") for row in results.rows.values())
        status = max(status, int(failed or not held))
    return status


def attempt(work: Work, seconds: float) -> Row:
    """Return a row, or the error that it ended with: one row must not cost the others."""
    try:
        return work(seconds)
    except Exception as error:
        if "CUDA error" in str(error):  # after which nothing works in this process
            print(f"{traceback.format_exc()}\nThe same command goes on in a new process.", flush=True)
            raise SystemExit(1) from error
        return {"error": traceback.format_exc()}


if __name__ == "__main__":
    raise SystemExit(main())
