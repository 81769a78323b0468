"""How far chance in the choice of videos moves mAP: bootstrap over videos.

A replicate draws as many videos as there are, with replacement (Efron, "Bootstrap Methods", 1979). What a
detection matches does not depend on other videos, so a replicate only weighs detections and instances by how
often their video is drawn. Two systems are compared on equal draws, which cancels what makes a draw easy or
hard for both.

Legend: R replicates, V videos, C classes, N detections, T tIoU thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lofi_tal.errors import LofiError, counted
from lofi_tal.evaluation.detection import Matched, class_average_precision, match_detections
from lofi_tal.evaluation.documents import Document, load_detections, load_ground_truth

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

FEWEST_VIDEOS = 10
"""With fewer videos no interval is to be trusted. That of a mean of normal values, with a nominal 95 %, holds the true
mean in 90 % of the cases with 10 videos, in 84 % with 5 and in 60 % with 2: the quantiles of the bootstrap lack both
Student's t and the factor n / (n - 1) of the variance (Hesterberg, "What Teachers Should Know About the Bootstrap",
2015)."""

# Replicates that are weighed together: bounds the memory.
_CHUNK = 100


def few_videos_warning(videos: int) -> str | None:
    """Return what to say beside intervals over so few videos; None with :data:`FEWEST_VIDEOS` or more."""
    if videos >= FEWEST_VIDEOS:
        return None
    return (
        f"Do not trust the intervals: they are over {counted(videos, 'video')}, and with fewer than "
        f"{FEWEST_VIDEOS} they are too narrow, so a difference may be chance even if its interval does not hold 0."
    )


@dataclass(frozen=True)
class Interval:
    """A figure and its bootstrap interval.

    Resampling by itself moves mAP up (a video drawn twice fills the precision-recall curves of its small
    classes), so the replicates are shifted to have the figure as their mean; the interval is that of the
    shifted replicates.

    Args:
        value: On the videos as they are.
        low: Lower end of the interval.
        high: Upper end.
        deviation: Standard deviation over the replicates.
    """

    value: float
    low: float
    high: float
    deviation: float

    def to_json(self) -> dict[str, float]:
        """Return the interval as a dict."""
        return dict(vars(self))


@dataclass(frozen=True)
class BootstrapResult:
    """Intervals of detection mAP, or of the difference of two systems.

    Args:
        average_mAP: Of the mean over the thresholds.
        mAP: At each threshold.
        tiou_thresholds: The thresholds.
        confidence: Share of the replicates within each interval.
        replicates: R.
        videos: V.
        positive: Share of the replicates in which the average mAP is above 0; of a difference, how often the
            second system is better.
    """

    average_mAP: Interval  # noqa: N815
    mAP: tuple[Interval, ...]  # noqa: N815
    tiou_thresholds: tuple[float, ...]
    confidence: float
    replicates: int
    videos: int
    positive: float

    @property
    def warning(self) -> str | None:
        """What to say beside the intervals if they are over too few videos."""
        return few_videos_warning(self.videos)

    def to_json(self) -> dict[str, Any]:
        """Return the result as a JSON-like dict."""
        return {
            **vars(self),
            "warning": self.warning,
            "average_mAP": self.average_mAP.to_json(),
            "mAP": [interval.to_json() for interval in self.mAP],
            "tiou_thresholds": list(self.tiou_thresholds),
        }


def bootstrap_detections(
    ground_truth: Document,
    detections: Document,
    subset: str = "validation",
    tiou_thresholds: Sequence[float] | None = None,
    *,
    baseline: Document | None = None,
    replicates: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    exclude: Collection[str] = (),
    only: Collection[str] | None = None,
    class_agnostic: bool = False,
    ignore_ambiguous: bool = False,
) -> BootstrapResult:
    """Return confidence intervals of detection mAP over videos.

    Args:
        ground_truth: Path or parsed document.
        detections: Path or parsed document.
        subset: Subset of the ground truth.
        tiou_thresholds: 0.50:0.05:0.95 if not given.
        baseline: Detections of another system: the figures are then ``detections`` minus ``baseline`` on
            equal draws.
        replicates: R.
        confidence: Share of the replicates within the interval.
        seed: Of the draws.
        exclude: Video ids to leave out on both sides.
        only: Video ids to keep, if not all.
        class_agnostic: As :func:`lofi_tal.evaluation.evaluate_detections`.
        ignore_ambiguous: As :func:`lofi_tal.evaluation.evaluate_detections`.

    Raises:
        DataError: As :func:`lofi_tal.evaluation.evaluate_detections`.
        LofiError: If ``replicates`` or ``confidence`` is out of range.
    """
    if replicates < 2:
        raise LofiError(f"replicates={replicates} of the bootstrap must be at least 2.")
    if not 0 < confidence < 1:
        raise LofiError(f"confidence={confidence} of the bootstrap must lie between 0 and 1, as 0.95.")
    truth = load_ground_truth(
        ground_truth, subset, exclude=exclude, only=only, class_agnostic=class_agnostic, ambiguous=ignore_ambiguous
    )
    systems = [
        match_detections(truth, load_detections(document, truth), tiou_thresholds)
        for document in (detections, baseline)
        if document is not None
    ]
    return bootstrap_matched(systems, replicates, confidence, seed)


def bootstrap_matched(
    systems: Sequence[Matched], replicates: int = 1000, confidence: float = 0.95, seed: int = 0
) -> BootstrapResult:
    """Return the intervals of one system, or of the first minus the second."""
    value = _difference([class_average_precision(system)[0].mean(axis=0) for system in systems])
    samples = _difference([replicated_map(system, replicates, seed) for system in systems])
    return of_replicates(value, samples, systems[0], confidence, difference=len(systems) > 1)


def of_replicates(
    value: Floats, samples: Floats, matched: Matched, confidence: float = 0.95, *, difference: bool = False
) -> BootstrapResult:
    """Return the intervals of mAP, or of its difference, from replicates that are there already.

    Args:
        value: ``(T,)`` on the videos as they are.
        samples: ``(R, T)``, of :func:`replicated_map` or the difference of two.
        matched: Whose thresholds and videos they are.
        confidence: Share of the replicates within each interval.
        difference: They are differences, which may be below 0; mAP may not, however the replicates are shifted.
    """
    samples = samples + (value - samples.mean(axis=0))
    least = -1.0 if difference else 0.0
    average = samples.mean(axis=1)
    return BootstrapResult(
        average_mAP=_interval(float(value.mean()), average, confidence, least, 1.0),
        mAP=tuple(_interval(float(v), s, confidence, least, 1.0) for v, s in zip(value, samples.T, strict=True)),
        tiou_thresholds=tuple(matched.thresholds.tolist()),
        confidence=confidence,
        replicates=len(samples),
        videos=len(matched.truth.videos),
        positive=float((average > 0).mean()),
    )


def shifted_interval(
    value: float, samples: Floats, confidence: float = 0.95, least: float = -math.inf, most: float = math.inf
) -> Interval:
    """Return the interval of a figure from its replicates ``(R,)``, shifted to have the figure as their mean.

    Replicates that are NaN have nothing to count and are passed over. Without two others nothing is known: a difference
    of shares lies between -1 and 1. Ends beyond ``least`` and ``most`` are cut there.
    """
    draws = samples[np.isfinite(samples)]
    if len(draws) < 2:
        return Interval(value, -1.0, 1.0, 0.0)
    return _interval(value, draws + (value - draws.mean()), confidence, least, most)


def replicated_map(matched: Matched, replicates: int, seed: int = 0) -> Floats:
    """Return the mAP at each threshold on ``replicates`` draws of the videos: ``(R, T)``.

    The draws depend on ``seed`` and the number of videos alone, so that replicates of two systems on the same videos
    are pairs, whenever and wherever they were computed.
    """
    draws = draw_videos(len(matched.truth.videos), replicates, seed)
    return np.concatenate([weighted_map(matched, weights) for weights in draws])


def draw_videos(videos: int, replicates: int, seed: int, at_once: int = _CHUNK) -> Iterator[Indices]:
    """Yield how often each of ``videos`` is drawn, ``(R, V)``, in parts of at most ``at_once`` replicates."""
    generator = np.random.default_rng(seed)
    for begin in range(0, replicates, at_once):
        yield generator.multinomial(videos, np.full(videos, 1 / videos), min(at_once, replicates - begin))


def weighted_map(matched: Matched, weights: Indices) -> Floats:
    """Return the mAP at each threshold of videos that count several times or not at all.

    Equal to evaluating documents in which each video stands ``weights`` times. Classes whose instances all
    have weight 0 are not in the mean.

    Args:
        matched: Detections.
        weights: ``(R, V)``.

    Returns:
        ``(R, T)``.
    """
    total = np.zeros((len(weights), len(matched.thresholds)))
    classes = np.zeros(len(weights))
    for ap, drawn in weighted_class_ap(matched, weights):
        total += ap
        classes += drawn
    return total / np.maximum(classes, 1)[:, None]


def weighted_class_ap(matched: Matched, weights: Indices) -> Iterator[tuple[Floats, Mask]]:
    """Yield for each class its AP ``(R, T)``, and in which replicates it has an instance ``(R,)``."""
    truth = matched.truth
    video = matched.detections.video[matched.order]
    label = matched.detections.label[matched.order]
    bounds = np.searchsorted(label, np.arange(len(truth.labels) + 1))
    for class_index in range(len(truth.labels)):
        rows = slice(bounds[class_index], bounds[class_index + 1])
        instances = weights[:, truth.video[truth.label == class_index]].sum(axis=1)
        # A video outside the subset is never drawn: it counts once.
        weight = np.where(video[rows] >= 0, weights[:, video[rows]], 1).astype(np.float64)
        counted = None if matched.counted is None else matched.counted[rows]
        area = _weighted_ap(weight, matched.instance[rows] >= 0, counted)
        yield area / np.maximum(instances, 1)[:, None], instances > 0


def class_intervals(
    matched: Matched, replicates: int = 500, confidence: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Return the interval of the average AP of each class, by label; over the draws in which it has an instance."""
    samples = replicated_classes(matched, replicates, seed)
    values = class_average_precision(matched)[0].mean(axis=1).tolist()
    found = {}
    for label, column, value in zip(matched.truth.labels, samples.T, values, strict=True):
        draws = column[np.isfinite(column)]
        found[label] = (
            _interval(value, draws, confidence, 0.0, 1.0) if len(draws) > 1 else Interval(value, 0.0, 1.0, 0.0)
        )
    return found


