"""Operating points: from which score on detections are worth showing, what that gets and costs, and how sure that is.

Thresholds are chosen for each class on videos that training has not seen: for the best F1, or the lowest that has a
wanted precision. What is chosen on some videos looks better on them than on others. So the interval is that of a
bootstrap over videos in which every replicate chooses anew. Its lower end, and the figure itself, are moved down by the
optimism: how much better, on average, a replicate's own choice is on the replicate than on all videos (Efron,
"Estimating the Error Rate of a Prediction Rule", 1983; Harrell et al., "Multivariable Prognostic Models", 1996).
Intervals of precision and recall are never narrower than Wilson's for so many detections or instances ("Probable
Inference", 1927): of three that are all right, a bootstrap knows no wrong one.

Legend: N detections, V videos, R replicates, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lofi_tal.errors import LofiError
from lofi_tal.evaluation.bootstrap import Interval, draw_videos
from lofi_tal.evaluation.calibration import own_classes
from lofi_tal.evaluation.verdicts import Verdicts

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

REPLICATES = 500
CONFIDENCE = 0.95
_CELLS = 4_000_000  # numbers of a matrix at once: bounds the memory


@dataclass(frozen=True)
class Thresholds:
    """Lowest score shown, by class; infinity where nothing is worth showing.

    Args:
        pooled: Of classes without one of their own.
        classes: By label.
    """

    pooled: float
    classes: Mapping[str, float] = field(default_factory=dict)

    def of(self, label: str) -> float:
        """Return the threshold of a class."""
        return self.classes.get(label, self.pooled)

    def text(self, nothing: str) -> str:
        """Return the lowest and the highest threshold as text; ``nothing`` if none is finite."""
        values = sorted(one for one in (self.pooled, *self.classes.values()) if np.isfinite(one))
        return " to ".join(dict.fromkeys(f"{one:.3g}" for one in (values[0], values[-1]))) if values else nothing

    def to_json(self) -> dict[str, Any]:
        """Return the thresholds as a JSON-like dict; None where nothing is shown."""
        return {"pooled": _finite(self.pooled), "classes": {k: _finite(v) for k, v in self.classes.items()}}


@dataclass(frozen=True)
class Rates:
    """What is shown from a threshold on.

    Args:
        precision: Share of the shown detections that is right; 1 if nothing is shown.
        recall: Share of the instances that is found.
        f1: Harmonic mean of both.
        shown: Detections that are shown.
        right: Those of them that are right.
        instances: Instances that there are.
    """

    precision: Interval
    recall: Interval
    f1: Interval
    shown: int
    right: int
    instances: int

    def to_json(self) -> dict[str, Any]:
        """Return the rates as a JSON-like dict."""
        return {k: v.to_json() if isinstance(v, Interval) else v for k, v in vars(self).items()}


@dataclass(frozen=True)
class OperatingPoint:
    """Thresholds, and what they get.

    Args:
        thresholds: By class.
        rates: Of all classes together.
        classes: Of each class, by label.
        confidence: Share of the replicates within each interval.
        replicates: R.
        videos: V.
        optimism: How much of precision, recall and F1 was taken off since the thresholds were chosen on these videos;
            zeros where they were not.
    """

    thresholds: Thresholds
    rates: Rates
    classes: dict[str, Rates]
    confidence: float
    replicates: int
    videos: int
    optimism: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def to_json(self) -> dict[str, Any]:
        """Return the point as a JSON-like dict."""
        return {
            "thresholds": self.thresholds.to_json(),
            **self.rates.to_json(),
            "classes": {label: rates.to_json() for label, rates in self.classes.items()},
            "confidence": self.confidence,
            "replicates": self.replicates,
            "videos": self.videos,
            "optimism": dict(zip(("precision", "recall", "f1"), self.optimism, strict=True)),
        }


def choose_thresholds(verdicts: Verdicts, precision: float | None = None) -> Thresholds:
    """Return the thresholds with the best F1, or the lowest that reach a precision.

    A class has a threshold of its own if it has enough detections to be judged by itself
    (:func:`~lofi_tal.evaluation.calibration.own_classes`); the others share one, chosen on all detections.

    Args:
        verdicts: On videos that training has not seen.
        precision: Wanted share of right ones, above 0 and at most 1; None for the best F1.

    Raises:
        LofiError: If ``precision`` is out of range.
    """
    check_precision(precision)
    one = np.ones((1, verdicts.videos), dtype=np.float64)
    pooled, *own = (float(part[0]) for part in _chosen(verdicts, _groups(verdicts), one, precision))
    names = [verdicts.labels[number] for number in own_classes(verdicts)]
    return Thresholds(pooled, dict(zip(names, own, strict=True)))


def check_precision(precision: float | None) -> None:
    """Refuse a wanted precision that is none.

    Raises:
        LofiError: If it is not above 0 and at most 1.
    """
    if precision is not None and not 0 < precision <= 1:
        raise LofiError(f"precision {precision:g} is out of range; allowed: above 0 and at most 1, as 0.8.")


def measure(
    verdicts: Verdicts,
    thresholds: Thresholds,
    *,
    replicates: int = REPLICATES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> OperatingPoint:
    """Return what thresholds get that were not chosen on these videos.

    Args:
        verdicts: On the videos.
        thresholds: From elsewhere.
        replicates: R.
        confidence: Share of the replicates within each interval.
        seed: Of the draws.
    """
    limits = np.array([[thresholds.of(label)] for label in verdicts.labels])
    value = _counts(verdicts, np.ones((1, verdicts.videos)), limits)
    samples = [_counts(verdicts, weights, limits) for weights in _draws(verdicts, replicates, seed)]
    no_optimism = np.zeros((3, len(verdicts.labels) + 1))
    return _point(verdicts, thresholds, value, np.concatenate(samples, axis=2), no_optimism, confidence)


def operating_point(
    verdicts: Verdicts,
    precision: float | None = None,
    *,
    replicates: int = REPLICATES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> OperatingPoint:
    """Choose thresholds as :func:`choose_thresholds` does, and say what they will get on other videos.

    Args:
        verdicts: On videos that training has not seen.
        precision: Wanted share of right ones; None for the best F1.
        replicates: R.
        confidence: Share of the replicates within each interval.
        seed: Of the draws.

    Raises:
        LofiError: If ``precision`` is out of range.
    """
    thresholds = choose_thresholds(verdicts, precision)
    groups, source = _groups(verdicts), _sources(verdicts)
    once, fixed = np.ones((1, verdicts.videos)), np.array([[thresholds.of(label)] for label in verdicts.labels])
    samples, gaps = [], []
    for weights in _draws(verdicts, replicates, seed):
        again = np.stack(_chosen(verdicts, groups, weights, precision))[source]  # (C, R)
        gaps.append(_rates(_counts(verdicts, weights, again)) - _rates(_counts(verdicts, once, again)))
        samples.append(_counts(verdicts, weights, fixed))
    optimism = np.maximum(_mean(np.concatenate(gaps, axis=2)), 0.0)
    value = _counts(verdicts, once, fixed)
    return _point(verdicts, thresholds, value, np.concatenate(samples, axis=2), optimism, confidence)


def _groups(verdicts: Verdicts) -> list[list[int]]:
    """Return the classes on which each threshold is chosen: all together, then each that stands by itself."""
    return [list(range(len(verdicts.labels))), *([number] for number in own_classes(verdicts))]


def _sources(verdicts: Verdicts) -> Indices:
    """Return for each class the position of its group: ``(C,)``."""
    source = np.zeros(len(verdicts.labels), dtype=np.int64)
    for place, number in enumerate(own_classes(verdicts), start=1):
        source[number] = place
    return source


def _draws(verdicts: Verdicts, replicates: int, seed: int) -> Iterator[Floats]:
    """Yield how often each video is drawn, ``(R, V)``, in parts that fit into memory."""
    at_once = max(1, _CELLS // max(1, len(verdicts.score), verdicts.videos))
    for weights in draw_videos(verdicts.videos, replicates, seed, at_once):
        yield weights.astype(np.float64)


def _chosen(
    verdicts: Verdicts, groups: Sequence[Sequence[int]], weights: Floats, precision: float | None
) -> list[Floats]:
    """Return the threshold of each group of classes in each replicate: ``(R,)`` each."""
    thresholds = []
    for group in groups:
        rows = np.flatnonzero(np.isin(verdicts.label, group))
        score, ours = verdicts.score[rows], weights[:, verdicts.video[rows]]
        if not len(rows):
            thresholds.append(np.full(len(weights), np.inf))
            continue
        there = weights[:, verdicts.instance_video[np.isin(verdicts.instance_label, group)]].sum(axis=1)
        shown, right = np.cumsum(ours, axis=1), np.cumsum(ours * verdicts.right[rows], axis=1)
        allowed: NDArray[np.bool_] = np.append(score[1:] < score[:-1], [True])  # equal scores are shown together
        if precision is None:
            f1 = np.where(allowed, 2 * right / np.maximum(shown + there[:, None], 1e-12), -1.0)
            place, some = f1.argmax(axis=1), right.any(axis=1)
        else:
            reached = allowed & (right > 0) & (right >= (precision - 1e-12) * shown)
            place, some = len(rows) - 1 - reached[:, ::-1].argmax(axis=1), reached.any(axis=1)
        thresholds.append(np.where(some, score[place], np.inf))
    return thresholds


def _counts(verdicts: Verdicts, weights: Floats, limits: Floats) -> Floats:
    """Return what is shown, right and there, in all and of each class, in each replicate: ``(3, 1 + C, R)``.

    Args:
        verdicts: On the videos.
        weights: ``(W, V)``, W being R or 1.
        limits: ``(C, L)`` lowest scores, L being R or 1.
    """
    count = max(len(weights), limits.shape[1])
    table = np.zeros((3, 1 + len(verdicts.labels), count))
    for number in range(len(verdicts.labels)):
        rows = np.flatnonzero(verdicts.label == number)
        ours = weights[:, verdicts.video[rows]]
        place = np.searchsorted(-verdicts.score[rows], -limits[number], side="right")
        for row, values in enumerate((ours, ours * verdicts.right[rows])):
            total = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(values, axis=1)], axis=1)
            table[row, 1 + number] = total[np.arange(len(weights)) if len(weights) > 1 else 0, place]
        table[2, 1 + number] = weights[:, verdicts.instance_video[verdicts.instance_label == number]].sum(axis=1)
    table[:, 0] = table[:, 1:].sum(axis=1)
    return table


def _rates(counts: Floats) -> Floats:
    """Return precision, recall and F1 of counts ``(3, ...)``; NaN where there is nothing to divide by."""
    shown, right, there = counts
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([right / shown, right / there, 2 * right / (shown + there)])


def _mean(values: Floats) -> Floats:
    """Return the mean over the last axis of what is finite; 0 where nothing is."""
    there = np.isfinite(values)
    mean: Floats = np.where(there, values, 0.0).sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)
    return mean


def _point(
    verdicts: Verdicts, thresholds: Thresholds, value: Floats, samples: Floats, optimism: Floats, confidence: float
) -> OperatingPoint:
    """Return the point: figures from ``value`` (3, 1 + C, 1), intervals from ``samples`` (3, 1 + C, R)."""
    total, *classes = (
        _with_intervals(value[:, row, 0], samples[:, row], optimism[:, row], confidence)
        for row in range(1 + len(verdicts.labels))
    )
    precision, recall, f1 = optimism[:, 0].tolist()
    return OperatingPoint(
        thresholds=thresholds,
        rates=total,
        classes=dict(zip(verdicts.labels, classes, strict=True)),
        confidence=confidence,
        replicates=samples.shape[2],
        videos=verdicts.videos,
        optimism=(precision, recall, f1),
    )


def _with_intervals(value: Floats, samples: Floats, optimism: Floats, confidence: float) -> Rates:
    """Return the rates of counts ``(3,)`` with the intervals of those of all replicates ``(3, R)``."""
    tail = (1 - confidence) / 2
    found, bases = [], (float(value[0]), float(value[2]), None)
    for one, draws, less, empty, base in zip(_rates(value), _rates(samples), optimism, (1.0, 0, 0), bases, strict=True):
        draws, known = draws[np.isfinite(draws)], bool(np.isfinite(one))
        mean = max(0.0, float(one - less)) if known else empty
        low, high = np.quantile(draws, [tail, 1 - tail]).tolist() if len(draws) else (0.0, 1.0)
        low -= float(less)
        if base is not None:
            low = min(low, wilson(mean, base, confidence)[0])
            high = max(high, wilson(float(one) if known else empty, base, confidence)[1])
        deviation = float(draws.std(ddof=1)) if len(draws) > 1 else 0.0
        found.append(Interval(mean, max(0.0, low), min(1.0, high), deviation))
    precision, recall, f1 = found
    shown, right, there = (round(count) for count in value.tolist())
    return Rates(precision, recall, f1, shown=shown, right=right, instances=there)


def wilson(share: float, count: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return Wilson's interval of a share of ``count`` independent cases; all of [0, 1] if there are none.

    >>> tuple(round(end, 3) for end in wilson(1.0, 3))
    (0.438, 1.0)
    """
    if count <= 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2 / count
    middle = (share + z2 / 2) / (1 + z2)
    half = (z2 * share * (1 - share) + z2 * z2 / 4) ** 0.5 / (1 + z2)
    return max(0.0, middle - half), min(1.0, middle + half)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
