"""Heads on the same features: each is trained by `lofi head` with several seeds, and the table of mAP is printed.

    python benchmarks/heads.py OUT --features RUN/arms/lofi/features --annotations FILE --count L [--seeds 0 1 2]

Goes on where it was stopped. All heads are about as wide, are trained equally long, and choose between two learning
rates on the same selection videos (a fifth of the training videos), which a stage before must not have seen: give the
seed and the share of the run that made the features, so that they are the same here.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from lofi_tal.files import read_json, write_json, write_text

KINDS = {"fused": "own class scores", "agnostic": "class-agnostic", "oracle": "true class"}
_MAP = {"options": {"hidden_1d": 64, "hidden_2d": 32, "hidden_3d": 64}, "lrs": [1e-3, 3e-3]}
_POINTS = {"optimizer": "adamw", "weight_decay": 0.05, "clip_norm": 1.0, "lrs": [3e-4, 1e-3]}
HEADS: dict[str, dict[str, Any]] = {
    "gtad": {"epochs": 25, **_MAP},
    "bmn": {"epochs": 25, **_MAP},
    "anchor_free": {"epochs": 20, "warmup": 5, "options": {"hidden": 128}, **_POINTS},
    "actionformer": {"epochs": 20, "warmup": 5, "options": {"width": 128}, **_POINTS},
    "actionformer, trident": {
        "name": "actionformer",
        "epochs": 20,
        "warmup": 5,
        "options": {"width": 128, "bins": 8, "iou_power": 0.2},
        **_POINTS,
    },
}
"""What is compared: settings of the section `head`, 25 passes over the features each."""


def main() -> None:
    """Train what is not there yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True, help="L, snippets a video")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--heads", nargs="+", default=list(HEADS), choices=list(HEADS))
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    print("| head | own class scores | class-agnostic | true class | processor time |")
    print("|---|---|---|---|---|")
    for name in options.heads:
        rows = [trained(options, name, seed) for seed in options.seeds]
        cells = [spread([row[kind] for row in rows]) for kind in KINDS]
        print(f"| `{name}` | {' | '.join(cells)} | {mean(row['seconds'] for row in rows):.0f} s |", flush=True)


def spread(values: list[float]) -> str:
    """Return mean and range."""
    return f"{mean(values):.2f} ({min(values):.1f} to {max(values):.1f})"


def trained(options: argparse.Namespace, name: str, seed: int) -> dict[str, float]:
    """Return mAP in points and processor time of one head, trained now or before."""
    folder = options.out / f"{name.replace(', ', '-')}-{seed}"
    result = folder.with_suffix(".json")
    if result.exists():
        found: dict[str, float] = read_json(result)
        return found
    recipe = {
        "name": folder.name,
        "seed": seed,
        "data": {"annotations": str(options.annotations.absolute()), "selection_share": 0.2},
        "features": {"sources": [str(options.features.absolute())]},
        "snippets": {"count": options.count},
        "head": {"name": name, "batch": options.batch, **HEADS[name]},
    }
    write_text(folder.with_suffix(".yaml"), yaml.safe_dump(recipe, sort_keys=False))
    command = [sys.executable, "-m", "lofi_tal.cli", "head", folder.with_suffix(".yaml"), "-o", folder]
    command += ["--overwrite", "--json", "-q", "--device", "cpu"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, check=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    scores = next(iter(json.loads(done.stdout).values()))["scores"]
    found = {kind: 100 * scores[kind]["average_mAP"] for kind in KINDS}
    found["seconds"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    write_json(result, found)
    print(name, seed, found, file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
