"""What `lofi run --dry-run` foresees against what runs take: three small runs, one after the other.

    python -m benchmarks.times [--out runs/times] [--only G-TAD]

Prediction and run share the machine's moment as far as that is possible: each run follows its prediction at once. The
ratio of the totals is to be within 30 % on an idle machine; processor time is printed beside, for one that is not.
Start-up and the report page are in neither.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

from lofi_tal.demo import demo_recipe
from lofi_tal.run import Run
from lofi_tal.run.forecast import forecast
from lofi_tal.synthetic import make_dataset

SETTINGS = (
    "data.selection_share=0.3", "data.workers=0", "encoder.options={width: 8}",
    "snippets={count: 12, frames: 4, stride: 2, size: 32}", "pretrain.batch=4", "lofi.batch=2", "lofi.r_s=1.5",
    "head.batch=4", "head.options={hidden_1d: 32, hidden_2d: 16, hidden_3d: 32}",
)  # fmt: skip
RUNS = {
    "G-TAD, long cycle": ("pretrain.epochs=10", "lofi.epochs=12", "head.epochs=20"),
    "ActionFormer, short cycle, 24 snippets, no baseline": (
        "pretrain.epochs=6", "lofi.epochs=8", "lofi.schedule=short", "lofi.c_s=1", "head.epochs=15", "baseline=false",
        "snippets={count: 24, frames: 4, stride: 2, size: 32}", "head.name=anchor_free", "head.options={hidden: 32}",
    ),
    "windows, BMN, ACP+": (
        "pretrain.epochs=4", "finetune={epochs: 4, batch: 4}", "lofi.epochs=4", "head.epochs=8", "head.name=bmn",
        "head.options={hidden_1d: 16, hidden_2d: 16, hidden_3d: 16}", "baseline=false",
        "snippets={count: 12, frames: 4, stride: 2, size: 32, window: 10.0}",
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/times"))
    parser.add_argument("--only", help="A run whose name begins so.", default="")
    options = parser.parse_args()
    data = make_dataset(options.out / "data", preset="tiny", seed=0, workers=1)
    rows = []
    for number, (name, settings) in enumerate(RUNS.items()):
        if not name.startswith(options.only):
            continue
        recipe = demo_recipe(data, seed=0, overrides=(*SETTINGS, *settings))
        folder = options.out / f"run{number}"
        shutil.rmtree(folder, ignore_errors=True)
        began, busy = time.perf_counter(), time.process_time()
        found = forecast(recipe, device="cpu")
        trial, trial_busy = time.perf_counter() - began, time.process_time() - busy
        began, busy = time.perf_counter(), time.process_time()
        run = Run(recipe, folder, device="cpu", quiet=True)
        with run.open("benchmark"):
            run.run()
        took, took_busy = time.perf_counter() - began, time.process_time() - busy
        foreseen = found.estimate.total
        # a machine that others share gives the trial only a part of a core: what it would have been alone
        alone = foreseen * trial_busy / trial
        row = {
            "run": name, "foreseen": foreseen, "took": took, "ratio": foreseen / took, "trial_seconds": trial,
            "foreseen_processor": alone, "took_processor": took_busy, "ratio_processor": alone / took_busy,
            "cache_foreseen": found.cache, "cache": run.cache.held_bytes(),
        }  # fmt: skip
        rows.append(row)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
