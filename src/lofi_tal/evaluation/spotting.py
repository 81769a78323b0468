"""Mean average precision of point events, as SoccerNet defines it.

An event has a time and no length. A detection is right if it is near enough to an event of its class: within half of a
tolerance δ to either side. Events are taken in order of time, and each takes the detection that scores best among those
which no event before it has taken. Precision and recall are read at 200 scores from 0 to 1, and AP is the mean of the
best precision at recalls of at least 0, 0.1, ..., 1. The average mAP is the area under mAP over δ, by trapezoids, as a
share of the range: *loose* for δ of 5 to 60 s, *tight* for 1 to 5 s.

Source: SoccerNet/sn-spotting and the package SoccerNet, ``Evaluation/ActionSpotting.py``; Giancola et al., "SoccerNet:
A Scalable Dataset for Action Spotting in Soccer Videos" (CVPR Workshops 2018); Deliège et al., "SoccerNet-v2" (CVPR
Workshops 2021). As there, times are rounded down to a grid (2 a second), of several events of a class in one cell one
counts, and of several detections the last. Different: a class without events is left out of the mean, where the
published code gives it 0, and says so in the result.

Legend: N detections, G events, T tolerances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lofi_tal.errors import DataError, LofiError, counted
from lofi_tal.segments import Segments

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

LOOSE = tuple(float(delta) for delta in range(5, 61, 5))
TIGHT = tuple(float(delta) for delta in range(1, 6))
CLOSE = (0.5, 1.0, 2.0, 5.0)
"""Tolerances for events that are labelled to the frame, such as a ball's hit."""
TOLERANCES = {"loose": LOOSE, "tight": TIGHT, "close": CLOSE}
"""By name; the first two are SoccerNet's."""
RATE = 2.0
"""Cells a second of SoccerNet's grid."""
SCORES = np.linspace(0, 1, 200)
"""At which precision and recall are read."""
RECALLS = np.arange(11) / 10
"""Over which the best precision is averaged."""
_ROUNDING = 1e-9  # seconds


@dataclass(frozen=True)
class SpottingResult:
    """mAP of point events; figures are shares in [0, 1].

    Args:
        average_mAP: Area under mAP over the tolerances, as a share of their range; the mAP itself of one tolerance.
        mAP: Mean over the classes at each tolerance.
        tolerances: δ in seconds; half of it lies to either side of an event.
        per_class: AP of each class with events, at each tolerance.
        averages: Average AP of each class.
        events: Number of events of each class.
        detections: Number of detections of classes with events.
        without_events: Classes of detections that no event has; their detections do not count.
    """

    average_mAP: float  # noqa: N815
    mAP: tuple[float, ...]  # noqa: N815
    tolerances: tuple[float, ...]
    per_class: dict[str, tuple[float, ...]]
    averages: dict[str, float]
    events: dict[str, int]
    detections: int
    without_events: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result as a JSON-like dict."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}


def evaluate_events(
    truth: Mapping[str, Segments],
    detections: Mapping[str, Segments],
    tolerances: Sequence[float] = TIGHT,
    *,
    rate: float | None = RATE,
) -> SpottingResult:
    """Return the mAP of detected events.

    Args:
        truth: Events by video id; the time of a segment without one is its middle.
        detections: By video id, with scores in [0, 1]; those of videos that the truth lacks are refused.
        tolerances: δ in seconds, growing.
        rate: Cells a second that times are rounded down to; None takes times as they are.

    Raises:
        LofiError: If the tolerances do not grow, one is not positive, or ``rate`` is not.
        DataError: If there is no event, a detection is of a video without truth, or its score lies outside [0, 1].

    >>> truth = {"a": Segments("a", [10], [10], ("goal",), [1])}
    >>> found = {"a": Segments("a", [10.4, 30], [10.4, 30], ("goal", "goal"), [0.6, 0.9])}
    >>> evaluate_events(truth, found, [1.0, 2.0]).average_mAP
    0.5
    """
    _check(truth, detections, tolerances, rate)
    tables = tables_of(truth, detections, rate)
    if not tables:
        raise DataError("The truth has no event: nothing can be evaluated.")
    per_class = {label: tuple(_precision(table, delta) for delta in tolerances) for label, table in tables.items()}
    overall = tuple(np.mean(list(per_class.values()), axis=0).tolist())
    others = {label for video in detections.values() for label in video.label} - set(tables)
    return SpottingResult(
        average_mAP=average_over(overall, tolerances),
        mAP=overall,
        tolerances=tuple(map(float, tolerances)),
        per_class=per_class,
        averages={label: average_over(one, tolerances) for label, one in per_class.items()},
        events={label: sum(len(times) for times, _, _ in table) for label, table in tables.items()},
        detections=sum(len(scores) for table in tables.values() for _, _, scores in table),
        without_events=tuple(sorted(others)),
    )


