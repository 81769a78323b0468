"""Several systems on the same videos: what each is worth, and the difference of each to the first one.

Everything is measured on equal bootstrap draws of the videos, so that the interval of a difference does not hold what
makes a draw easy or hard for both. What a system finds is what a person is shown: each span with its best label, from
its thresholds on.

Legend: V videos, R replicates, T tIoU thresholds, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lofi_tal.errors import LofiError
from lofi_tal.evaluation.bootstrap import (
    BootstrapResult,
    Interval,
    draw_videos,
    of_replicates,
    replicated_classes,
    replicated_map,
    shifted_interval,
)
from lofi_tal.evaluation.changes import VideoChanges, find_changes
from lofi_tal.evaluation.detection import (
    ACTIVITYNET_THRESHOLDS,
    DetectionResult,
    Matched,
    class_average_precision,
    match_detections,
    result_of,
)
from lofi_tal.evaluation.diagnosis import MINIMUM_TIOU, Diagnosis, diagnose_arrays
from lofi_tal.evaluation.documents import GroundTruth
from lofi_tal.evaluation.mistakes import MISTAKES, Mistakes, find_mistakes
from lofi_tal.evaluation.operating import OperatingPoint, Thresholds, choose_thresholds, measure
from lofi_tal.evaluation.verdicts import TIOU, Verdicts, of_matched, one_label
from lofi_tal.evaluation.ways import match_ways
from lofi_tal.segments import Segments

Floats = NDArray[np.float64]
RATES = ("precision", "recall", "F1")


@dataclass(frozen=True, eq=False)
class Candidate:
    """A system that is compared.

    Args:
        name: What to call it.
        detections: Of each video, with the scores that the thresholds are meant for.
        thresholds: Lowest scores shown; None for those with the best F1 on these very videos.
        several: Classes overlap: a span is shown with all its labels, not with the best one alone.
    """

    name: str
    detections: Sequence[Segments]
    thresholds: Thresholds | None = None
    several: bool = False


@dataclass(frozen=True, eq=False)
class Measured:
    """What one system is worth.

    Args:
        name: What it is called.
        scores: Detection mAP by way; the ways are :data:`~lofi_tal.evaluation.ways.WAYS`.
        intervals: Of the mAP, by way.
        point: Thresholds, and what they get.
        chosen_here: The thresholds are those with the best F1 on these very videos.
        mistakes: What is wrong with what is shown.
        diagnosis: Kinds of errors of the ranking as a whole; None where a threshold of mAP is 0.1 or less.
    """

    name: str
    scores: dict[str, DetectionResult]
    intervals: dict[str, BootstrapResult]
    point: OperatingPoint
    chosen_here: bool
    mistakes: Mistakes
    diagnosis: Diagnosis | None

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON-like dict."""
        return {
            "name": self.name,
            "scores": {way: one.to_json() for way, one in self.scores.items()},
            "intervals": {way: one.to_json() for way, one in self.intervals.items()},
            "point": self.point.to_json(),
            "chosen_here": self.chosen_here,
            "mistakes": self.mistakes.to_json(),
            "diagnosis": None if self.diagnosis is None else self.diagnosis.to_json(),
        }


