"""The demonstration: the embedded benchmark, stage 2 and 3 on it, and a page that shows what LoFi changes.

Stage 1 comes with the package, unless it is to be trained too: it teaches a newcomer nothing that stage 2 does not.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lofi_tal.config import Recipe, make_recipe
from lofi_tal.evaluation import bootstrap_detections
from lofi_tal.evaluation.matching import pairwise_tiou
from lofi_tal.progress import Progress, duration_text
from lofi_tal.recipes import apply_overrides, shipped_recipe
from lofi_tal.report.before_after import write_before_after
from lofi_tal.report.timeline import default_threshold
from lofi_tal.run import ArmResult, Run, live_report, write_run_report
from lofi_tal.run.report import stage_summaries
from lofi_tal.runtime import InterruptedRunError
from lofi_tal.segments import Segments, detections_to_activitynet
from lofi_tal.shipped import DEMO_ENCODER
from lofi_tal.synthetic import SyntheticDataset, make_dataset
from lofi_tal.synthetic.dataset import dataset_paths

QUICK = "demo_quick"
"""The recipe that begins with the shipped encoder, and its benchmark's preset is ``demo``."""
NAMES = {"baseline": "stage 1 only", "lofi": "with LoFi"}
"""What the arms are called on the page."""


@dataclass(frozen=True, eq=False)
class DemoResult:
    """What the demonstration leaves: the run, its arms, a table of stages, and the pages to look at."""

    run: Run
    arms: list[ArmResult]
    stages: list[tuple[str, str, str]]
    page: Path
    report: Path


def make_benchmark(
    folder: Path,
    *,
    preset: str,
    seed: int,
    clips: bool = True,
    overlap: bool = False,
    workers: int | None = None,
    quiet: bool = False,
) -> SyntheticDataset:
    """Make the embedded benchmark with a progress bar, by all cores unless ``workers`` says otherwise."""
    workers = workers or os.cpu_count() or 1
    bars: list[Progress] = []

    def show(done: int, total: int) -> None:
        if not bars:
            bars.append(Progress(f"benchmark {preset!r}", total, quiet=quiet).__enter__())
        bars[0].advance(units=done - bars[0].done)

    try:
        return make_dataset(
            folder, preset=preset, seed=seed, clips=clips, overlap=overlap, workers=workers, progress=show
        )
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
    recipe: str = QUICK,
    data: Path | None = None,
    preset: str = "demo",
    seed: int = 0,
    overrides: Sequence[str] = (),
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
    command: str = "lofi demo",
) -> DemoResult:
    """Make the benchmark, run the recipe on it, and write the pages.

    Args:
        output: Run folder.
        recipe: Shipped recipe: ``demo_quick``, which begins with the shipped encoder and makes no clips, or ``demo`` or
            one that begins with ``mini_``, which train stage 1.
        data: Folder of the benchmark; in the run folder without it.
        preset: Of the benchmark.
        seed: Of data and training.
        overrides: ``section.key=value``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        overwrite: Replace outdated stages.
        quiet: No progress.
        command: How it was started.
    """
    folder = data or output / "data"
    start = [f"encoder.weights={DEMO_ENCODER / 'encoder.safetensors'}"] if recipe == QUICK else []
    wanted = demo_recipe(dataset_paths(folder), seed=seed, overrides=(*start, *overrides), name=recipe)
    needs_clips = wanted.pretrain is not None  # what is misspelt has been refused by now
    make_benchmark(folder, preset=preset, seed=seed, clips=needs_clips, quiet=quiet)
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
            with live_report(run, command, replaced=True, again="The same command"):
                arms = run.run()
        except InterruptedRunError as error:
            raise InterruptedRunError("Stopped as asked; the same command goes on from there.") from error
        report = write_run_report(run, arms, command=command)
        page = write_demo_page(run, arms, report) if len(arms) > 1 else report
    return DemoResult(run, arms, _stages(run), page, report)


def _stages(run: Run) -> list[tuple[str, str, str]]:
    return [
        (stage.name, duration_text(stage.seconds), f"{stage.peak_memory_bytes / 2**30:.2f} GiB")
        for stage in stage_summaries(run)
    ]


def write_demo_page(run: Run, arms: Sequence[ArmResult], report: Path) -> Path:
    """Write ``demo.html``: a typical video with the detections of the first and the last arm, and the mAP of both."""
    data, shown = run.data(), [arms[0], arms[-1]]
    found = [run.detections(arm.arm) for arm in shown]
    truths = {video.video_id: video.to_segments(data.labels) for video in data.evaluation}
    chosen = typical_video(truths, *found)
    detections = {NAMES.get(arm.arm, arm.arm): one[chosen] for arm, one in zip(shown, found, strict=True)}
    documents = [detections_to_activitynet(list(one.values())) for one in found]
    score = partial(bootstrap_detections, run.recipe.data.annotations)
    path = run.output / "demo.html"
    write_before_after(
        path,
        title="What LoFi changes",
        lead="Both systems start from the same encoder, and have the same head, data and settings. One keeps the "
        "encoder frozen; the other first trains it end to end with a head, at low fidelity.",
        video=next(video.file.path for video in data.evaluation if video.video_id == chosen),
        truth=truths[chosen],
        detections=detections,
        intervals=dict(zip(detections, map(score, documents), strict=True)),
        difference=score(documents[1], baseline=documents[0]),
        threshold=default_threshold(detections, most=2 * len(truths[chosen])),
        notes=[
            "The numbers are average mAP at tIoU 0.5:0.05:0.95, with the classes that each system finds by itself. "
            "The video is the one of median improvement among those with several actions. All videos are synthetic: "
            "their figures say nothing about yours."
        ],
        report=report,
    )
    return path


def typical_video(truths: Mapping[str, Segments], before: Mapping[str, Segments], after: Mapping[str, Segments]) -> str:
    """Return, of the videos with several actions, the one on which the overlap with the truth rises by the median."""
    several = [name for name, truth in truths.items() if len(truth) > 1] or list(truths)
    rise = {name: overlap(after[name], truths[name]) - overlap(before[name], truths[name]) for name in several}
    return sorted(several, key=rise.__getitem__)[len(several) // 2]


def overlap(found: Segments, truth: Segments) -> float:
    """Return how well the true segments of a video are met by as many times two detections, at most 1.

    The mean over the true segments of the largest tIoU with a detection of the same label.
    """
    best = found.sorted()[: 2 * len(truth)]
    if not len(best) or not len(truth):
        return 0.0
    spans, found_spans = (np.stack([one.start, one.end], axis=1) for one in (truth, best))
    scores = []
    for span, label in zip(spans, truth.label, strict=True):
        same = np.array([label == other for other in best.label])
        scores.append((pairwise_tiou(np.broadcast_to(span, found_spans.shape), found_spans) * same).max())
    return float(np.mean(scores))
