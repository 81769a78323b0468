"""The report of a run: one page with its figures, and the numbers behind them beside it as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lofi_tal.files import write_text
from lofi_tal.report.content import Report, TimelineEntry
from lofi_tal.report.judgement import judgement_parts
from lofi_tal.report.spotting import event_tables
from lofi_tal.report.tables import class_rows, class_table, headline, stage_rows, tiles
from lofi_tal.report.theme import Picture, fill_page, series_colour
from lofi_tal.report.timeline import default_threshold, make_viewer, relative_url

WAYS = {
    "fused": ("Own class scores", "what the system finds by itself"),
    "external": ("Class scores of a file", "what another system says about the whole video"),
    "agnostic": ("Class-agnostic", "segments only, all labels taken as one"),
    "oracle": ("True class", "the class is given: perfect class scores"),
}
"""The ways to evaluate an arm: keys of :attr:`Arm.scores`, heading and explanation."""

MOST_SHOWN = 25
"""Detections of an arm that a timeline shows at first, however low the threshold: hundreds of bars say nothing."""


def write_report(path: Path, report: Report) -> None:
    """Write the page, and beside it, with the suffix ``.json``, the numbers behind every figure of it.

    The page is one file without outside parts, except the videos of the timelines, which are found by their paths
    relative to it. Each of the two files is written in one atomic step.

    Args:
        path: The page, such as ``report.html``.
        report: What it shows; any part may be empty.
    """
    write_text(path.with_suffix(".json"), json.dumps(report_json(report, path), indent=1, allow_nan=False) + "\n")
    write_text(path, report_page(path, report, json_name=path.with_suffix(".json").name))


def report_page(path: Path, report: Report, *, json_name: str = "", status: str = "") -> str:
    """Return the page of a report.

    Args:
        path: Where it will lie.
        report: What it shows; any part may be empty.
        json_name: File beside it with the numbers behind the figures, if there is one.
        status: HTML of what a run is doing, if it is not finished.
    """
    fused = {arm.name: arm.scores["fused"] for arm in report.arms if "fused" in arm.scores}
    return fill_page(
        "report.html",
        title=report.title,
        report=report,
        status=status,
        json_name=json_name,
        tiles=tiles(report.arms, report.stages),
        headline=headline(report.arms, WAYS, report.judgement),
        events=event_tables(report.arms),
        **judgement_parts(report.judgement),
        stages=stage_rows(report.stages),
        classes=class_table(fused),
        viewers=viewers_of(path, report.timelines, {arm.name: series_colour(i) for i, arm in enumerate(report.arms)}),
        **_pictures(report, fused),
    )


def report_json(report: Report, page: Path) -> dict[str, Any]:
    """Return the report as plain JSON values; numbers that are not finite become null, videos relative URLs."""
    timelines = [
        {
            "video_id": entry.video_id,
            "arm": entry.arm,
            "video": relative_url(entry.video, page) if entry.video is not None else None,
            "duration": entry.detections.duration,
            "threshold": entry.threshold,
            "shown": None if entry.shown is None else entry.shown.to_json(),
            "truth": entry.truth.to_activitynet() if entry.truth is not None else None,
            "detections": entry.detections.to_activitynet(),
        }
        for entry in report.timelines
    ]
    plain: dict[str, Any] = _plain(
        {
            **vars(report),
            "arms": [vars(arm) for arm in report.arms],
            "stages": [vars(stage) for stage in report.stages],
            "timelines": timelines,
            "judgement": report.judgement.to_json(),
        }
    )
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def viewers_of(
    path: Path, timelines: Sequence[TimelineEntry], colours: Mapping[str, str]
) -> list[tuple[str, dict[str, Any]]]:
    """Return the id and a viewer for each video, with a lane for each arm.

    Args:
        path: Where the page will lie.
        timelines: Entries of the same video share a viewer.
        colours: Of the arms.
    """
    by_video: dict[str, list[TimelineEntry]] = {}
    for entry in timelines:
        by_video.setdefault(entry.video_id, []).append(entry)
    viewers = []
    for video_id, entries in by_video.items():
        detections = {entry.arm: entry.detections for entry in entries}
        limits = [entry.threshold for entry in entries if entry.threshold is not None]
        shown = {entry.arm: entry.shown for entry in entries if entry.shown is not None}
        readable = default_threshold(detections, MOST_SHOWN)
        viewer = make_viewer(
            path,
            video=next((entry.video for entry in entries if entry.video is not None), None),
            truth=next((entry.truth for entry in entries if entry.truth is not None), None),
            detections=detections,
            threshold=max(min(limits), readable) if limits else None,
            shown=shown if len(shown) == len(entries) else None,
            colours=colours,
        )
        viewers.append((video_id, viewer))
    return viewers


def _pictures(report: Report, fused: dict[str, dict[str, Any]]) -> dict[str, list[Picture]]:
    """Draw every figure that there are numbers for."""
    if not (report.stages or fused or any(report.lengths.values())):
        return {"curves": [], "costs": [], "lengths": [], "against_tiou": [], "per_class": []}
    # matplotlib takes half a second to load, and a timeline does without
    from lofi_tal.report import dataset_plots, evaluation_plots, training_plots
    from lofi_tal.report.plot_style import to_svg

    curves, costs, lengths, against_tiou, per_class = [], [], [], [], []
    for i, stage in enumerate(report.stages):
        if any("loss" in record for record in stage.metrics):
            svg = to_svg(training_plots.training_curves(stage.metrics), f"curves{i}")
            curves.append(Picture(stage.name, "", svg))
        if training_plots.search_records(stage.metrics):
            svg = to_svg(training_plots.learning_rate_search(stage.metrics), f"search{i}")
            curves.append(
                Picture(f"{stage.name}: learning-rate search", "on selection videos, none of them evaluated", svg)
            )
    if report.stages:
        figure = training_plots.stage_costs(
            [stage.name for stage in report.stages],
            [stage.seconds for stage in report.stages],
            [stage.peak_memory_bytes for stage in report.stages],
        )
        costs.append(Picture("Time and peak memory", "", to_svg(figure, "costs")))
    if any(report.lengths.values()):
        svg = to_svg(dataset_plots.length_histogram(report.lengths), "lengths")
        lengths.append(Picture("Lengths of segments", "share of each group; the count in brackets", svg))
    highest = max(
        (value for arm in report.arms for score in arm.scores.values() for value in score["mAP"]), default=0.0
    )
    for way, (heading, detail) in WAYS.items():
        lines = {
            arm.name: (arm.scores[way]["tiou_thresholds"], arm.scores[way]["mAP"])
            for arm in report.arms
            if way in arm.scores
        }
        if lines:
            against_tiou.append(
                Picture(heading, detail, to_svg(evaluation_plots.map_against_tiou(lines, highest), f"tiou-{way}"))
            )
    labels, detail = class_rows(fused)
    if labels:
        averages = {name: {k: v["average"] for k, v in score["per_class"].items()} for name, score in fused.items()}
        svg = to_svg(evaluation_plots.class_ap_bars(averages, labels), "classes")
        per_class.append(Picture("Average AP of each class", detail, svg))
    return {"curves": curves, "costs": costs, "lengths": lengths, "against_tiou": against_tiou, "per_class": per_class}
