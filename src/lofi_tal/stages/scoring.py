"""How good detections are: mAP with own classes, without classes, and with the true ones; and what is worth showing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from lofi_tal.data import TruthVideo
from lofi_tal.evaluation import DetectionResult, evaluate_detections
from lofi_tal.evaluation.matching import pairwise_tiou
from lofi_tal.heads import Proposals
from lofi_tal.segments import Segments, detections_to_activitynet
from lofi_tal.stages.localise import labelled


@dataclass(frozen=True)
class Scores:
    """Detection mAP three ways.

    Args:
        fused: With the system's own class scores: the honest figure.
        agnostic: All classes as one: how good the proposals are.
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


def truth_document(videos: Iterable[TruthVideo], labels: Sequence[str], subset: str) -> dict[str, Any]:
    """Return the truth of some videos as an ActivityNet document, to evaluate on exactly these."""
    return {
        "database": {
            video.video_id: {
                "subset": subset,
                "duration": video.duration,
                "annotations": [
                    {"segment": record["segment"], "label": record["label"]}
                    for record in video.to_segments(labels).to_activitynet()
                ],
            }
            for video in videos
        }
    }


def evaluate(
    truth: dict[str, Any],
    subset: str,
    videos: Sequence[TruthVideo],
    proposals: Sequence[Proposals],
    fused: Sequence[Segments],
    labels: Sequence[str],
    tiou: Sequence[float] | None = None,
) -> Scores:
    """Evaluate detections three ways against a truth document.

    Detections of classes that the subset does not have do not count, as in the official evaluator.

    Args:
        truth: ActivityNet-style document.
        subset: Subset of it.
        videos: Videos that were looked at.
        proposals: Of each of them.
        fused: Detections with the system's own classes.
        labels: Class names.
        tiou: Thresholds; ActivityNet's without them.
    """
    known = _labels_of(truth, subset)
    oracle = [with_true_class(v, p, labels) for v, p in zip(videos, proposals, strict=True)]
    single = next(iter(known), "")
    plain = [
        replace(
            labelled(
                v.video_id, v.duration, p.segments, p.scores, torch.zeros(len(p.scores), dtype=torch.long), labels
            ),
            label=(single,) * len(p.scores),
        )
        for v, p in zip(videos, proposals, strict=True)
    ]
    return Scores(
        fused=_evaluate(truth, fused, known, subset, tiou),
        agnostic=_evaluate(truth, plain, known, subset, tiou, class_agnostic=True),
        oracle=_evaluate(truth, oracle, known, subset, tiou),
    )


def evaluate_known(
    truth: dict[str, Any], subset: str, detections: Sequence[Segments], tiou: Sequence[float] | None = None
) -> DetectionResult:
    """Evaluate detections; those of classes that the subset does not have do not count."""
    return _evaluate(truth, detections, _labels_of(truth, subset), subset, tiou)


def _labels_of(truth: dict[str, Any], subset: str) -> set[str]:
    return {
        record["label"]
        for entry in truth["database"].values()
        if entry["subset"] == subset
        for record in entry["annotations"]
    }


def _evaluate(
    truth: dict[str, Any],
    detections: Sequence[Segments],
    known: set[str],
    subset: str,
    tiou: Sequence[float] | None,
    class_agnostic: bool = False,
) -> DetectionResult:
    counted = [s[np.array([label in known for label in s.label], dtype=bool)] for s in detections]
    document = detections_to_activitynet(counted)
    return evaluate_detections(truth, document, subset, tiou, class_agnostic=class_agnostic)


def with_true_class(video: TruthVideo, proposals: Proposals, labels: Sequence[str]) -> Segments:
    """Return every proposal once for each true class of its video: what a perfect video classifier would give."""
    classes = torch.unique(video.labels)
    if not len(classes):  # nothing true in it: these can only be false positives, of any class
        classes = torch.zeros(1, dtype=torch.long)
    count = len(classes)
    return labelled(
        video.video_id,
        video.duration,
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
    for found, video in zip(detections, videos, strict=True):
        truth = video.to_segments(labels)
        spans = np.stack([truth.start, truth.end], 1)
        classes, free = np.array(truth.label, dtype=object), np.ones(len(truth), dtype=bool)
        ranked = found.sorted()
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