def average_over(values: Sequence[float], tolerances: Sequence[float]) -> float:
    """Return the area under values over growing tolerances, as a share of their range; one value as it is."""
    if len(values) == 1:
        return float(values[0])
    return float(np.trapezoid(values, tolerances) / (tolerances[-1] - tolerances[0]))


def right_detections(events: Floats, times: Floats, scores: Floats, tolerance: float) -> Mask:
    """Return which detections of one class and video are right: ``(N,)``.

    Args:
        events: ``(G,)`` times in order.
        times: ``(N,)`` of detections, in order.
        scores: ``(N,)``.
        tolerance: δ.
    """
    right = np.zeros(len(times), dtype=bool)
    for event in events:
        free = np.flatnonzero((np.abs(times - event) <= tolerance / 2 + _ROUNDING) & ~right)
        if len(free):
            right[free[scores[free].argmax()]] = True
    return right


Table = list[tuple[Floats, Floats, Floats]]
"""For each video the times of the events, and times and scores of the detections, of one class."""


def tables_of(
    truth: Mapping[str, Segments], detections: Mapping[str, Segments], rate: float | None
) -> dict[str, Table]:
    """Return events and detections of every class that has an event, by label; those of all videos in their order."""
    labels = sorted({label for video in truth.values() for label in video.label})
    return {label: _of_class(truth, detections, label, rate) for label in labels}


def _of_class(
    truth: Mapping[str, Segments], detections: Mapping[str, Segments], label: str, rate: float | None
) -> Table:
    table = []
    for name, video in truth.items():
        found = detections.get(name, Segments.empty(name))
        events, _ = _on_grid(video, label, rate)
        table.append((events, *_on_grid(found, label, rate)))
    return table


def _on_grid(video: Segments, label: str, rate: float | None) -> tuple[Floats, Floats]:
    """Return times, in order, and scores of one class; of those in one cell the last."""
    chosen = video[np.array([name == label for name in video.label], dtype=bool)]
    times = chosen.times
    if rate is None:
        order = np.argsort(times, kind="stable")
        return times[order], chosen.score[order]
    cells = np.floor(times * rate)
    kept, last = np.unique(cells[::-1], return_index=True)
    return kept / rate, chosen.score[::-1][last]


def _precision(table: Table, tolerance: float) -> float:
    """Return the AP of one class."""
    right = np.concatenate([right_detections(*video, tolerance) for video in table])
    scores = np.concatenate([video[2] for video in table])
    events = sum(len(video[0]) for video in table)
    shown = scores[None] >= SCORES[:, None]  # (200, N)
    hits, counts = (shown & right).sum(axis=1), shown.sum(axis=1)
    precision, recall = hits / np.maximum(counts, 1), hits / events
    return float(np.mean([precision[recall >= least].max(initial=0.0) for least in RECALLS]))


def _check(
    truth: Mapping[str, Segments],
    detections: Mapping[str, Segments],
    tolerances: Sequence[float],
    rate: float | None,
) -> None:
    if not len(tolerances) or min(tolerances) <= 0 or (np.diff(tolerances) <= 0).any():
        raise LofiError(f"tolerances {list(tolerances)} must be positive seconds that grow, such as 1, 2, 5.")
    if rate is not None and not rate > 0:
        raise LofiError(f"rate={rate} must be above 0: cells a second that times are rounded to.")
    if strange := sorted(set(detections) - set(truth)):
        raise DataError(
            f"Not in the truth: {counted(len(strange), 'video')} with detections, {strange[0]!r} for one. Give "
            "results of the same subset, with the same ids."
        )
    for name, video in detections.items():
        wrong = video.score[(video.score < 0) | (video.score > 1)]
        if len(wrong):
            raise DataError(f"a detection of video {name!r} has the score {wrong[0]:g}; allowed: 0 to 1.")
