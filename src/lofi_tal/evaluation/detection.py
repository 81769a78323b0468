"""Detection mAP with the semantics of the official ActivityNet evaluator.

Source: activitynet/ActivityNet, ``Evaluation/eval_detection.py``. Equal figures to rounding, except where its
result is
arbitrary: detections of equal score are taken by video id, start and end instead of in the order of an
    unstable sort.

On request one rule of the THUMOS14 challenge's evaluation (``TH14eventdetpr.m`` of its kit,
https://www.crcv.ucf.edu/THUMOS14/download.html) holds as well: a detection that matches no instance and shares
time with an ambiguous part of its video, whatever its class, is no false positive; it counts neither for nor
against. All else stays ActivityNet's: the challenge's tool goes from instance to instance, asks for a tIoU above
the threshold and averages precision at 11 recalls.

Legend: C classes, T tIoU thresholds, N detections.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lofi_tal.errors import LofiError
from lofi_tal.evaluation.documents import Detections, Document, GroundTruth, load_detections, load_ground_truth
from lofi_tal.evaluation.hints import event_hints, id_hints, time_hints
from lofi_tal.evaluation.matching import average_precision, match, overlapping_pairs, touching

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

ACTIVITYNET_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""0.50:0.05:0.95, to the bit as the official evaluator writes them: a quantised tIoU can lie exactly on one."""
THUMOS_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
THRESHOLDS = {"activitynet": ACTIVITYNET_THRESHOLDS, "thumos": THUMOS_THRESHOLDS}
"""By the name of the data set whose evaluations have them."""


@dataclass(frozen=True)
class ClassResult:
    """Average precision of one class.

    Args:
        average: Mean over the thresholds.
        ap: At each threshold.
        instances: Number of instances in the ground truth.
        detections: Number of detections.
    """

    average: float
    ap: tuple[float, ...]
    instances: int
    detections: int


@dataclass(frozen=True)
class DetectionResult:
    """Detection mAP; every figure is a share in [0, 1].

    Args:
        average_mAP: Mean of ``mAP`` over the thresholds.
        mAP: Mean over the classes at each threshold.
        tiou_thresholds: The thresholds.
        subset: Name of the evaluated subset.
        videos: Number of evaluated videos: the subset without the excluded ones.
        instances: Number of instances in them.
        detections: Number of detections of the subset's classes.
        per_class: By label, in order of first appearance.
        missing_videos: Ids of the subset with instances but without any detection: their instances count as
            missed.
        extra_videos: Ids with detections that are not in the subset: their detections count as false
            positives.
        excluded_videos: Ids of the subset that were left out on request, with their detections.
        ignored_labels: Number of detections a class that the ground truth knows but the subset lacks; they do
            not count.
        ambiguous_parts: Number of ambiguous parts in the evaluated videos; None if they were not asked for.
        ambiguous_detections: Number of detections at each threshold that do not count since they match nothing and
            overlap an ambiguous part; empty if that was not asked for.
        repeated: Number of detections that repeat a segment with another label, and do not count in class-agnostic
            evaluation.
        ranked_by: Which score ranks them: ``score`` or ``proposal_score``.
        hints: Why detections may count for nothing: ids or times that are written in another way than the ground
            truth's.
    """

    average_mAP: float  # noqa: N815
    mAP: tuple[float, ...]  # noqa: N815
    tiou_thresholds: tuple[float, ...]
    subset: str
    videos: int
    instances: int
    detections: int
    per_class: dict[str, ClassResult]
    missing_videos: tuple[str, ...]
    extra_videos: tuple[str, ...]
    excluded_videos: tuple[str, ...]
    ignored_labels: dict[str, int]
    ambiguous_parts: int | None
    ambiguous_detections: tuple[int, ...]
    repeated: int = 0
    ranked_by: str = "score"
    hints: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the result as a JSON-like dict."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}
        plain["per_class"] = {
            label: {**vars(result), "ap": list(result.ap)} for label, result in self.per_class.items()
        }
        return plain