@dataclass(frozen=True)
class Difference:
    """A system minus the first one, on equal draws.

    Args:
        first: Name of the first one.
        second: Name of the other.
        ways: Of the mAP, by way.
        classes: Of the average AP with own class scores, by label.
        rates: Of precision, recall and F1 of what is shown.
        errors: Of the number of each of :data:`~lofi_tal.evaluation.MISTAKES` among what is shown.
        videos: What was fixed and broken, the largest change first.
    """

    first: str
    second: str
    ways: dict[str, BootstrapResult]
    classes: dict[str, Interval]
    rates: dict[str, Interval]
    errors: dict[str, Interval]
    videos: tuple[VideoChanges, ...]

    @property
    def fixed(self) -> int:
        """Number of actions that only the second system finds."""
        return sum(len(one.fixed) for one in self.videos)

    @property
    def broken(self) -> int:
        """Number of actions that only the first system finds."""
        return sum(len(one.broken) for one in self.videos)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON-like dict."""
        parts = {name: getattr(self, name) for name in ("ways", "classes", "rates", "errors")}
        return {
            "first": self.first,
            "second": self.second,
            **{name: {key: one.to_json() for key, one in part.items()} for name, part in parts.items()},
            "fixed": self.fixed,
            "broken": self.broken,
            "videos": [one.to_json() for one in self.videos],
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several systems on the same videos.

    Args:
        truth: The instances.
        systems: What each is worth.
        differences: Of each of the others to the first one.
        tiou: Overlap from which on an action counts as found.
        confidence: Share of the replicates within each interval.
        replicates: R.
    """

    truth: GroundTruth
    systems: tuple[Measured, ...]
    differences: tuple[Difference, ...]
    tiou: float
    confidence: float
    replicates: int

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON-like dict."""
        return {
            "videos": list(self.truth.videos),
            "labels": list(self.truth.labels),
            "instances": len(self.truth.label),
            "tiou": self.tiou,
            "confidence": self.confidence,
            "replicates": self.replicates,
            "systems": [one.to_json() for one in self.systems],
            "differences": [one.to_json() for one in self.differences],
        }


def compare(
    truth: GroundTruth,
    candidates: Sequence[Candidate],
    tiou_thresholds: Sequence[float] | None = None,
    *,
    tiou: float = TIOU,
    replicates: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare detections of the same videos.

    Args:
        truth: The instances of these videos.
        candidates: Two or more; the first is what the others are compared with. Detections in other videos, and of
            classes that the truth lacks, do not count.
        tiou_thresholds: Of mAP; ActivityNet's if not given.
        tiou: Overlap from which on an action counts as found.
        replicates: R.
        confidence: Share of the replicates within each interval.
        seed: Of the draws.

    Raises:
        LofiError: If there are fewer than two candidates, or ``tiou``, ``replicates`` or ``confidence`` is not allowed.
    """
    if len(candidates) < 2:
        raise LofiError(f"{len(candidates)} candidates: a comparison needs two or more.")
    if not 0 < tiou <= 1:
        raise LofiError(f"tiou={tiou:g} must lie above 0 and at most at 1, as 0.5.")
    if replicates < 2 or not 0 < confidence < 1:
        raise LofiError(f"replicates={replicates} must be at least 2, confidence={confidence:g} between 0 and 1.")
    draws = _Draws(replicates, confidence, seed)
    inside = [_inside(truth, one) for one in candidates]
    trials = [_Trial.of(truth, one, tiou_thresholds, tiou, draws) for one in inside]
    return Comparison(
        truth=truth,
        systems=tuple(trial.measured for trial in trials),
        differences=tuple(trial.minus(trials[0], truth, draws) for trial in trials[1:]),
        tiou=tiou,
        confidence=confidence,
        replicates=replicates,
    )


def _inside(truth: GroundTruth, one: Candidate) -> Candidate:
    known = set(truth.videos)
    return replace(one, detections=[segments for segments in one.detections if segments.video_id in known])


@dataclass(frozen=True)
class _Draws:
    """How the videos are drawn."""

    replicates: int
    confidence: float
    seed: int

    def weigh(self, table: Floats) -> Floats:
        """Return the sums over the drawn videos of a table ``(V, K)``: ``(R, K)``."""
        draws = draw_videos(len(table), self.replicates, self.seed)
        return np.concatenate([weights @ table for weights in draws])


