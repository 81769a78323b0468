"""How good detections are: mAP with own classes, without classes, and with the true ones; and what is worth showing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lofi_tal.data import TruthVideo
from lofi_tal.evaluation import (
    DetectionResult,
    GroundTruth,
    as_one_class,
    detections_of,
    ground_truth_of,
    score_detections,
)
from lofi_tal.evaluation.matching import pairwise_tiou
from lofi_tal.heads import Proposals
from lofi_tal.segments import Segments
from lofi_tal.stages.localise import labelled


@dataclass(frozen=True)
class Scores:
    """Detection mAP three ways.

    Args:
        fused: With the system's own class scores: the honest figure.
        agnostic: All classes as one, each proposal once: how good the proposals are.
        oracle: With the true class of each video: what perfect class scores would give.
    """

    fused: DetectionResult
    agnostic: DetectionResult
    oracle: DetectionResult

    def to_json(self) -> dict[str, Any]:
        """Return the three results as JSON-like dicts."""
        return {name: result.to_json() for name, result in vars(self).items()}

    def summary(self) -> dict[str, float]:
        """Return the three average mAPs."""
        return {name: result.average_mAP for name, result in vars(self).items()}


def evaluate(
    truth: GroundTruth,
    videos: Sequence[TruthVideo],
    proposals: Sequence[Proposals],
    fused: Sequence[Segments],
    labels: Sequence[str],
    tiou: Sequence[float] | None = None,
) -> Scores:
    """Evaluate detections three ways.

    Detections of classes that the ground truth does not have do not count, as in the official evaluator.

    Args:
        truth: The instances.
        videos: Videos that were looked at.
        proposals: Of each of them.
        fused: Detections with the system's own classes.
        labels: Class names.
        tiou: Thresholds; ActivityNet's without them.
    """
    oracle = [with_true_class(v, p, labels) for v, p in zip(videos, proposals, strict=True)]
    return Scores(
        fused=evaluate_known(truth, fused, tiou),
        agnostic=evaluate_known(as_one_class(truth), fused, tiou),
        oracle=evaluate_known(truth, oracle, tiou),
    )


def evaluate_known(
    truth: GroundTruth, detections: Sequence[Segments], tiou: Sequence[float] | None = None
) -> DetectionResult:
    """Evaluate detections; those of classes that the ground truth does not have do not count."""
    return score_detections(truth, detections_of(detections, truth), tiou)


def truth_of(videos: Sequence[TruthVideo], labels: Sequence[str], subset: str) -> GroundTruth:
    """Return the truth of some videos, to evaluate on exactly these."""
    return ground_truth_of([video.to_segments(labels) for video in videos], subset)


def with_true_class(video: TruthVideo, proposals: Proposals, labels: Sequence[str]) -> Segments:
    """Return every proposal once for each true class of its video: what a perfect video classifier would give."""
    classes = torch.unique(video.labels)
    if not len(classes):  # nothing true in it: these can only be false positives, of any class
        classes = torch.zeros(1, dtype=torch.long)
    count = len(classes)
    return labelled(
        video.video_id,
        video.clock,
        proposals.segments.repeat_interleave(count, 0),
        proposals.scores.repeat_interleave(count, 0),
        classes.repeat(len(proposals.segments)),
        labels,
    )


def best_threshold(detections: Sequence[Segments], videos: Sequence[TruthVideo], labels: Sequence[str]) -> float:
    """Return the score threshold with the best F1 at tIoU 0.5: what is worth showing to a person.

    Args:
        detections: Of videos whose truth is known and that training has not seen.
        videos: The same videos, in the same order.
        labels: Class names.
    """
    hits: list[tuple[float, bool]] = []
    instances = sum(len(video.labels) for video in videos)
    for detected, video in zip(detections, videos, strict=True):
        truth = video.to_segments(labels)
        spans = np.stack([truth.start, truth.end], 1)
        classes, free = np.array(truth.label, dtype=object), np.ones(len(truth), dtype=bool)
        ranked = detected.sorted()
        for start, end, label, score in zip(ranked.start, ranked.end, ranked.label, ranked.score, strict=True):
            near = pairwise_tiou(np.tile((start, end), (len(truth), 1)), spans) >= 0.5
            matches = np.flatnonzero(free & near & (classes == label))
            free[matches[:1]] = False
            hits.append((float(score), len(matches) > 0))
    if not hits or not instances:
        return 0.0
    hits.sort(key=lambda item: -item[0])
    right = np.cumsum([hit for _, hit in hits])
    f1 = 2 * right / (np.arange(1, len(hits) + 1) + instances)
    return hits[int(f1.argmax())][0]
