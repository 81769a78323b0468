"""The tables of a report as plain rows: what is compared with what, and in which order. No markup here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lofi_tal.errors import counted
from lofi_tal.evaluation import Assessment, Interval, Mistakes
from lofi_tal.report.content import Arm, Judgement, StageSummary
from lofi_tal.report.theme import duration, memory, percent, series_colour, signed_percent

COLUMNS = (0.5, 0.75, 0.95)
MOST_COLUMNS = 6
CLASSES_AT_EACH_END = 15


@dataclass(frozen=True)
class Tile:
    """One large figure: name, value, unit or change, line below, name of the colour."""

    name: str
    value: str
    unit: str
    detail: str
    colour: str


@dataclass(frozen=True)
class Row:
    """A row of the headline table: an arm, a floor, or the ``difference`` of two; ``interval`` is of the last cell."""

    name: str
    cells: list[str]
    colour: str = ""
    difference: bool = False
    interval: str = ""


@dataclass(frozen=True)
class Headline:
    """mAP of the arms: heading of each column, and for each way of evaluation heading, explanation and rows."""

    columns: list[str]
    groups: list[tuple[str, str, list[Row]]]
    basis: str


def tiles(arms: Sequence[Arm], stages: Sequence[StageSummary]) -> list[Tile]:
    """Return each arm's average mAP with its own class scores, the time of all stages, and the highest memory."""
    shown = []
    first: float | None = None
    for i, arm in enumerate(arms):
        average = arm.scores.get("fused", {}).get("average_mAP")
        if average is None:
            continue
        change = "average mAP, %" if first is None else f"{signed_percent(average - first)} points"
        shown.append(Tile(arm.name, percent(average), change, arm.description, series_colour(i)))
        first = average if first is None else first
    if stages:
        skipped = sum(stage.skipped for stage in stages)
        detail = f"{len(stages)} stage{'s' if len(stages) != 1 else ''}"
        detail += f", {skipped} of them from an earlier run" if skipped else ""
        shown.append(Tile("Time", duration(sum(stage.seconds for stage in stages)), "", detail, "line"))
        peak = max(stages, key=lambda stage: stage.peak_memory_bytes)
        if peak.peak_memory_bytes > 0:
            shown.append(Tile("Peak memory", memory(peak.peak_memory_bytes), "", f"in {peak.name}", "line"))
    return shown


def headline(
    arms: Sequence[Arm], ways: Mapping[str, tuple[str, str]], judgement: Judgement | None = None
) -> Headline | None:
    """Return mAP at a few thresholds and on average, all ways, with the difference of each arm to the first.

    The judgement adds intervals, and the floors that need no training.
    """
    known = judgement or Judgement()
    scores = [score for arm in arms for score in arm.scores.values()]
    if not scores:
        return None
    columns = _columns(scores)
    groups = []
    for way, (heading, detail) in ways.items():
        rows: list[Row] = []
        base: tuple[str, list[float | None]] | None = None
        for i, arm in enumerate(arms):
            if way not in arm.scores:
                continue
            values = [_at(arm.scores[way], column) for column in columns] + [arm.scores[way].get("average_mAP")]
            interval = _span(known.intervals.get(arm.name, {}).get(way))
            rows.append(Row(arm.name, [percent(value) for value in values], series_colour(i), interval=interval))
            if base is None:
                base = (arm.name, values)
                continue
            cells = [_difference(value, other) for value, other in zip(values, base[1], strict=True)]
            gain = _span(known.gains.get(arm.name, {}).get(way), signed=True)
            rows.append(Row(f"{arm.name} − {base[0]}", cells, difference=True, interval=gain))
        for name, reached in known.floors.items() if rows else ():
            if way in reached:
                floor = reached[way].to_json()
                values = [*(_at(floor, column) for column in columns), floor["average_mAP"]]
                rows.append(Row(f"floor: {name}", [percent(value) for value in values], "muted"))
        if rows:
            groups.append((heading, detail, rows))
    counts = dict.fromkeys((score["videos"], score["instances"]) for score in scores if "videos" in score)
    basis = "; ".join(f"{counted(instances, 'instance')} in {counted(videos, 'video')}" for videos, instances in counts)
    return Headline([*(f"{column:g}" for column in columns), "average"], groups, basis)


def stage_rows(stages: Sequence[StageSummary]) -> list[dict[str, Any]]:
    """Return name, time, memory, status, steps, last loss and the share of waiting for data, as texts."""
    rows = []
    for stage in stages:
        losses = _numbers(stage, "loss")
        waits = _numbers(stage, "wait")
        fidelities = dict.fromkeys(str(record["fidelity"]) for record in stage.metrics if record.get("fidelity"))
        rows.append(
            {
                "name": stage.name,
                "status": "unfinished" if stage.running else "up to date, skipped" if stage.skipped else "run",
                "time": duration(stage.seconds),
                "memory": memory(stage.peak_memory_bytes),
                "steps": str(max(map(int, _numbers(stage, "step")), default=len(losses)) or "–"),
                "loss": f"{losses[-1]:.4g}" if losses else "–",
                "wait": f"{100 * sum(waits) / len(waits):.0f} %" if waits else "–",
                "fidelity": ", ".join(fidelities) or "–",
            }
        )
    return rows


