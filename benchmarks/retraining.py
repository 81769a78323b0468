"""Retraining after labels were corrected: `lofi run --from` against a new run from scratch, on the embedded benchmark.

    python benchmarks/retraining.py FOLDER                 # preset demo, three seeds; goes on where it was stopped
    python benchmarks/retraining.py FOLDER --seeds 0       # one seed

A quarter of the training segments gets wrong: a third of these is missing, a third has another class, and a third is
shifted by half its length. The first run learns from these labels, all others from the right ones. Validation labels
are always right. Stage 1 is the shipped encoder, which costs nothing: without it, runs from scratch take longer.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import resource
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from lofi_tal.demo import demo_recipe, make_benchmark
from lofi_tal.files import read_json, write_json, write_text
from lofi_tal.recipes.writing import save_recipe
from lofi_tal.shipped import DEMO_ENCODER

EPOCHS, FEW = 12, 4  # of stage 2
KINDS = ("fused", "agnostic", "oracle")
ROWS = {
    "wrong labels": ("wrong", EPOCHS, False),
    "right labels, from scratch": ("right", EPOCHS, False),
    "right labels, from scratch, a third of the epochs": ("right", FEW, False),
    "right labels, --from, a third of the epochs": ("right", FEW, True),
}
"""Labels, epochs of stage 2, and whether the run starts from the first one."""


def main() -> None:
    """Run everything that is not there yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="SECTION.KEY=VALUE")
    options = parser.parse_args()
    data = make_benchmark(options.folder / "data", preset=options.preset, seed=0, clips=False, quiet=True)
    labels = {"right": read_json(data.annotations)}
    labels["wrong"] = spoilt(labels["right"], random.Random(0))
    for name, document in labels.items():
        write_json(options.folder / f"{name}.json", document)
        overrides = (f"encoder.weights={DEMO_ENCODER / 'encoder.safetensors'}", "baseline=false", *options.settings)
        recipe = demo_recipe(data, seed=0, overrides=overrides, name="demo_quick")
        section = recipe.data.model_copy(update={"annotations": options.folder / f"{name}.json"})
        write_text(options.folder / f"{name}.yaml", save_recipe(recipe.model_copy(update={"data": section})))
    for seed in options.seeds:
        for row in ROWS:
            measured(options.folder.absolute(), row, seed)
    show(options.folder, options.seeds)


def spoilt(document: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """Return annotations of which a quarter of the training segments is wrong."""
    document = copy.deepcopy(document)
    videos = [video for video in document["database"].values() if video["subset"] == "training"]
    places = [(video, one) for video in videos for one in video["annotations"]]
    names = sorted({one["label"] for _, one in places})
    for number, (video, one) in enumerate(draw.sample(places, len(places) // 4)):
        start, end = one["segment"]
        if number % 3 == 0:
            video["annotations"].remove(one)
        elif number % 3 == 1:
            one["label"] = draw.choice([name for name in names if name != one["label"]])
        else:
            shift = min((end - start) / 2, max(0.0, video["duration"] - end)) or -min((end - start) / 2, start)
            one["segment"] = [start + shift, end + shift]
    return document


def measured(folder: Path, row: str, seed: int) -> dict[str, Any]:
    """Return mAP and processor time of one run, made now or before."""
    labels, epochs, starts = ROWS[row]
    name = f"{labels}-{epochs}{'-from' if starts else ''}-{seed}"
    result = folder / f"{name}.json"
    if result.exists():
        found: dict[str, Any] = read_json(result)
        return found
    start = ("--from", folder / f"wrong-{EPOCHS}-{seed}") if starts else ()
    settings = (f"seed={seed}", f"lofi.epochs={epochs}", f"data.cache={folder / 'cache'}")
    command = [sys.executable, "-m", "lofi_tal.cli", "run", folder / f"{labels}.yaml", "-o", folder / name, *start]
    command += [
        "--overwrite",
        "--json",
        "-q",
        "--device",
        "cpu",
        *(part for one in settings for part in ("--set", one)),
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, check=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    scores = json.loads(done.stdout)["lofi"]["scores"]
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {"seconds": took, **{kind: 100 * scores[kind]["average_mAP"] for kind in KINDS}}
    write_json(result, found)
    print(name, found, file=sys.stderr, flush=True)
    return found


def show(folder: Path, seeds: list[int]) -> None:
    """Print a Markdown table: mean and range over seeds."""
    print("| | own class scores | class-agnostic | true class | processor time |")
    print("|---|---|---|---|---|")
    for row in ROWS:
        runs = [measured(folder.absolute(), row, seed) for seed in seeds]
        cells = [
            f"{mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"
            for values in ([run[kind] for run in runs] for kind in KINDS)
        ]
        print(f"| {row} | {' | '.join(cells)} | {mean(run['seconds'] for run in runs):.0f} s |")


if __name__ == "__main__":
    main()