@dataclass(frozen=True, eq=False)
class _Trial:
    """A measured system with what the paired differences need: replicates, and counts by video."""

    measured: Measured
    matched: dict[str, Matched]
    samples: dict[str, Floats]  # (R, T) by way
    classes: Floats  # (R, C)
    counts: Floats  # (V, 3): shown, right, there
    errors: Floats  # (V, K): each of MISTAKES

    @classmethod
    def of(
        cls, truth: GroundTruth, one: Candidate, thresholds: Sequence[float] | None, tiou: float, draws: _Draws
    ) -> _Trial:
        matched = match_ways(truth, one.detections, thresholds)
        samples = {way: replicated_map(part, draws.replicates, draws.seed) for way, part in matched.items()}
        own = matched["fused"].detections
        verdicts = of_matched(match_detections(truth, own if one.several else one_label(own), [tiou]))
        shown = choose_thresholds(verdicts) if one.thresholds is None else one.thresholds
        mistakes = find_mistakes(truth, own, shown, tiou, several=one.several)
        lowest = min(ACTIVITYNET_THRESHOLDS if thresholds is None else thresholds)
        measured = Measured(
            name=one.name,
            scores={way: result_of(part) for way, part in matched.items()},
            intervals={
                way: of_replicates(_map(part), samples[way], part, draws.confidence) for way, part in matched.items()
            },
            point=measure(verdicts, shown, replicates=draws.replicates, confidence=draws.confidence, seed=draws.seed),
            chosen_here=one.thresholds is None,
            mistakes=mistakes,
            diagnosis=diagnose_arrays(matched["fused"]) if lowest > MINIMUM_TIOU else None,
        )
        classes = replicated_classes(matched["fused"], draws.replicates, draws.seed)
        return cls(measured, matched, samples, classes, _counts(verdicts, shown), _errors(truth, mistakes))

    def minus(self, first: _Trial, truth: GroundTruth, draws: _Draws) -> Difference:
        """Return the difference of this system to the first one."""
        ours, theirs, confidence = self.measured, first.measured, draws.confidence
        labels = ours.scores["fused"].per_class
        average = [labels[name].average - theirs.scores["fused"].per_class[name].average for name in labels]
        rates = _rates(draws.weigh(self.counts)) - _rates(draws.weigh(first.counts))
        now = _rates(self.counts.sum(axis=0)) - _rates(first.counts.sum(axis=0))
        errors = self.errors - first.errors
        return Difference(
            first=theirs.name,
            second=ours.name,
            ways={
                way: of_replicates(
                    _map(part) - _map(first.matched[way]),
                    self.samples[way] - first.samples[way],
                    part,
                    confidence,
                    difference=True,
                )
                for way, part in self.matched.items()
            },
            classes=_intervals(labels, average, self.classes - first.classes, confidence),
            rates=_intervals(RATES, now, rates, confidence),
            errors=_intervals(MISTAKES, errors.sum(axis=0), draws.weigh(errors), confidence),
            videos=find_changes(truth, theirs.mistakes, ours.mistakes),
        )


def _intervals(
    names: Iterable[str], values: Iterable[float], samples: Floats, confidence: float
) -> dict[str, Interval]:
    """Return the intervals of K figures by name, from replicates ``(R, K)``."""
    columns = zip(names, values, samples.T, strict=True)
    return {name: shifted_interval(float(value), draws, confidence) for name, value, draws in columns}


def _map(matched: Matched) -> Floats:
    value: Floats = class_average_precision(matched)[0].mean(axis=0)
    return value


def _counts(verdicts: Verdicts, thresholds: Thresholds) -> Floats:
    """Return what is shown, right and there in each video: ``(V, 3)``."""
    limits = np.array([thresholds.of(label) for label in verdicts.labels])
    shown = verdicts.score >= limits[verdicts.label]
    parts = (verdicts.video[shown], verdicts.video[shown & verdicts.right], verdicts.instance_video)
    return np.stack([np.bincount(part, minlength=verdicts.videos) for part in parts], axis=1).astype(np.float64)


def _errors(truth: GroundTruth, mistakes: Mistakes) -> Floats:
    """Return the number of each of :data:`MISTAKES` in each video: ``(V, K)``."""
    place = {name: number for number, name in enumerate(truth.videos)}
    table = np.zeros((len(truth.videos), len(MISTAKES)))
    for one in mistakes.videos:
        table[place[one.video_id]] = [one.counts[kind] for kind in MISTAKES]
    return table


def _rates(counts: Floats) -> Floats:
    """Return precision (1 if nothing is shown), recall and F1 of counts ``(..., 3)``."""
    shown, right, there = np.moveaxis(counts, -1, 0)
    precision = np.where(shown > 0, right / np.maximum(shown, 1), 1.0)
    return np.stack([precision, right / np.maximum(there, 1), 2 * right / np.maximum(shown + there, 1)], axis=-1)