def class_rows(fused: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], str]:
    """Return the classes to draw, best first, and a note: of many, the best and the worst fifteen.

    Args:
        fused: ``DetectionResult.to_json()`` by arm; the mean over the arms decides.
    """
    labels = _ranked(fused)
    most = 2 * CLASSES_AT_EACH_END
    if len(labels) <= most:
        return labels, "own class scores, best first"
    note = f"the best {CLASSES_AT_EACH_END} and the worst {CLASSES_AT_EACH_END} of {len(labels)} classes"
    return labels[:CLASSES_AT_EACH_END] + labels[-CLASSES_AT_EACH_END:], note


def class_table(fused: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return label, number of instances and average AP of each arm, for every class, best first."""
    rows = []
    for label in _ranked(fused):
        known = [score["per_class"].get(label, {}) for score in fused.values()]
        instances = next((one["instances"] for one in known if "instances" in one), "–")
        rows.append(
            {"label": label, "instances": instances, "averages": [percent(one.get("average")) for one in known]}
        )
    return rows


def _ranked(fused: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return all labels by falling mean of the arms' average AP; equal ones by name."""
    averages: dict[str, list[float]] = {}
    for score in fused.values():
        for label, one in score.get("per_class", {}).items():
            averages.setdefault(label, []).append(one["average"])
    return sorted(averages, key=lambda label: (-sum(averages[label]) / len(averages[label]), label))


def _columns(scores: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return 0.5, 0.75 and 0.95 if they were evaluated, otherwise all thresholds, or a few where there are many."""
    thresholds = sorted({round(float(t), 6) for score in scores for t in score.get("tiou_thresholds", ())})
    if set(COLUMNS) <= set(thresholds):
        return list(COLUMNS)
    if len(thresholds) <= MOST_COLUMNS:
        return thresholds
    return [thresholds[0], thresholds[len(thresholds) // 2], thresholds[-1]]


def _at(score: Mapping[str, Any], threshold: float) -> float | None:
    pairs = zip(score.get("tiou_thresholds", ()), score.get("mAP", ()), strict=False)
    return next((float(value) for t, value in pairs if math.isclose(t, threshold, abs_tol=1e-6)), None)


def _span(one: Interval | None, *, signed: bool = False) -> str:
    """Return an interval in per cent, or in points."""
    if one is None:
        return ""
    text = signed_percent if signed else percent
    return f"{text(one.low)} to {text(one.high)}"


def rate_rows(assessments: Mapping[str, Assessment]) -> list[dict[str, Any]]:
    """Return precision, recall and F1 of each arm at its threshold, with intervals, and what was promised, as texts."""
    rows = []
    for i, (arm, one) in enumerate(assessments.items()):
        rates = one.point.rates
        rows.append(
            {
                "name": arm,
                "colour": series_colour(i),
                "threshold": one.point.thresholds.text("–"),
                "cells": [(percent(rate.value), _span(rate)) for rate in (rates.precision, rates.recall, rates.f1)],
                "shown": rates.shown,
                "right": rates.right,
                "promised": None
                if one.promised is None
                else [
                    (percent(rate.value), _span(rate))
                    for rate in (one.promised.rates.precision, one.promised.rates.recall, one.promised.rates.f1)
                ],
            }
        )
    return rows


def class_rates(assessment: Assessment) -> list[dict[str, Any]]:
    """Return threshold, precision, recall, AP with its interval, and whether it can be judged, for every class."""
    rows = []
    for label, one in assessment.classes.items():
        rates = assessment.point.classes[label]
        if not rates.instances:
            continue
        limit = assessment.point.thresholds.of(label)
        rows.append(
            {
                "label": label,
                "instances": rates.instances,
                "threshold": f"{limit:.3g}" if math.isfinite(limit) else "–",
                "precision": percent(rates.precision.value) if rates.shown else "–",
                "recall": percent(rates.recall.value),
                "average": percent(one.value),
                "interval": _span(one),
                "judged": label not in assessment.unjudged,
            }
        )
    return sorted(rows, key=lambda row: row["label"])


def confusion_table(mistakes: Mistakes, most: int = 24) -> dict[str, Any]:
    """Return the confusion matrix as rows of ``(count, share of its row)``, of at most ``most`` classes.

    Of more classes, those with the most confusions and misses are taken.
    """
    table = mistakes.confusion
    wrong = table.sum(axis=1)[:-1] + table.sum(axis=0)[:-1] - 2 * np.diag(table)[:-1]
    seen = np.flatnonzero(table.sum(axis=1)[:-1] + table.sum(axis=0)[:-1])
    chosen = np.sort(seen[np.argsort(-wrong[seen], kind="stable")][:most])
    places = [*chosen.tolist(), len(mistakes.labels)]
    names = [*(mistakes.labels[c] for c in chosen.tolist()), "nothing"]
    part = table[np.ix_(places, places)]
    totals = np.maximum(part.sum(axis=1, keepdims=True), 1)
    rows = [
        (name, [(int(n), float(share)) for n, share in zip(counts, shares, strict=True)])
        for name, counts, shares in zip(names, part, part / totals, strict=True)
    ]
    return {"columns": names, "rows": rows, "left_out": len(seen) - len(chosen)}


def _difference(value: float | None, other: float | None) -> str:
    return signed_percent(None if value is None or other is None else value - other)


def _numbers(stage: StageSummary, key: str) -> list[float]:
    values = (record.get(key) for record in stage.metrics)
    return [value for value in values if isinstance(value, int | float) and math.isfinite(value)]
