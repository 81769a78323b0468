"""Which detections are right: verdicts at one tIoU, on what a person is shown.

A span that carries several labels counts once, with the label that scores best, unless it is said that classes overlap.
A detection is right if it matches an instance of its class at the tIoU and no better one has taken it. Detections of
classes that the truth lacks are wrong: a person sees them.

Legend: N detections, G instances.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lofi_tal.errors import DataError
from lofi_tal.evaluation.arrays import detections_of
from lofi_tal.evaluation.detection import Matched, match_detections
from lofi_tal.evaluation.documents import Detections, Document, GroundTruth, load_detections, load_ground_truth
from lofi_tal.segments import Segments, best_of_each

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

TIOU = 0.5
"""The overlap from which on a detection is right, wherever one figure has to do."""


@dataclass(frozen=True, eq=False)
class Verdicts:
    """Detections with their verdicts, by falling score, and the instances that there are.

    Args:
        labels: Class names.
        videos: Number of videos that were looked at.
        score: ``(N,)``.
        label: ``(N,)`` position in ``labels``.
        video: ``(N,)`` number of the video.
        right: ``(N,)``.
        instance_label: ``(G,)`` position in ``labels``.
        instance_video: ``(G,)`` number of the video.

    Raises:
        DataError: If lengths differ, a position is out of range, or a score is not finite.
    """

    labels: tuple[str, ...]
    videos: int
    score: Floats
    label: Indices
    video: Indices
    right: Mask
    instance_label: Indices
    instance_video: Indices

    def __post_init__(self) -> None:
        if len({len(self.score), len(self.label), len(self.video), len(self.right)}) > 1:
            raise DataError("verdicts: scores, labels, videos and verdicts differ in length.")
        if len(self.instance_label) != len(self.instance_video):
            raise DataError("verdicts: labels and videos of the instances differ in length.")
        if not np.isfinite(self.score).all():
            raise DataError("verdicts: a score is not a finite number.")
        for name, values, most in (
            ("label", self.label, len(self.labels)),
            ("instance_label", self.instance_label, len(self.labels)),
            ("video", self.video, self.videos),
            ("instance_video", self.instance_video, self.videos),
        ):
            if len(values) and not 0 <= int(values.min()) <= int(values.max()) < most:
                raise DataError(
                    f"verdicts: {name} goes from {values.min()} to {values.max()}; allowed: 0 to {most - 1}."
                )

    def only(self, keep: NDArray[np.generic]) -> Verdicts:
        """Return some of the detections, by mask or positions; all instances."""
        kept = {name: getattr(self, name)[keep] for name in ("score", "label", "video", "right")}
        return replace(self, **kept)

    def best(self, most: int) -> Verdicts:
        """Return the ``most`` detections that score best."""
        return self if len(self.score) <= most else self.only(np.arange(most))


def judge(
    detections: Sequence[Segments],
    truth: GroundTruth,
    labels: Sequence[str] = (),
    *,
    tiou: float = TIOU,
    several: bool = False,
) -> Verdicts:
    """Return the verdicts on detections of videos whose truth is known.

    Args:
        detections: Of each video; those of videos that the truth lacks are passed over.
        truth: The instances.
        labels: All classes that the system knows, beside those of the truth.
        tiou: From which overlap on a detection is right.
        several: A span counts with each of its labels.
    """
    names = tuple(dict.fromkeys([*truth.labels, *labels, *(name for one in detections for name in one.label)]))
    known = replace(truth, labels=names)
    shown = list(detections) if several else [segments.one_label() for segments in detections]
    return _verdicts(known, detections_of(shown, known), tiou)


def judge_documents(
    ground_truth: Document,
    detections: Document,
    subset: str = "validation",
    *,
    exclude: Collection[str] = (),
    only: Collection[str] | None = None,
    ignore_ambiguous: bool = False,
    tiou: float = TIOU,
) -> Verdicts:
    """Return the verdicts on a result file; arguments and errors as :func:`lofi_tal.evaluation.evaluate_detections`."""
    truth = load_ground_truth(ground_truth, subset, exclude=exclude, only=only, ambiguous=ignore_ambiguous)
    known = replace(truth, labels=(*truth.labels, *sorted(truth.known_labels - set(truth.labels))))
    return _verdicts(known, one_label(load_detections(detections, known)), tiou)


def one_label(detections: Detections) -> Detections:
    """Return every distinct segment of a video once, with the label that scores best."""
    return detections.only(best_of_each(np.column_stack([detections.video_id, detections.segment]), detections.score))


def _verdicts(truth: GroundTruth, detections: Detections, tiou: float) -> Verdicts:
    """Return the verdicts on what is in videos of the truth and counts."""
    matched = match_detections(truth, detections.only(detections.video >= 0), [tiou])
    return of_matched(matched)


def of_matched(matched: Matched) -> Verdicts:
    """Return the verdicts at the first threshold of matched detections."""
    found, truth = matched.detections, matched.truth
    kept = matched.order if matched.counted is None else matched.order[matched.counted[:, 0]]
    right = matched.instance[:, 0] >= 0
    right = right if matched.counted is None else right[matched.counted[:, 0]]
    by_score = np.argsort(-found.score[kept], kind="stable")
    rows = kept[by_score]
    return Verdicts(
        labels=truth.labels,
        videos=len(truth.videos),
        score=found.score[rows],
        label=found.label[rows],
        video=found.video[rows],
        right=right[by_score],
        instance_label=truth.label,
        instance_video=truth.video,
    )
