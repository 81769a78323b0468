"""What a refactor must leave as it is: fingerprints of recipes and stages, loss curves, detections.

    python -m tests.golden.runs FOLDER            # run everything into FOLDER: to compare two versions byte by byte
    python -m tests.golden.runs FOLDER --write    # and take what came out as what the tests expect

The curves are those of the tiny benchmark in fp32 on one thread of a CPU.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import torch

from lofi_tal.cli.app import app
from lofi_tal.demo import demo_recipe
from lofi_tal.files import hash_object, read_json, write_json
from lofi_tal.recipes import load_recipe, recipe_names
from lofi_tal.recipes.writing import save_recipe
from lofi_tal.synthetic import make_dataset

EXPECTED = Path(__file__).with_name("expected.json")
STEPS = 20
BASE = (
    "data.selection_share=0.3",
    "data.workers=0",
    "encoder.options={width: 8}",
    "snippets={count: 12, frames: 4, stride: 2, size: 32}",
    "pretrain.epochs=5",
    "pretrain.batch=4",
    "lofi.epochs=7",
    "lofi.batch=2",
    "lofi.r_s=1.5",
    "lofi.optimizer=sgd",
    "lofi.lr=0.01",
    "head.epochs=8",
    "head.batch=2",
    "head.lrs=[1e-3, 2e-3]",
    "head.options={hidden_1d: 32, hidden_2d: 16, hidden_3d: 32}",
    "classifier.epochs=4",
    "baseline=false",
)
NO_STAGE_1 = ("pretrain=null",)
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "whole": ("run", ("finetune={epochs: 4, batch: 2, background: true}", "lofi.reestimate=2", "lofi.class_loss=0.5")),
    "windows": ("run", (*NO_STAGE_1, "snippets.window=2.0", "snippets.overlap=0.8", "lofi.schedule=short",
                        "lofi.c_s=2")),
    "arrow": ("pretrain", ("pretrain.task=arrow",)),
    "speed": ("pretrain", ("pretrain.task=speed",)),
    "checkpoint": ("train", (*NO_STAGE_1, "lofi.strategy=checkpoint")),
    "chunked": ("train", (*NO_STAGE_1, "lofi.strategy=chunked", "lofi.chunk=5", "lofi.accumulate=2")),
    "sampled": ("train", (*NO_STAGE_1, "lofi.gradient_share=0.5", "lofi.optimizer=adamw", "lofi.lr=1e-3")),
    "bmn": ("train", (*NO_STAGE_1, "head={name: bmn, options: {hidden_1d: 32, hidden_proposal: 16, hidden_2d: 16, "
                                   "hidden_3d: 32}}")),
    "anchor_free": ("run", (*NO_STAGE_1, "head={name: anchor_free, epochs: 8, batch: 2, lrs: [1e-3], "
                                         "options: {hidden: 32}}")),
}  # fmt: skip
"""Command and settings of each run, on top of :data:`BASE`."""


def recipe_fingerprints() -> dict[str, str]:
    """Return a hash of every shipped recipe, and of what each section of it is."""
    found = {}
    for name in recipe_names():
        content = load_recipe(Path(name), needs_data=False).model_dump(mode="json")
        found[name] = hash_object(content)
        found |= {f"{name}.{section}": hash_object(value) for section, value in content.items()}
    return found


def row_fingerprints() -> dict[str, str]:
    """Return the settings hash of every row of `lofi reproduce` on the base recipes that the project ships."""
    from lofi_tal.reproduce.results import settings_hash
    from lofi_tal.reproduce.runner import open_base
    from lofi_tal.reproduce.tables import ROWS

    bases = {name: open_base(name, Path("data")) for name in ("bench", "bench_broad", "bench_gpu")}
    return {
        f"{base} {row.id} {precision}": settings_hash(bases[base].recipe(row, 0), row, precision)
        for base in bases
        for row in ROWS.values()
        for precision in ("fp32", "bf16")
    }


def execute(folder: Path, names: tuple[str, ...] = tuple(RUNS)) -> dict[str, Any]:
    """Run everything in ``folder`` and return what is compared."""
    dataset = make_dataset(folder / "data", preset="tiny", seed=0, workers=1)
    recipe = folder / "recipe.yaml"
    recipe.write_text(save_recipe(demo_recipe(dataset, seed=0, overrides=BASE)))
    return {name: _run(recipe, folder / name, *RUNS[name]) for name in names}


def _run(recipe: Path, output: Path, command: str, settings: tuple[str, ...]) -> dict[str, Any]:
    arguments = [command, str(recipe), "-o", str(output), "-q", "--device", "cpu", "--precision", "fp32"]
    torch.set_num_threads(1)
    status = app([*arguments, *(f"--set={one}" for one in settings)], standalone_mode=False)
    assert not status, f"lofi {command}: exit status {status}"
    stages = {str(path.parent.relative_to(output)): path.parent for path in sorted(output.rglob("stage.json"))}
    found = output.rglob("detections.json")
    return {
        "inputs": {name: _masked(read_json(path / "stage.json")["inputs"]) for name, path in stages.items()},
        "losses": {name: _losses(path) for name, path in stages.items() if (path / "metrics.jsonl").exists()},
        "detections": {str(path.parent.relative_to(output)): _best(path) for path in sorted(found)},
    }


def _losses(stage: Path) -> list[float]:
    lines = (stage / "metrics.jsonl").read_text().splitlines()[:STEPS]
    return [round(json.loads(line)["loss"], 6) for line in lines]


def _best(path: Path) -> dict[str, Any]:
    return {video: detections[:5] for video, detections in read_json(path)["results"].items()}


def _masked(value: Any) -> Any:
    """Hide what depends on the bytes of videos and weights, which differ between versions of FFmpeg."""
    if isinstance(value, dict):
        return {key: _masked(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_masked(one) for one in value]
    return "HASH" if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{12,}", value) else value


def main() -> None:
    """Run everything, and write what the tests expect if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    found = {"recipes": recipe_fingerprints(), "rows": row_fingerprints(), "runs": execute(options.folder)}
    write_json(EXPECTED if options.write else options.folder / "found.json", found)


if __name__ == "__main__":
    main()