@dataclass(frozen=True)
class Matched:
    """Detections with their verdicts, sorted by class and then by falling score.

    Args:
        truth: The ground truth.
        detections: The detections in the order of their document.
        order: ``(N,)`` positions in ``detections`` in sorted order.
        instance: ``(N, T)`` instance that each one matches, -1 for a false positive; in sorted order.
        thresholds: ``(T,)``.
        counted: ``(N, T)`` which detections count, in sorted order: those that match or overlap no ambiguous part.
            None for all.
    """

    truth: GroundTruth
    detections: Detections
    order: Indices
    instance: Indices
    thresholds: Floats
    counted: Mask | None


def evaluate_detections(
    ground_truth: Document,
    detections: Document,
    subset: str = "validation",
    tiou_thresholds: Sequence[float] | None = None,
    *,
    exclude: Collection[str] = (),
    only: Collection[str] | None = None,
    class_agnostic: bool = False,
    ignore_ambiguous: bool = False,
    ties: str = "stable",
) -> DetectionResult:
    """Evaluate detections.

    Args:
        ground_truth: Path or parsed document, ``{"database": {id: {"subset", "annotations"}}}``.
        detections: Path or parsed document, ``{"results": {id: [{"label", "score", "segment"}]}}``.
        subset: Subset of the ground truth to evaluate.
        tiou_thresholds: 0.50:0.05:0.95 if not given.
        exclude: Video ids to leave out on both sides.
        only: Video ids to keep; everything else in the subset is left out on both sides. See
            :func:`lofi_tal.evaluation.read_video_ids` for lists in files.
        class_agnostic: Treat all labels as one: every distinct segment of a video counts once, however many labels it
            is written for. It is ranked by its ``proposal_score`` if all detections have one, as those of this package
            do, or else by its best ``score``.
        ignore_ambiguous: Do not count detections that match nothing and overlap a part under ``ignored``, as the
            THUMOS14 challenge; otherwise that key is not read.
        ties: Order among equal scores: ``stable`` (by video id, start and end: the same for any order of the
            file) or ``official`` (what the official evaluator's ``argsort()[::-1]`` gives for this file and
            this NumPy).

    Raises:
        DataError: If a document is malformed, a number is not finite, a segment is reversed or a label
            unknown (the message says where), if the subset has no instance, or if there is no ambiguous part to ignore.
        LofiError: If a threshold is not in (0, 1] or ``ties`` is unknown.
    """
    truth = load_ground_truth(
        ground_truth, subset, exclude=exclude, only=only, class_agnostic=class_agnostic, ambiguous=ignore_ambiguous
    )
    return score_detections(truth, load_detections(detections, truth), tiou_thresholds, ties=ties)


def score_detections(
    truth: GroundTruth, detections: Detections, tiou_thresholds: Sequence[float] | None = None, *, ties: str = "stable"
) -> DetectionResult:
    """Evaluate detections that are arrays already; see :func:`evaluate_detections`."""
    return result_of(match_detections(truth, detections, tiou_thresholds, ties=ties))


def result_of(matched: Matched) -> DetectionResult:
    """Return the mAP of detections that are matched already."""
    truth, detections = matched.truth, matched.detections
    ap, counts = class_average_precision(matched)
    instances = np.bincount(truth.label, minlength=len(truth.labels))
    with_instances = {truth.videos[i] for i in np.unique(truth.video)}
    with_detections = {detections.videos[i] for i in np.unique(detections.video_id)}
    missing, extra = sorted(with_instances - with_detections), sorted(with_detections - set(truth.videos))
    return DetectionResult(
        average_mAP=float(ap.mean()),
        mAP=tuple(ap.mean(axis=0).tolist()),
        tiou_thresholds=tuple(matched.thresholds.tolist()),
        subset=truth.subset,
        videos=len(truth.videos),
        instances=len(truth.label),
        detections=len(detections.label),
        per_class={
            label: ClassResult(float(ap[c].mean()), tuple(ap[c].tolist()), int(instances[c]), int(counts[c]))
            for c, label in enumerate(truth.labels)
        },
        missing_videos=tuple(missing),
        extra_videos=tuple(extra),
        excluded_videos=truth.excluded,
        ignored_labels=detections.ignored_labels,
        ambiguous_parts=None if matched.counted is None else len(truth.ambiguous_video),
        ambiguous_detections=() if matched.counted is None else tuple((~matched.counted).sum(axis=0).tolist()),
        repeated=detections.repeated,
        ranked_by=detections.ranked_by,
        hints=(*id_hints(extra, missing, truth.elsewhere), *event_hints(truth.segment), *_time_hints(matched)),
    )


