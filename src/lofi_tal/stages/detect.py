"""From features to detections: the head's proposals, soft-NMS, class scores, and the three ways to evaluate them.

The head looks at windows; their proposals are brought together as shares of the video, and all that follows knows
whole videos only.

Shapes: C channels, L snippets of a window, S of a video, N proposals of one video, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lofi_tal.classifier import ProposalClassifier, class_probabilities
from lofi_tal.errors import DataError
from lofi_tal.evaluation import DetectionResult, evaluate_detections
from lofi_tal.evaluation.matching import pairwise_tiou
from lofi_tal.heads import Head, Proposals
from lofi_tal.postprocess import ClassScores, Suppression, label_proposals, soft_nms_indices
from lofi_tal.segments import Segments, detections_to_activitynet
from lofi_tal.snippets import Window, Windows
from lofi_tal.stages.data import TruthVideo


@dataclass(frozen=True)
class DetectOptions:
    """Options of post-processing; the recipe's section `detect` documents each, ``pooling`` is chosen by data."""

    preset: str = "fixed"
    sigma: float = 0.84
    top_k: int = 100
    classes: int = 2
    pooling: str = "proposal"


SLACK = 2.0
"""Snippets by which a window must see a proposal better than another one to have it alone."""


@torch.inference_mode()
def localise(
    head: Head, features: Sequence[Tensor], windows: Windows, options: DetectOptions, *, batch: int = 32
) -> list[Proposals]:
    """Return the proposals of each video after soft-NMS, as shares of the video, by falling score.

    Args:
        head: In eval mode.
        features: ``(C, S)`` on the CPU for each video; moved to the head's device batch by batch.
        windows: How videos are cut.
        options: Decoding preset, soft-NMS.
        batch: Windows at once.
    """
    device = next(head.parameters()).device
    cut = [windows.cut(video.shape[1]) for video in features]
    items = [(video, window) for video, parts in zip(features, cut, strict=True) for window in parts]
    seen: list[Proposals] = []
    for first in range(0, len(items), batch):
        part = torch.stack([window_features(*item) for item in items[first : first + batch]])
        seen += head.proposals(head(part.to(device)), options.preset)
    found = []
    for parts in cut:
        found.append(merge_windows(seen[: len(parts)], parts))
        del seen[: len(parts)]
    return suppress(found, [parts[0].of / parts[0].count for parts in cut], options)


def window_features(features: Tensor, window: Window | None) -> Tensor:
    """Return the part ``(C, L)`` of a video's features ``(C, S)`` that a window sees."""
    return features if window is None or window.whole else features[:, torch.from_numpy(window.snippets)]


def merge_windows(found: Sequence[Proposals], windows: Sequence[Window]) -> Proposals:
    """Bring the proposals of one video's windows together, without seams.

    A proposal counts in the window that sees it best: the one in which it lies farthest from the window's ends (an end
    that is the video's own does not count). So what one window cuts is left to the one that sees it whole, and no
    action is reported by several windows. A proposal is dropped if another window sees all of it at least
    :data:`SLACK` snippets farther from its ends. As long as windows place an action within that of each other, it
    cannot fall between them; where they are as good, both may propose it, and equal segments are taken once.
    What lies beyond the end of a short video is cut.

    Args:
        found: Proposals of each window, as shares of the window.
        windows: All windows of the video, in order.

    Returns:
        Proposals as shares of the video; those of several windows by falling score.
    """
    if windows[0].whole:
        return found[0]
    count, total = windows[0].count, windows[0].of
    first = torch.tensor([window.first for window in windows], dtype=torch.float64)
    low = torch.where(first == 0, -torch.inf, first)
    high = torch.where(first + count >= total, torch.inf, first + count)
    places, kept = [], []
    for number, proposals in enumerate(found):
        # in snippets of the video, rounded: the same anchor has the same numbers in every window
        span = (proposals.segments.double() * count + first[number]).round(decimals=3).clamp(max=total)
        others = ((first - first[number]).abs() < count) & (first != first[number])
        margin = torch.minimum(span[:, 0] - low[number], high[number] - span[:, 1])
        elsewhere = torch.minimum(span[:, :1] - low[others], high[others] - span[:, 1:])  # (N, others), below 0 if cut
        keep = (elsewhere < margin[:, None] + SLACK).all(1) & (span[:, 0] < total)
        places.append(span[keep])
        kept.append(keep)
    scores = torch.cat([p.scores[keep] for p, keep in zip(found, kept, strict=True)])
    labels = [p.labels[keep] for p, keep in zip(found, kept, strict=True) if p.labels is not None]
    spans = torch.cat(places)
    order = scores.argsort(descending=True, stable=True)
    rows = torch.cat([spans, torch.cat(labels)[:, None]], 1) if labels else spans
    _, once = np.unique(rows[order].numpy(), axis=0, return_index=True)  # the best of equal ones
    chosen = order[torch.from_numpy(np.sort(once))]
    return Proposals((spans[chosen] / total).float(), scores[chosen], torch.cat(labels)[chosen] if labels else None)


