"""Score voting: boundaries moved to the weighted mean of the proposals that agree.

As in happyharrycn/actionformer_release and sming256/OpenTAD (``voting_thresh``, 0.95 on ActivityNet): each
kept segment becomes the mean of all proposals before suppression that overlap it enough, weighted by score · IoU.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lofi_tal.errors import LofiError

Floats = NDArray[np.float64]


def vote(kept: ArrayLike, segments: ArrayLike, scores: ArrayLike, threshold: float = 0.95) -> Floats:
    """Return refined segments ``(K, 2)`` of one video.

    Args:
        kept: ``(K, 2)`` segments after suppression.
        segments: ``(N, 2)`` all proposals before it (of the same class, if proposals have labels).
        scores: ``(N,)`` their scores, none negative.
        threshold: Smallest IoU of a proposal that has a vote.

    Raises:
        LofiError: If ``threshold`` is not in (0, 1].
    """
    if not 0 < threshold <= 1:
        raise LofiError(f"voting threshold {threshold} must be above 0 and at most 1 (0.95 on ActivityNet).")
    chosen = np.asarray(kept, dtype=np.float64).reshape(-1, 2)
    every = np.asarray(segments, dtype=np.float64).reshape(-1, 2)
    inter = np.minimum(chosen[:, None, 1], every[:, 1]) - np.maximum(chosen[:, None, 0], every[:, 0])
    np.maximum(inter, 0.0, out=inter)
    union = (chosen[:, 1] - chosen[:, 0])[:, None] + (every[:, 1] - every[:, 0]) - inter
    iou = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
    weight = np.where(iou >= threshold, iou * np.asarray(scores, dtype=np.float64).reshape(-1), 0.0)
    total = weight.sum(axis=1, keepdims=True)
    # A segment without any vote (empty, or all scores 0) stays.
    refined: Floats = np.where(total > 0, weight @ every / np.where(total > 0, total, 1.0), chosen)
    return refined