def replicated_classes(matched: Matched, replicates: int, seed: int = 0) -> Floats:
    """Return the average AP of each class on draws of the videos ``(R, C)``; NaN where a class has no instance.

    The draws are those of :func:`replicated_map`.
    """
    draws = draw_videos(len(matched.truth.videos), replicates, seed)
    parts = [
        np.stack(
            [np.where(drawn, ap.mean(axis=1), np.nan) for ap, drawn in weighted_class_ap(matched, weights)], axis=1
        )
        for weights in draws
    ]
    return np.concatenate(parts)


def _weighted_ap(weight: Floats, hit: Mask, counted: Mask | None) -> Floats:
    """Return Σ over hits of weight × interpolated precision: ``(R, T)``.

    Copies of a hit stand together, and precision rises along them, so its value after the last copy holds for
    all.
    """
    drawn = np.cumsum(weight, axis=1)
    areas = np.zeros((len(weight), hit.shape[1]))
    for column in range(hit.shape[1]):
        hits = np.flatnonzero(hit[:, column])
        if not len(hits):
            continue
        if counted is not None:
            drawn = np.cumsum(weight * counted[:, column], axis=1)
        ours = weight[:, hits]
        precision = np.cumsum(ours, axis=1) / np.maximum(drawn[:, hits], 1.0)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        areas[:, column] = (ours * envelope).sum(axis=1)
    return areas


def _difference(values: list[Floats]) -> Floats:
    """Return the first of one, or the first minus the second of two."""
    return values[0] if len(values) == 1 else values[0] - values[1]


def _interval(
    value: float, samples: Floats, confidence: float, least: float = -math.inf, most: float = math.inf
) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return Interval(value, max(least, float(low)), min(most, float(high)), float(samples.std(ddof=1)))