def _time_hints(matched: Matched) -> list[str]:
    """Say why detections of the right videos all miss, if their times look odd."""
    detections, inside = matched.detections, matched.detections.video >= 0
    if not inside.any() or (matched.instance >= 0).any():
        return []
    return time_hints(detections.segment[inside], matched.truth.duration[detections.video[inside]])


def match_detections(
    truth: GroundTruth, detections: Detections, tiou_thresholds: Sequence[float] | None = None, *, ties: str = "stable"
) -> Matched:
    """Sort detections by class and score, and decide which are true positives, and which count."""
    thresholds = np.asarray(ACTIVITYNET_THRESHOLDS if tiou_thresholds is None else tiou_thresholds, np.float64)
    if thresholds.ndim != 1 or not len(thresholds) or not ((thresholds > 0) & (thresholds <= 1)).all():
        raise LofiError(f"tiou_thresholds={tiou_thresholds}: expected at least one number above 0 and at most 1.")
    order = _ranking(detections, len(truth.labels), ties)
    # One group a video and class; videos outside the subset share a group that no instance has.
    classes = len(truth.labels)
    group = np.where(detections.video < 0, -1, detections.video * classes + detections.label)
    pairs = overlapping_pairs(
        group, detections.segment, truth.video * classes + truth.label, truth.segment, float(thresholds.min())
    )
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    instance = match(rank, group, pairs, len(truth.label), thresholds)[order]
    counted = None
    if len(truth.ambiguous_video):
        video, segment = detections.video[order], detections.segment[order]
        unsure = touching(video, segment, truth.ambiguous_video, truth.ambiguous_segment)
        counted = (instance >= 0) | ~unsure[:, None]
    return Matched(truth, detections, order, instance, thresholds, counted)


def class_average_precision(matched: Matched) -> tuple[Floats, Indices]:
    """Return the average precision of each class and threshold ``(C, T)``, and detections a class ``(C,)``."""
    truth = matched.truth
    classes = len(truth.labels)
    counts = np.bincount(matched.detections.label, minlength=classes)
    instances = np.bincount(truth.label, minlength=classes)
    bounds = np.cumsum(counts)[:-1]
    hits = np.split(matched.instance >= 0, bounds)
    counted = [None] * classes if matched.counted is None else np.split(matched.counted, bounds)
    ap = np.stack([average_precision(*one) for one in zip(hits, instances, counted, strict=True)])
    return ap, counts


def _ranking(detections: Detections, classes: int, ties: str) -> Indices:
    """Return positions ``(N,)`` by class and, within it, by falling score."""
    if ties == "stable":
        order = np.lexsort((-detections.score, detections.label))
        label, score = detections.label[order], detections.score[order]
        if not ((label[1:] == label[:-1]) & (score[1:] == score[:-1])).any():
            return order
        name = np.argsort(np.argsort(np.array(detections.videos)))[detections.video_id]
        start, end = detections.segment.T
        return np.lexsort((end, start, name, -detections.score, detections.label))
    if ties == "official":
        members = [np.flatnonzero(detections.label == c) for c in range(classes)]
        return np.concatenate([m[np.argsort(detections.score[m])[::-1]] for m in members])
    raise LofiError(f"ties={ties!r} is unknown; allowed: stable, official.")
