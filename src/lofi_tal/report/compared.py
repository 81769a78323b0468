"""The page of a comparison: what each system is worth, how they differ, and the videos behind the difference."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lofi_tal.evaluation import MISTAKES, Interval
from lofi_tal.evaluation.changes import Change
from lofi_tal.evaluation.comparison import RATES, Comparison, Measured
from lofi_tal.evaluation.spotting_draws import EventComparison
from lofi_tal.report.content import Arm, Judgement, TimelineEntry
from lofi_tal.report.page import WAYS, viewers_of
from lofi_tal.report.tables import Tile, class_rows, headline
from lofi_tal.report.theme import Picture, duration, memory, percent, series_colour, signed_percent, write_page

MOST_VIDEOS = 200
"""Rows of the table of videos."""


@dataclass(frozen=True, eq=False)
class ComparisonPage:
    """What the page of a comparison shows.

    Args:
        title: Heading.
        comparison: Of the systems.
        timelines: Videos to look at, an entry for each system.
        settings: Values that differ, one for each system, by ``section.key``.
        settings_known: Whether there are settings of two systems or more.
        environment: The same of versions and devices.
        events: mAP of point events by set of tolerances.
        stages: Seconds and bytes of each stage in each system; None where it has no such stage.
        facts: Command, annotations and the like, by name.
        notes: What the reader should know.
        left_out: Reason for each video, and each class, that is not compared.
    """

    title: str
    comparison: Comparison
    timelines: list[TimelineEntry] = field(default_factory=list)
    settings: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    settings_known: bool = True
    environment: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    events: Mapping[str, EventComparison] = field(default_factory=dict)
    stages: Mapping[str, Sequence[tuple[float, int] | None]] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


def write_comparison(path: Path, page: ComparisonPage) -> None:
    """Write the page: one file without outside parts, except the videos, found by their paths relative to it."""
    comparison, videos = page.comparison, _videos(page.comparison)
    write_page(
        path,
        "compared.html",
        title=page.title,
        page=page,
        names=[one.name for one in comparison.systems],
        confidence=round(100 * comparison.confidence),
        tiles=_tiles(comparison),
        headline=_headline(comparison),
        shown=_shown(comparison),
        errors=error_differences(comparison),
        costs=_costs(comparison.systems),
        classes=class_differences(comparison),
        videos=videos,
        labels=sorted({label for row in videos for label in row["classes"]}),
        cases=_cases(path, page),
        settings=[(name, _texts(values)) for name, values in page.settings.items()],
        environment=[(name, _texts(values)) for name, values in page.environment.items()],
        stages=_stages(page),
        most=MOST_VIDEOS,
        **_pictures(comparison),
    )


def difference_text(one: Interval, text: Any = signed_percent) -> str:
    """Return a difference with its interval, as ``+1.20 (−0.35 to +2.40)``."""
    return f"{text(one.value)} ({text(one.low)} to {text(one.high)})"


def signed_count(value: float) -> str:
    """Return a difference of counts: ``+4``, ``−2``, ``0``."""
    number = round(value)
    return "0" if not number else f"{'+' if number > 0 else '−'}{abs(number)}"


def setting_text(value: Any) -> str:
    """Return the value of a setting as a person reads it; a dash where there is none."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def class_differences(comparison: Comparison) -> list[dict[str, Any]]:
    """Return average AP of every class in each system, and the differences, the largest first."""
    results = [one.scores["fused"].per_class for one in comparison.systems]
    rows = [
        {
            "label": label,
            "instances": one.instances,
            "averages": [percent(result[label].average) for result in results],
            "differences": [part.classes[label] for part in comparison.differences],
        }
        for label, one in results[0].items()
    ]
    return sorted(rows, key=lambda row: -max(abs(one.value) for one in row["differences"]))


def rate_differences(comparison: Comparison) -> list[tuple[str, list[str], list[str]]]:
    """Return precision, recall and F1 of what is shown: name, of each system, and differences as texts.

    Where nothing is shown there is no precision.
    """
    rows = []
    for key, name in zip(("precision", "recall", "f1"), RATES, strict=True):
        lacks = [key == "precision" and not one.point.rates.shown for one in comparison.systems]
        values = [
            "–" if lack else percent(getattr(one.point.rates, key).value)
            for lack, one in zip(lacks, comparison.systems, strict=True)
        ]
        differences = [
            "–" if lacks[0] or lack else difference_text(one.rates[name])
            for lack, one in zip(lacks[1:], comparison.differences, strict=True)
        ]
        rows.append((name, values, differences))
    return rows


def error_differences(comparison: Comparison) -> list[tuple[str, list[str], list[str]]]:
    """Return the number of each kind of error among what is shown: name, of each system, and differences as texts."""
    return [
        (
            kind,
            [str(one.mistakes.counts[kind]) for one in comparison.systems],
            [difference_text(one.errors[kind], signed_count) for one in comparison.differences],
        )
        for kind in MISTAKES
    ]


