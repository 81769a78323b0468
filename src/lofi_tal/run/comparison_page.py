"""The page of a comparison of runs: its tables, and the videos with the largest changes on a timeline."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from lofi_tal.errors import LofiError
from lofi_tal.evaluation import GroundTruth
from lofi_tal.report import ComparisonPage, TimelineEntry, write_comparison
from lofi_tal.run.comparing import RunComparison
from lofi_tal.run.saved import Saved
from lofi_tal.segments import Segments
from lofi_tal.showing import Shown
from lofi_tal.video import VideoIndex, find_videos

MOST_TIMELINES = 12


def write_comparison_page(path: Path, found: RunComparison, *, command: str = "", most: int = MOST_TIMELINES) -> None:
    """Write the page of a comparison.

    Args:
        path: The page; one file, to which the videos are found by relative paths.
        found: The comparison.
        command: How it was asked for.
        most: Videos on a timeline, those with the largest change first.
    """
    first, *others = found.names
    page = ComparisonPage(
        title=f"{', '.join(others)} against {first}",
        comparison=found.comparison,
        timelines=list(_timelines(found, most)),
        settings=found.settings,
        settings_known=found.settings_known,
        environment=found.environment,
        events=found.events,
        stages={
            name: [None if cost is None else (cost.seconds, cost.peak_memory_bytes) for cost in costs]
            for name, costs in found.stages.items()
        },
        facts={
            **({"command": command} if command else {}),
            **{one.name: f"{one.path}, arm {one.arm}" if one.arm else str(one.path) for one in found.sources},
            "annotations": str(found.annotations),
        },
        notes=found.notes,
        left_out=found.left_out | {f"class {label}": reason for label, reason in found.classes_left_out.items()},
    )
    write_comparison(path, page)


def _timelines(found: RunComparison, most: int) -> Iterator[TimelineEntry]:
    """Yield what each system found in the videos with the largest changes."""
    changed = [one for part in found.comparison.differences for one in part.videos if one.size]
    names = list(dict.fromkeys(one.video_id for one in sorted(changed, key=lambda one: -one.size)))[:most]
    indices = [index for one in found.sources if (index := _index(one)) is not None] if names else []
    for name in names:
        video = next((index[name] for index in indices if name in index), None)
        truth = _truth_of(found.comparison.truth, name)
        for one, measured in zip(found.sources, found.comparison.systems, strict=True):
            segments, thresholds = one.detections.get(name, Segments.empty(name)), measured.point.thresholds
            limits = Shown(thresholds.pooled, thresholds.classes) if one.sheet is None else one.sheet.shown()
            yield TimelineEntry(
                video_id=name,
                video=video,
                truth=truth,
                detections=segments if one.sheet is None else one.sheet.calibrated(segments),
                arm=one.name,
                shown=replace(limits, one_label=not one.several),
            )


def _index(one: Saved) -> VideoIndex | None:
    """Return the videos of a run, if they still are where its recipe says."""
    folder = one.setting("videos", "")
    with contextlib.suppress(LofiError):
        return find_videos(folder) if folder else None
    return None


def _truth_of(truth: GroundTruth, name: str) -> Segments:
    number = truth.videos.index(name)
    rows = np.flatnonzero(truth.video == number)
    duration = float(truth.duration[number])
    return Segments(
        name,
        truth.segment[rows, 0],
        truth.segment[rows, 1],
        tuple(truth.labels[label] for label in truth.label[rows]),
        np.ones(len(rows)),
        duration if np.isfinite(duration) else None,
    )
