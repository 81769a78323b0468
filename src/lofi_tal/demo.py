"""The demonstration: the embedded benchmark, the whole run on it, and a report, in minutes on a CPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lofi_tal.config import Recipe, make_recipe
from lofi_tal.detection import detect_files
from lofi_tal.progress import Progress, duration_text
from lofi_tal.recipes import apply_overrides, shipped_recipe
from lofi_tal.run import ArmResult, Run, live_report, write_run_report
from lofi_tal.run.report import stage_summaries
from lofi_tal.runtime import InterruptedRunError
from lofi_tal.synthetic import SyntheticDataset, make_dataset
from lofi_tal.synthetic.dataset import dataset_paths


@dataclass(frozen=True, eq=False)
class DemoResult:
    """What the demonstration leaves: the run, its arms, a table of stages, and the pages to look at."""

    run: Run
    arms: list[ArmResult]
    stages: list[tuple[str, str, str]]
    video: Path
    timeline: Path
    report: Path


def make_benchmark(
    folder: Path, *, preset: str, seed: int, workers: int | None = None, quiet: bool = False
) -> SyntheticDataset:
    """Make the embedded benchmark with a progress bar, by all cores unless ``workers`` says otherwise."""
    workers = workers or os.cpu_count() or 1
    bars: list[Progress] = []

    def show(done: int, total: int) -> None:
        if not bars:
            bars.append(Progress(f"benchmark {preset!r}", total, quiet=quiet).__enter__())
        bars[0].advance(units=done - bars[0].done)

    try:
        return make_dataset(folder, preset=preset, seed=seed, workers=workers, progress=show)
    finally:
        for bar in bars:
            bar.__exit__(None, None, None)


def demo_recipe(dataset: SyntheticDataset, *, seed: int, overrides: Sequence[str] = (), name: str = "demo") -> Recipe:
    """Return a shipped recipe for a benchmark folder.

    Args:
        dataset: The benchmark.
        seed: Of everything random.
        overrides: ``section.key=value``.
        name: Of the shipped recipe: ``demo``, or one that begins with ``mini_``.
    """
    content = shipped_recipe(name)
    content["seed"] = seed
    content["data"] = {
        **content["data"],
        "annotations": str(dataset.annotations),
        "videos": str(dataset.videos),
        "clips": str(dataset.clips_csv),
        "clips_root": str(dataset.clips),
    }
    return make_recipe(apply_overrides(content, overrides), name)


def run_demo(
    output: Path,
    *,
    recipe: str = "demo",
    data: Path | None = None,
    preset: str = "small",
    seed: int = 0,
    overrides: Sequence[str] = (),
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
    command: str = "lofi demo",
) -> DemoResult:
    """Make the benchmark, run the recipe on it, detect on one validation video, and write the report."""
    folder = data or output / "data"
    wanted = demo_recipe(dataset_paths(folder), seed=seed, overrides=overrides, name=recipe)
    make_benchmark(folder, preset=preset, seed=seed, quiet=quiet)  # a minute; what is misspelt is refused before it
    run = Run(
        wanted,
        output,
        device=device,
        resume=(output / "recipe.yaml").exists(),
        overwrite=overwrite,
        quiet=quiet,
    )
    with run.open(command):
        try:
            with live_report(run, command, replaced=True):
                arms = run.run()
        except InterruptedRunError as error:
            raise InterruptedRunError("Stopped as asked; the same command goes on from there.") from error
        video = run.data().evaluation[0].file.path
        detect_files([video], arms[-1].model, out=output / "detections", device=device, quiet=True)
        report = write_run_report(run, arms, command=command)
    stages = [
        (stage.name, duration_text(stage.seconds), f"{stage.peak_memory_bytes / 2**30:.2f} GiB")
        for stage in stage_summaries(run)
    ]
    return DemoResult(run, arms, stages, video, output / "detections" / f"{video.stem}.html", report)
