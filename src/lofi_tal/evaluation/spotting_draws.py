"""Bootstrap over videos for the mAP of point events: intervals, and differences on equal draws.

Legend: V videos, R replicates, T tolerances, S scores from which on detections count, N detections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lofi_tal.errors import LofiError
from lofi_tal.evaluation.bootstrap import Interval, draw_videos, few_videos_warning, shifted_interval
from lofi_tal.evaluation.spotting import (
    RATE,
    RECALLS,
    SCORES,
    TIGHT,
    Floats,
    Indices,
    Mask,
    Table,
    average_over,
    evaluate_events,
    right_detections,
    tables_of,
)
from lofi_tal.segments import Segments

Found = Mapping[str, Segments]


@dataclass(frozen=True)
class EventIntervals:
    """Intervals of the mAP of point events, or of the difference of two systems.

    Args:
        average_mAP: Of the area under mAP over the tolerances.
        mAP: At each tolerance.
        tolerances: δ in seconds.
        confidence: Share of the replicates within each interval.
        replicates: R.
        videos: V.
    """

    average_mAP: Interval  # noqa: N815
    mAP: tuple[Interval, ...]  # noqa: N815
    tolerances: tuple[float, ...]
    confidence: float
    replicates: int
    videos: int

    @property
    def warning(self) -> str | None:
        """What to say beside the intervals if they are over too few videos."""
        return few_videos_warning(self.videos)

    def to_json(self) -> dict[str, Any]:
        """Return the intervals as a JSON-like dict."""
        return {
            **vars(self),
            "average_mAP": self.average_mAP.to_json(),
            "mAP": [one.to_json() for one in self.mAP],
            "tolerances": list(self.tolerances),
            "warning": self.warning,
        }


@dataclass(frozen=True)
class EventComparison:
    """Systems on the same events; the others are held against the first.

    Args:
        systems: Of each.
        differences: Of each of the others minus the first, on equal draws.
        events: Number of events.
    """

    systems: tuple[EventIntervals, ...]
    differences: tuple[EventIntervals, ...]
    events: int

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as a JSON-like dict."""
        return {
            "events": self.events,
            "systems": [one.to_json() for one in self.systems],
            "differences": [one.to_json() for one in self.differences],
        }


def compare_events(
    truth: Found,
    systems: Sequence[Found],
    tolerances: Sequence[float] = TIGHT,
    *,
    rate: float | None = RATE,
    replicates: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> EventComparison:
    """Return the mAP of one or several systems with intervals, and the differences to the first.

    Args:
        truth: Events by video id.
        systems: Detections by video id, of each system.
        tolerances: δ in seconds, growing.
        rate: As :func:`~lofi_tal.evaluation.spotting.evaluate_events`.
        replicates: R.
        confidence: Share of the replicates within each interval.
        seed: Of the draws.

    Raises:
        LofiError: If ``replicates`` or ``confidence`` is not allowed, or as ``evaluate_events``.
        DataError: As ``evaluate_events``.
    """
    if replicates < 2 or not 0 < confidence < 1:
        raise LofiError(f"replicates={replicates} must be at least 2, confidence={confidence:g} between 0 and 1.")
    results = [evaluate_events(truth, found, tolerances, rate=rate) for found in systems]
    values = [np.array(result.mAP) for result in results]
    draws = [replicated_events(truth, found, tolerances, replicates, seed, rate=rate) for found in systems]
    facts = (tuple(map(float, tolerances)), confidence, len(truth))
    return EventComparison(
        tuple(_intervals(*one, 0.0, facts) for one in zip(values, draws, strict=True)),
        tuple(_intervals(values[i] - values[0], draws[i] - draws[0], -1.0, facts) for i in range(1, len(values))),
        sum(results[0].events.values()),
    )


def _intervals(
    value: Floats, draws: Floats, least: float, facts: tuple[tuple[float, ...], float, int]
) -> EventIntervals:
    """Return the intervals of figures ``(T,)`` from their replicates ``(R, T)``."""
    tolerances, confidence, videos = facts
    average = np.array([average_over(draw, tolerances) for draw in draws.tolist()])
    columns = zip(value.tolist(), draws.T, strict=True)
    return EventIntervals(
        shifted_interval(average_over(value.tolist(), tolerances), average, confidence, least, 1.0),
        tuple(shifted_interval(one, column, confidence, least, 1.0) for one, column in columns),
        tolerances,
        confidence,
        len(draws),
        videos,
    )


def replicated_events(
    truth: Found,
    detections: Found,
    tolerances: Sequence[float],
    replicates: int,
    seed: int = 0,
    *,
    rate: float | None = RATE,
) -> Floats:
    """Return the mAP at each tolerance on draws of the videos: ``(R, T)``.

    Equal to evaluating sets in which each video stands as often as it is drawn. Classes without an event in a draw are
    not in its mean. The draws depend on ``seed`` and the number of videos alone, so that two systems are paired.
    """
    total, classes = np.zeros((replicates, len(tolerances))), np.zeros((replicates, 1))
    for table in tables_of(truth, detections, rate).values():
        sums, begin = _Sums.of(table, tolerances), 0
        for weights in draw_videos(len(table), replicates, seed):
            area, drawn = sums.precision(weights)
            rows = slice(begin, begin := begin + len(weights))
            total[rows] += area
            classes[rows] += drawn
    return total / np.maximum(classes, 1)


@dataclass(frozen=True)
class _Sums:
    """What the precision of one class needs of each video.

    Args:
        events: ``(V,)`` how many there are.
        shown: ``(V, S)`` detections from each score on.
        right: ``(V, S, T)`` those of them that are right.
    """

    events: Floats
    shown: Floats
    right: Floats

    @classmethod
    def of(cls, table: Table, tolerances: Sequence[float]) -> _Sums:
        shown, right = zip(*(_counts(video, tolerances) for video in table), strict=True)
        return cls(np.array([len(events) for events, _, _ in table], float), np.stack(shown), np.stack(right))

    def precision(self, weights: Indices) -> tuple[Floats, Mask]:
        """Return the AP of videos that count as often as drawn ``(R, T)``, and where there is one ``(R, 1)``."""
        events, shown = weights @ self.events, weights @ self.shown
        right = np.tensordot(weights, self.right, 1)
        precision, recall = right / np.maximum(shown, 1)[..., None], right / np.maximum(events, 1)[:, None, None]
        area = np.mean([np.where(recall >= least, precision, 0.0).max(axis=1) for least in RECALLS], axis=0)
        there = events[:, None] > 0
        return np.where(there, area, 0.0), there


def _counts(video: tuple[Floats, Floats, Floats], tolerances: Sequence[float]) -> tuple[Floats, Floats]:
    """Return how many detections of a video stand from each score on ``(S,)``, and how many are right ``(S, T)``."""
    events, times, scores = video
    shown = (scores >= SCORES[:, None]).astype(np.float64)  # (S, N)
    right = np.stack([right_detections(events, times, scores, delta) for delta in tolerances], axis=1)
    return shown.sum(axis=1), shown @ right