def suppress(found: Sequence[Proposals], lengths: Sequence[float], options: DetectOptions) -> list[Proposals]:
    """Return the proposals of each video after soft-NMS, by falling score.

    Args:
        found: Proposals of each video.
        lengths: Of the videos in windows; a video of several keeps so many times ``top_k`` proposals.
        options: Soft-NMS.
    """
    limits = [math.ceil(options.top_k * max(1.0, length)) for length in lengths]
    labels = [p.labels for p in found if p.labels is not None]  # classes do not suppress each other
    kept = soft_nms_indices(
        [p.segments for p in found],
        [p.scores for p in found],
        Suppression(sigma=options.sigma, top_k=max(limits, default=options.top_k), keep_last=True),
        labels=labels if len(labels) == len(found) else None,
    )
    results = []
    for p, limit, (places, scores) in zip(found, limits, kept, strict=True):
        index = torch.from_numpy(places[:limit])
        results.append(
            Proposals(
                p.segments[index],
                torch.from_numpy(scores[:limit]).float(),
                None if p.labels is None else p.labels[index],
            )
        )
    return results


def fuse(
    video_id: str,
    duration: float,
    features: Tensor,
    proposals: Proposals,
    classifier: ProposalClassifier | None,
    labels: Sequence[str],
    options: DetectOptions,
) -> Segments:
    """Give proposals their classes: each one is emitted for its best classes with score × class probability.

    Args:
        video_id: Id of the video.
        duration: Seconds, which turn shares of the video into times.
        features: ``(C, L)`` on the CPU.
        proposals: After soft-NMS.
        classifier: Class scores; None for a head whose proposals carry labels.
        labels: Class names.
        options: How many classes each proposal gets, and how their scores are pooled.
    """
    if proposals.labels is not None or classifier is None:
        if proposals.labels is None:
            raise DataError("This head gives no classes and there is no classifier: fit one with the head.")
        return _segments(video_id, duration, proposals.segments, proposals.scores, proposals.labels, labels)
    probabilities = class_probabilities(classifier, features, proposals.segments, proposals.scores, options.pooling)
    best = probabilities.topk(min(options.classes, len(labels)), dim=1)
    count = best.indices.shape[1]
    scores = (proposals.scores[:, None] * best.values).flatten()
    segments = proposals.segments.repeat_interleave(count, 0)
    return _segments(video_id, duration, segments, scores, best.indices.flatten(), labels).sorted()


def with_true_class(video: TruthVideo, proposals: Proposals, labels: Sequence[str]) -> Segments:
    """Return every proposal once for each true class of its video: what a perfect video classifier would give."""
    classes = torch.unique(video.labels)
    if not len(classes):  # nothing true in it: these can only be false positives, of any class
        classes = torch.zeros(1, dtype=torch.long)
    count = len(classes)
    return _segments(
        video.video_id,
        video.duration,
        proposals.segments.repeat_interleave(count, 0),
        proposals.scores.repeat_interleave(count, 0),
        classes.repeat(len(proposals.segments)),
        labels,
    )


def with_class_scores(
    video_id: str, duration: float, proposals: Proposals, scores: ClassScores, classes: int
) -> Segments:
    """Return every proposal for the video's best classes in a file, score × class score (G-TAD's and BMN's fusion)."""
    place, kind, fused = label_proposals(proposals.scores.double().numpy(), scores.of(video_id), classes)
    segments = proposals.segments[torch.from_numpy(place)]
    return _segments(
        video_id, duration, segments, torch.from_numpy(fused), torch.from_numpy(kind), scores.labels
    ).sorted()


def _segments(
    video_id: str, duration: float, segments: Tensor, scores: Tensor, classes: Tensor, labels: Sequence[str]
) -> Segments:
    spans = segments.double().clamp(0, 1).numpy() * duration
    names = tuple(labels[i] for i in classes.tolist())
    return Segments(video_id, spans[:, 0], spans[:, 1], names, scores.double().numpy(), duration)


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
            _segments(
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