def _tiles(comparison: Comparison) -> list[Tile]:
    tiles = []
    for i, one in enumerate(comparison.systems):
        interval = one.intervals["fused"].average_mAP
        detail = f"{100 * comparison.confidence:g} % interval {percent(interval.low)} to {percent(interval.high)}"
        unit = "average mAP, %"
        if i:
            gain = comparison.differences[i - 1].ways["fused"].average_mAP
            unit = f"{signed_percent(gain.value)} points"
            detail = f"paired interval {signed_percent(gain.low)} to {signed_percent(gain.high)} points"
        tiles.append(Tile(one.name, percent(interval.value), unit, detail, series_colour(i)))
    for i, part in enumerate(comparison.differences, start=1):
        value = f"{part.fixed} / {part.broken}"
        detail = f"of {len(comparison.truth.label)} actions, {part.second} against {part.first}"
        tiles.append(Tile("Fixed / broken", value, "actions", detail, series_colour(i)))
    return tiles


def _headline(comparison: Comparison) -> Any:
    arms = [Arm(one.name, "", {way: part.to_json() for way, part in one.scores.items()}) for one in comparison.systems]
    judgement = Judgement(
        intervals={
            one.name: {way: part.average_mAP for way, part in one.intervals.items()} for one in comparison.systems
        },
        gains={one.second: {way: part.average_mAP for way, part in one.ways.items()} for one in comparison.differences},
    )
    return headline(arms, WAYS, judgement)


def _shown(comparison: Comparison) -> dict[str, Any]:
    points = [one.point for one in comparison.systems]
    return {
        "rates": rate_differences(comparison),
        "thresholds": [point.thresholds.text("–") for point in points],
        "right": [f"{point.rates.right} of {point.rates.shown}" for point in points],
        "chosen_here": [one.name for one in comparison.systems if one.chosen_here],
    }


def _costs(systems: Sequence[Measured]) -> list[tuple[str, list[str]]]:
    """Return what each kind of error costs in normalised mAP, of each system; nothing where it is not known."""
    known = [one.diagnosis.gain for one in systems if one.diagnosis is not None]
    if len(known) < len(systems):
        return []
    return [(kind, [signed_percent(gain[kind]) for gain in known]) for kind in known[0]]


def _by_class(changes: Mapping[str, Sequence[Change]]) -> dict[str, dict[str, int]]:
    """Return how many changes of each kind concern each class."""
    found: dict[str, dict[str, int]] = {}
    for kind, some in changes.items():
        for change in some:
            of_class = found.setdefault(change.label, dict.fromkeys(changes, 0))
            of_class[kind] += 1
    return found


def _videos(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the rows of the table of videos, the largest change first; of several systems together."""
    rows = [
        {
            "system": part.second,
            "first": part.first,
            "video": one,
            "counts": {"fixed": len(one.fixed), "broken": len(one.broken)},
            "classes": _by_class({"fixed": one.fixed, "broken": one.broken}),
        }
        for part in comparison.differences
        for one in part.videos
        if one.size
    ]
    return sorted(rows, key=lambda row: -row["video"].size)


def _cases(path: Path, page: ComparisonPage) -> list[tuple[str, list[tuple[str, Any]], dict[str, Any]]]:
    """Return, for each video on a timeline, its id, its changes with the system that they are of, and its viewer."""
    colours = {one.name: series_colour(i) for i, one in enumerate(page.comparison.systems)}
    changes: dict[str, list[tuple[str, Any]]] = {}
    for part in page.comparison.differences:
        for one in part.videos:
            changes.setdefault(one.video_id, []).extend((part.second, change) for change in (*one.fixed, *one.broken))
    viewers = viewers_of(path, page.timelines, colours)
    return [(video_id, changes.get(video_id, []), viewer) for video_id, viewer in viewers]


def _stages(page: ComparisonPage) -> list[tuple[str, list[str], list[str]]]:
    rows = [
        (
            name,
            ["–" if cost is None else duration(cost[0]) for cost in costs],
            ["–" if cost is None else memory(cost[1]) for cost in costs],
        )
        for name, costs in page.stages.items()
    ]
    if rows:
        columns = list(zip(*page.stages.values(), strict=True))
        total = [[cost for cost in column if cost is not None] for column in columns]
        times = [duration(sum(cost[0] for cost in column)) if column else "–" for column in total]
        peaks = [memory(max(cost[1] for cost in column)) if column else "–" for column in total]
        rows.append(("in all", times, peaks))
    return rows


def _pictures(comparison: Comparison) -> dict[str, list[Picture]]:
    from lofi_tal.report.evaluation_plots import class_ap_bars, map_against_tiou
    from lofi_tal.report.plot_style import to_svg

    systems = comparison.systems
    highest = max(value for one in systems for part in one.scores.values() for value in part.mAP)
    against = [
        Picture(
            heading,
            detail,
            to_svg(
                map_against_tiou({one.name: (one.scores[way].tiou_thresholds, one.scores[way].mAP) for one in systems},
                                 highest),
                f"tiou-{way}",
            ),
        )
        for way, (heading, detail) in WAYS.items()
        if way in systems[0].scores
    ]  # fmt: skip
    fused = {one.name: one.scores["fused"].to_json() for one in systems}
    labels, detail = class_rows(fused)
    averages = {name: {k: v["average"] for k, v in score["per_class"].items()} for name, score in fused.items()}
    svg = to_svg(class_ap_bars(averages, labels), "classes")
    return {"against_tiou": against, "per_class": [Picture("Average AP of each class", detail, svg)]}


def _texts(values: Sequence[Any]) -> list[str]:
    return [setting_text(value) for value in values]
