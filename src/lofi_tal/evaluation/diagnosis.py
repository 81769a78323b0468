"""Why detections fail: kinds of false positives, what each costs, and which instances are missed.

In the manner of Alwassel et al., "Diagnosing Error in Temporal Action Detectors" (ECCV 2018;
HumamAlwassel/DETAD): error kinds, bins of instances and the normalised precision are theirs. Characteristics
that need annotations beyond segments (agreement, context) are left out; a detection that matches an instance
outside a bin is not counted in that bin.

Legend: N detections, G instances, T tIoU thresholds, C classes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lofi_tal.errors import LofiError
from lofi_tal.evaluation.detection import Matched, class_average_precision, match_detections
from lofi_tal.evaluation.documents import Document, GroundTruth, load_detections, load_ground_truth
from lofi_tal.evaluation.matching import overlapping_pairs

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

KINDS = ("true positive", "double detection", "wrong label", "localisation", "confusion", "background")
"""What a detection is, by the instance of its video that it overlaps most, whatever its class.

With tIoU at least the threshold: *double detection* (right class, but a better one matched) or *wrong label*.
With 0.1 up to the threshold: *localisation* (right class) or *confusion* (wrong class). Below: *background*.
"""
MINIMUM_TIOU = 0.1

_BINS: dict[str, tuple[tuple[str, float], ...]] = {
    # upper edge of each bin, inclusive
    "coverage": (("XS", 0.2), ("S", 0.4), ("M", 0.6), ("L", 0.8), ("XL", np.inf)),
    "length": (("XS", 30.0), ("S", 60.0), ("M", 120.0), ("L", 180.0), ("XL", np.inf)),
    "instances": (("XS", 1), ("S", 4), ("M", 8), ("L", np.inf)),
}


@dataclass(frozen=True)
class Bin:
    """Instances of like character.

    Args:
        name: XS to XL.
        above: Lower edge, exclusive.
        up_to: Upper edge, inclusive; infinity for the last.
        instances: Number of instances.
        average_mAP_N: Normalised average mAP over these instances alone: comparable between bins of different
        size.
        missed: Share of them that no detection matches, at each threshold.
    """

    name: str
    above: float
    up_to: float
    instances: int
    average_mAP_N: float  # noqa: N815
    missed: tuple[float, ...]


@dataclass(frozen=True)
class Diagnosis:
    """Result of :func:`diagnose_detections`; every figure is a share in [0, 1].

    Args:
        tiou_thresholds: The thresholds.
        average_mAP: As :func:`lofi_tal.evaluation.evaluate_detections` gives it.
        average_mAP_N: The same with precision normalised to the mean number of instances a class.
        profile: For each threshold, rows of the share of each kind among the best 1·G, 2·G ... 10·G
            detections of every class, G being the class's number of instances.
        gain: Kind of false positive to the normalised average mAP gained if there were none of it.
        sensitivity: Character (``coverage`` of the video, ``length`` in seconds, ``instances`` of the class
            in the video) to its bins.
        missed: Share of all instances that no detection matches, at each threshold.
    """

    tiou_thresholds: tuple[float, ...]
    average_mAP: float  # noqa: N815
    average_mAP_N: float  # noqa: N815
    profile: tuple[tuple[dict[str, float], ...], ...]
    gain: dict[str, float]
    sensitivity: dict[str, tuple[Bin, ...]]
    missed: tuple[float, ...]

    def nearest_threshold(self, wanted: float = 0.5) -> int:
        """Return the index of the threshold nearest to ``wanted``."""
        return min(range(len(self.tiou_thresholds)), key=lambda index: abs(self.tiou_thresholds[index] - wanted))

    def to_json(self) -> dict[str, Any]:
        """Return the diagnosis as a JSON-like dict; an open upper edge is None."""
        return {
            "tiou_thresholds": list(self.tiou_thresholds),
            "average_mAP": self.average_mAP,
            "average_mAP_N": self.average_mAP_N,
            "profile": [list(rows) for rows in self.profile],
            "gain": self.gain,
            "missed": list(self.missed),
            "sensitivity": {
                name: [
                    {**vars(b), "up_to": b.up_to if np.isfinite(b.up_to) else None, "missed": list(b.missed)}
                    for b in bins
                ]
                for name, bins in self.sensitivity.items()
            },
        }


def diagnose_detections(
    ground_truth: Document,
    detections: Document,
    subset: str = "validation",
    tiou_thresholds: Sequence[float] | None = None,
    *,
    exclude: Collection[str] = (),
    only: Collection[str] | None = None,
    ignore_ambiguous: bool = False,
    multiples: int = 10,
) -> Diagnosis:
    """Find out why detections fail.

    Args:
        ground_truth: Path or parsed document.
        detections: Path or parsed document.
        subset: Subset of the ground truth.
        tiou_thresholds: 0.50:0.05:0.95 if not given; all above 0.1.
        exclude: Video ids to leave out on both sides.
        only: Video ids to keep, if not all.
        ignore_ambiguous: As :func:`lofi_tal.evaluation.evaluate_detections`. Detections that do not count keep their
            rank and are of no kind.
        multiples: Rows of the profile, and how many times its number of instances each class's detections are
            judged.

    Raises:
        DataError: As :func:`lofi_tal.evaluation.evaluate_detections`.
        LofiError: If a threshold is not above 0.1.
    """
    truth = load_ground_truth(ground_truth, subset, exclude=exclude, only=only, ambiguous=ignore_ambiguous)
    matched = match_detections(truth, load_detections(detections, truth), tiou_thresholds)
    if matched.thresholds.min() <= MINIMUM_TIOU:
        raise LofiError(f"tiou_thresholds must be above {MINIMUM_TIOU} for a diagnosis; got {tiou_thresholds}.")
    if multiples < 1:
        raise LofiError(f"multiples={multiples} must be at least 1.")
    return _diagnose(matched, multiples, _BINS)


def diagnose_arrays(matched: Matched, multiples: int = 10) -> Diagnosis:
    """Find out why detections that are arrays already fail; lengths are binned by the fifths of these instances."""
    return _diagnose(matched, multiples, _BINS | {"length": length_bins(matched.truth)})


def length_bins(truth: GroundTruth) -> tuple[tuple[str, float], ...]:
    """Return bins of length, name and upper edge, with a fifth of the instances each; fewer where many are equal."""
    length = truth.segment[:, 1] - truth.segment[:, 0]
    edges = sorted({float(f"{edge:.2g}") for edge in np.quantile(length, [0.2, 0.4, 0.6, 0.8])})
    names = {1: "SL", 2: "SML", 3: ("XS", "S", "M", "L"), 4: ("XS", "S", "M", "L", "XL")}[len(edges)]
    return tuple(zip(names, [*edges, np.inf], strict=True))


def _diagnose(matched: Matched, multiples: int, edges: dict[str, tuple[tuple[str, float], ...]]) -> Diagnosis:
    truth = matched.truth
    ap, counts = class_average_precision(matched)
    kinds = false_positive_kinds(matched)
    limited = _limit(matched, multiples)
    normal = len(truth.label) / len(truth.labels)
    everything = np.ones(len(truth.label), dtype=bool)
    detected = _matched_instances(limited, len(truth.label))
    return Diagnosis(
        tiou_thresholds=tuple(matched.thresholds.tolist()),
        average_mAP=float(ap.mean()),
        average_mAP_N=_normalised(limited, everything, normal),
        profile=_profile(matched, kinds, counts, multiples),
        gain=_gain(limited, kinds[np.isin(matched.order, limited.order)], normal),
        sensitivity={
            name: _sensitivity(limited, values, edges[name], detected, normal)
            for name, values in characters(truth).items()
        },
        missed=tuple((1 - detected.mean(axis=0)).tolist()),
    )


def false_positive_kinds(matched: Matched) -> Indices:
    """Return the kind of each detection at each threshold, as a position in :data:`KINDS`: ``(N, T)``, sorted order.

    Detections that do not count are of kind -1.
    """
    truth, detections = matched.truth, matched.detections
    pairs = overlapping_pairs(detections.video, detections.segment, truth.video, truth.segment, MINIMUM_TIOU)
    top = np.zeros(len(detections.score))
    right = np.zeros(len(detections.score), dtype=bool)
    # The pairs of a detection come by falling tIoU: the first is the largest.
    detection, first = np.unique(pairs.detection, return_index=True)
    top[detection] = pairs.tiou[first]
    right[detection] = truth.label[pairs.instance[first]] == detections.label[detection]
    top, right = top[matched.order][:, None], right[matched.order][:, None]
    high, middle = top >= matched.thresholds, top >= MINIMUM_TIOU
    kinds = np.select(
        [matched.instance >= 0, high & right, high, middle & right, middle],
        [np.int64(k) for k in range(5)],
        default=np.int64(5),
    )
    if matched.counted is not None:
        kinds[~matched.counted] = -1
    return kinds.astype(np.int64)


def characters(truth: GroundTruth) -> dict[str, Floats]:
    """Return what instances are binned by: ``(G,)`` each. Coverage is NaN where the duration is unknown."""
    length = truth.segment[:, 1] - truth.segment[:, 0]
    _, group, count = np.unique(truth.video * len(truth.labels) + truth.label, return_inverse=True, return_counts=True)
    duration = truth.duration[truth.video]
    coverage = np.divide(length, duration, out=np.full(len(length), np.nan), where=duration > 0)
    return {"coverage": coverage, "length": length, "instances": count[group].astype(np.float64)}


def _rank_in_class(matched: Matched) -> tuple[Indices, Indices]:
    """Return the class of each detection and its rank within the class, in sorted order."""
    label = matched.detections.label[matched.order]
    count = np.bincount(label, minlength=len(matched.truth.labels))
    return label, np.arange(len(label)) - np.repeat(np.cumsum(count) - count, count)


def _limit(matched: Matched, multiples: int) -> Matched:
    """Keep the best ``multiples`` · G detections of each class."""
    label, rank = _rank_in_class(matched)
    keep = rank < multiples * np.bincount(matched.truth.label, minlength=len(matched.truth.labels))[label]
    counted = None if matched.counted is None else matched.counted[keep]
    return replace(matched, order=matched.order[keep], instance=matched.instance[keep], counted=counted)


def _profile(
    matched: Matched, kinds: Indices, counts: Indices, multiples: int
) -> tuple[tuple[dict[str, float], ...], ...]:
    """Return the shares of each kind among the best 1·G ... ``multiples``·G detections of every class."""
    label, rank = _rank_in_class(matched)
    share = rank // np.bincount(matched.truth.label, minlength=len(matched.truth.labels))[label]
    profile = []
    for column in kinds.T:
        rows = []
        for multiple in range(1, multiples + 1):
            count = np.bincount(column[(share < multiple) & (column >= 0)], minlength=len(KINDS))
            rows.append({kind: float(n / max(1, count.sum())) for kind, n in zip(KINDS, count, strict=True)})
        profile.append(tuple(rows))
    return tuple(profile)


def _matched_instances(matched: Matched, instances: int) -> Mask:
    """Return which instances are matched at each threshold: ``(G, T)``."""
    detected = np.zeros((instances, len(matched.thresholds)), dtype=bool)
    row, column = np.nonzero(matched.instance >= 0)
    detected[matched.instance[row, column], column] = True
    return detected


def _normalised(matched: Matched, chosen: Mask, normal: float, drop: Mask | None = None) -> float:
    """Return the normalised average mAP over the chosen instances.

    Precision is that of a class with ``normal`` instances: ``R·N / (R·N + FP)`` at recall R. Classes without
    a chosen instance do not count, and neither do detections that match an instance which is not chosen.

    Args:
        matched: Detections.
        chosen: ``(G,)`` instances.
        normal: N.
        drop: ``(N, T)`` detections to leave out as well.
    """
    label = matched.detections.label[matched.order]
    instances = np.bincount(matched.truth.label[chosen], minlength=len(matched.truth.labels))
    hit = matched.instance >= 0
    counted = ~hit | chosen[matched.instance]
    if matched.counted is not None:
        counted &= matched.counted
    if drop is not None:
        counted &= ~drop
    bounds = np.searchsorted(label, np.arange(len(instances) + 1))
    values = []
    for class_index in np.flatnonzero(instances):
        rows = slice(bounds[class_index], bounds[class_index + 1])
        values.append(_normalised_ap(hit[rows] & counted[rows], counted[rows], instances[class_index], normal).mean())
    return float(np.mean(values)) if values else 0.0


def _normalised_ap(hit: Mask, counted: Mask, instances: int, normal: float) -> Floats:
    """Return the average precision at each threshold with normalised precision."""
    hits = np.cumsum(hit, axis=0) * (normal / instances)
    misses = np.cumsum(counted & ~hit, axis=0)
    precision = hits / np.maximum(hits + misses, 1e-12)
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    area: Floats = np.where(hit, envelope, 0.0).sum(axis=0) / instances
    return area


def _gain(matched: Matched, kinds: Indices, normal: float) -> dict[str, float]:
    """Return what the normalised average mAP would gain without each kind of false positive."""
    everything = np.ones(len(matched.truth.label), dtype=bool)
    now = _normalised(matched, everything, normal)
    return {
        name: _normalised(matched, everything, normal, kinds == kind) - now for kind, name in enumerate(KINDS) if kind
    }


def _sensitivity(
    matched: Matched, values: Floats, edges: tuple[tuple[str, float], ...], detected: Mask, normal: float
) -> tuple[Bin, ...]:
    """Return the figures of each bin of instances by ``values (G,)``."""
    bins = []
    above = -np.inf
    for name, up_to in edges:
        chosen = (values > above) & (values <= up_to)
        missed = 1 - detected[chosen].mean(axis=0) if chosen.any() else np.zeros(len(matched.thresholds))
        bins.append(
            Bin(
                name=name,
                above=max(0.0, float(above)),
                up_to=float(up_to),
                instances=int(chosen.sum()),
                average_mAP_N=_normalised(matched, chosen, normal),
                missed=tuple(missed.tolist()),
            )
        )
        above = up_to
    return tuple(bins)
