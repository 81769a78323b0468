"""From features to detections: the head's proposals, soft-NMS and class scores.

The head looks at windows; their proposals are brought together as shares of the video, and all that follows knows
whole videos only.

Shapes: C channels, L snippets of a window, S of a video, N proposals of one video, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lofi_tal.classifier import ProposalClassifier, class_probabilities
from lofi_tal.config import DetectSection
from lofi_tal.errors import DataError
from lofi_tal.features import FeatureSet, window_features
from lofi_tal.heads import Head, Proposals
from lofi_tal.postprocess import ClassScores, Suppression, as_events, label_proposals, soft_nms_indices, vote
from lofi_tal.segments import Segments
from lofi_tal.snippets import Window, Windows
from lofi_tal.video import Clock

SLACK = 2.0
"""Snippets by which a window must see a proposal better than another one to have it alone."""


MOST_SCORED = 2000
"""Most pairs of a proposal and a class, of one window, that suppression looks at (as ActionFormer before its NMS)."""


class ClassScorer(NamedTuple):
    """What gives proposals their classes before suppression, so that each class is suppressed by itself.

    Args:
        classifier: Fitted with ``multi_label``; None for a head whose proposals carry labels.
        pooling: Over what the class scores are taken; one of :data:`~lofi_tal.classifier.POOLINGS`.
    """

    classifier: ProposalClassifier | None
    pooling: str

    def __call__(self, features: Tensor, proposals: Proposals, most: int = MOST_SCORED) -> Proposals:
        """Return the best pairs of a proposal and a class, score × probability of the class, by falling score.

        Args:
            features: ``(C, L)`` of the video, on the CPU.
            proposals: Of the video; those with labels are returned as they are.
            most: How many pairs.
        """
        if proposals.labels is not None or self.classifier is None:
            return proposals
        segments, scores = proposals.segments, proposals.scores
        table = class_probabilities(self.classifier, features, segments, scores, self.pooling) * scores[:, None]
        best = table.flatten().sort(descending=True, stable=True)
        row, label = best.indices[:most] // table.shape[1], best.indices[:most] % table.shape[1]
        return Proposals(segments[row], best.values[:most], label)


@torch.inference_mode()
def localise(
    head: Head,
    features: Sequence[Tensor],
    windows: Windows,
    options: DetectSection,
    *,
    scorer: ClassScorer | None = None,
    batch: int = 32,
) -> list[Proposals]:
    """Return the proposals of each video after soft-NMS, as shares of the video, by falling score.

    Args:
        head: In eval mode.
        features: ``(C, S)`` on the CPU for each video; moved to the head's device batch by batch.
        windows: How videos are cut.
        options: Decoding preset, soft-NMS.
        scorer: Gives classes before soft-NMS if ``options.multi_label``; without it, proposals stay as the head made
            them.
        batch: Windows at once; one if videos keep their numbers of snippets, for then each is seen as a whole.
    """
    device = next(head.parameters()).device
    batch = 1 if windows.keep else batch
    counts = [video.shape[1] for video in features]
    cut = [[Window(0, count, count)] if windows.keep else windows.cut(count) for count in counts]
    items = [(video, window) for video, parts in zip(features, cut, strict=True) for window in parts]
    seen: list[Proposals] = []
    for first in range(0, len(items), batch):
        inputs = torch.stack([window_features(*item) for item in items[first : first + batch]])
        seen += head.proposals(head(inputs.to(device)), options.preset)
    merged = []
    for parts in cut:
        merged.append(merge_windows(seen[: len(parts)], parts))
        del seen[: len(parts)]
    lengths = [parts[0].of / parts[0].count for parts in cut]
    if scorer is not None and options.multi_label:
        most = [math.ceil(MOST_SCORED * max(1.0, length)) for length in lengths]
        merged = [scorer(*video) for video in zip(features, merged, most, strict=True)]
    return suppress(merged, lengths, options)


def merge_windows(by_window: Sequence[Proposals], windows: Sequence[Window]) -> Proposals:
    """Bring the proposals of one video's windows together, without seams.

    A proposal counts in the window that sees it best: the one in which it lies farthest from the window's ends (an end
    that is the video's own does not count). So what one window cuts is left to the one that sees it whole, and no
    action is reported by several windows. A proposal is dropped if another window sees all of it at least
    :data:`SLACK` snippets farther from its ends. As long as windows place an action within that of each other, it
    cannot fall between them; where they are as good, both may propose it, and equal segments are taken once.
    What lies beyond the end of a short video is cut.

    Args:
        by_window: Proposals of each window, as shares of the window.
        windows: All windows of the video, in order.

    Returns:
        Proposals as shares of the video; those of several windows by falling score.
    """
    if windows[0].whole:
        return by_window[0]
    count, total = windows[0].count, windows[0].of
    first = torch.tensor([window.first for window in windows], dtype=torch.float64)
    low = torch.where(first == 0, -torch.inf, first)
    high = torch.where(first + count >= total, torch.inf, first + count)
    places, kept = [], []
    for number, proposals in enumerate(by_window):
        # in snippets of the video, rounded: the same anchor has the same numbers in every window
        span = (proposals.segments.double() * count + first[number]).round(decimals=3).clamp(max=total)
        others = ((first - first[number]).abs() < count) & (first != first[number])
        margin = torch.minimum(span[:, 0] - low[number], high[number] - span[:, 1])
        elsewhere = torch.minimum(span[:, :1] - low[others], high[others] - span[:, 1:])  # (N, others), below 0 if cut
        keep = (elsewhere < margin[:, None] + SLACK).all(1) & (span[:, 0] < total)
        places.append(span[keep])
        kept.append(keep)
    scores = torch.cat([p.scores[keep] for p, keep in zip(by_window, kept, strict=True)])
    labels = [p.labels[keep] for p, keep in zip(by_window, kept, strict=True) if p.labels is not None]
    spans = torch.cat(places)
    order = scores.argsort(descending=True, stable=True)
    rows = torch.cat([spans, torch.cat(labels)[:, None]], 1) if labels else spans
    _, once = np.unique(rows[order].numpy(), axis=0, return_index=True)  # the best of equal ones
    chosen = order[torch.from_numpy(np.sort(once))]
    return Proposals((spans[chosen] / total).float(), scores[chosen], torch.cat(labels)[chosen] if labels else None)


def suppress(proposals: Sequence[Proposals], lengths: Sequence[float], options: DetectSection) -> list[Proposals]:
    """Return the proposals of each video after soft-NMS, by falling score.

    Args:
        proposals: Of each video.
        lengths: Of the videos in windows; a video of several keeps so many times ``top_k`` proposals.
        options: Soft-NMS.
    """
    limits = [math.ceil(options.top_k * max(1.0, length)) for length in lengths]
    labels = [p.labels for p in proposals if p.labels is not None]  # classes do not suppress each other
    kept = soft_nms_indices(
        [p.segments for p in proposals],
        [p.scores for p in proposals],
        Suppression(options.sigma, max(limits, default=options.top_k), options.gate, keep_last=True),
        labels=labels if len(labels) == len(proposals) else None,
    )
    results = []
    for p, limit, (indices, scores) in zip(proposals, limits, kept, strict=True):
        index = torch.from_numpy(indices[:limit])
        chosen = Proposals(
            p.segments[index],
            torch.from_numpy(scores[:limit]).float(),
            None if p.labels is None else p.labels[index],
        )
        results.append(chosen if options.vote is None else _voted(chosen, p, options.vote))
    return results


def _voted(kept: Proposals, everything: Proposals, threshold: float) -> Proposals:
    """Return what is kept with its ends moved to the mean of the proposals, of its class, that agree."""
    segments = kept.segments.clone()
    classes = [None] if kept.labels is None else torch.unique(kept.labels).tolist()
    for label in classes:
        ours = slice(None) if kept.labels is None else kept.labels == label
        theirs = slice(None) if everything.labels is None else everything.labels == label
        refined = vote(kept.segments[ours], everything.segments[theirs], everything.scores[theirs], threshold)
        segments[ours] = torch.from_numpy(refined).to(segments)
    return kept._replace(segments=segments)


def fuse(
    video_id: str,
    clock: Clock,
    features: Tensor,
    proposals: Proposals,
    classifier: ProposalClassifier | None,
    labels: Sequence[str],
    options: DetectSection,
    pooling: str = "proposal",
    events: float | None = None,
) -> Segments:
    """Give proposals their classes: each one is emitted for its best classes with score × class probability.

    Point events get their times, and of those of a class that are near each other the best is kept.

    Args:
        video_id: Id of the video.
        clock: Turns shares of the video into times.
        features: ``(C, L)`` on the CPU.
        proposals: After soft-NMS.
        classifier: Class scores; None for a head whose proposals carry labels.
        labels: Class names.
        options: How many classes each proposal gets.
        pooling: Over what the class scores are taken; one of :data:`~lofi_tal.classifier.POOLINGS`.
        events: Width of the segments that stand for point events, in seconds; None if they are no events.
    """
    if proposals.labels is not None:
        found = labelled(video_id, clock, proposals.segments, proposals.scores, proposals.labels, labels)
    elif classifier is None:
        raise DataError("This head gives no classes and there is no classifier: fit one with the head.")
    else:
        probabilities = class_probabilities(classifier, features, proposals.segments, proposals.scores, pooling)
        best = probabilities.topk(min(options.classes, len(labels)), dim=1)
        count = best.indices.shape[1]
        scores = (proposals.scores[:, None] * best.values).flatten()
        segments = proposals.segments.repeat_interleave(count, 0)
        confidence = proposals.scores.repeat_interleave(count)
        found = labelled(video_id, clock, segments, scores, best.indices.flatten(), labels, confidence).sorted()
    return as_events(found, events, options.spacing, begin=clock.start)


def fuse_all(
    data: FeatureSet,
    proposals: Sequence[Proposals],
    classifier: ProposalClassifier | None,
    labels: Sequence[str],
    options: DetectSection,
    pooling: str,
    events: float | None,
) -> list[Segments]:
    """Return what :func:`fuse` makes of the proposals of each video."""
    return [
        fuse(video.video_id, video.clock, features, one, classifier, labels, options, pooling, events)
        for video, features, one in zip(data.videos, data.features, proposals, strict=True)
    ]


def with_class_scores(
    video_id: str,
    clock: Clock,
    proposals: Proposals,
    scores: ClassScores,
    options: DetectSection,
    events: float | None = None,
) -> Segments:
    """Return every proposal for the video's best classes in a file, score × class score (G-TAD's and BMN's fusion).

    Point events, of the width ``events``, are treated as by :func:`fuse`.
    """
    chosen, label, fused = label_proposals(proposals.scores.double().numpy(), scores.of(video_id), options.classes)
    index = torch.from_numpy(chosen)
    segments, confidence = proposals.segments[index], proposals.scores[index]
    found = labelled(
        video_id, clock, segments, torch.from_numpy(fused), torch.from_numpy(label), scores.labels, confidence
    ).sorted()
    return as_events(found, events, options.spacing, begin=clock.start)


def labelled(
    video_id: str,
    clock: Clock,
    segments: Tensor,
    scores: Tensor,
    classes: Tensor,
    labels: Sequence[str],
    confidence: Tensor | None = None,
) -> Segments:
    """Return segments ``(N, 2)``, shares of the video, with the names of their classes ``(N,)``, in seconds.

    Scores and, where classes changed them, the proposals' own scores are ``(N,)``.
    """
    spans = clock.seconds(segments.double().clamp(0, 1).numpy())
    names = tuple(labels[i] for i in classes.tolist())
    proposal_score = None if confidence is None else confidence.double().numpy()
    return Segments(video_id, spans[:, 0], spans[:, 1], names, scores.double().numpy(), clock.end, proposal_score)
