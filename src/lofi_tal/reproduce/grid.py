"""What a grid of L snippets can find at all: the best recall of its anchors, and how many of them are positive.

An anchor is a pair of snippet borders (s/L, e/L). A coarse grid has no anchor near a short action; that bounds recall,
whatever the encoder, and leaves videos without a positive anchor to learn from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lofi_tal.data import TruthVideo
from lofi_tal.evaluation import ACTIVITYNET_THRESHOLDS
from lofi_tal.evaluation.matching import pairwise_tiou

_POSITIVE = 0.9  # tIoU from which on an anchor is a positive of G-TAD's and BMN's classification loss


@dataclass(frozen=True)
class GridFacts:
    """What a grid can find.

    Args:
        snippets: L.
        recall: Largest recall at tIoU 0.5 on the evaluated videos.
        average_recall: Mean of the largest recalls at tIoU 0.5:0.05:0.95.
        positives: Anchors with tIoU above 0.9 to an instance, a training video.
        without: Share of the training videos that have none.
    """

    snippets: int
    recall: float
    average_recall: float
    positives: float
    without: float


def grid_facts(snippets: int, train: Sequence[TruthVideo], evaluation: Sequence[TruthVideo]) -> GridFacts:
    """Return what a grid of ``snippets`` can find."""
    best = np.concatenate([_overlaps(snippets, video).max(axis=1) for video in evaluation if len(video.labels)])
    thresholds = np.asarray(ACTIVITYNET_THRESHOLDS)
    recalls = (best[:, None] >= thresholds).mean(axis=0)
    counts = np.array([(_overlaps(snippets, video).max(axis=0) > _POSITIVE).sum() for video in train])
    return GridFacts(
        snippets, float(recalls[0]), float(recalls.mean()), float(counts.mean()), float((counts == 0).mean())
    )


def _overlaps(snippets: int, video: TruthVideo) -> NDArray[np.float64]:
    """Return the tIoU of each instance of a video with each anchor, ``(N, A)``."""
    anchors = np.stack(np.triu_indices(snippets + 1, 1), axis=1) / snippets
    ours = video.segments.double().numpy()
    each = np.repeat(ours, len(anchors), axis=0), np.tile(anchors, (len(ours), 1))
    return pairwise_tiou(*each).reshape(len(ours), len(anchors))
