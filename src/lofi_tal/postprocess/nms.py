"""Soft non-maximum suppression, batched over videos.

The semantics are those of the loop published with BSN and used by G-TAD
(wzmsltw/BSN-boundary-sensitive-network, ``post_processing.py``; Frostinassiky/gtad, branch ``anet``,
``gtad_postprocess.py``): take the best proposal, decay every other one by its overlap with it, repeat. All
videos of a chunk take this step together. In a video that is a chunk by itself a step touches only what is near, as
there may be hours of it.

Legend: V videos, N proposals of one video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lofi_tal.errors import DataError, LofiError

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

# So many proposals are processed together that their rows stay in the cache.
_CHUNK = 12_800


def check_gate(gate: tuple[float, float]) -> tuple[float, float]:
    """Return the thresholds of a gate.

    Raises:
        LofiError: If they are no overlaps 0 <= t1 <= t2 <= 1.
    """
    if not 0 <= gate[0] <= gate[1] <= 1:
        raise LofiError(f"gate={list(gate)} of soft-NMS: overlaps 0 <= t1 <= t2 <= 1 are needed, such as [0.5, 0.9].")
    return gate


@dataclass(frozen=True)
class Suppression:
    """How overlapping proposals are suppressed.

    Args:
        sigma: Width of the Gaussian: a proposal that overlaps a better one by IoU is multiplied by
            ``exp(-IoU² / sigma)``. It is not an IoU threshold; larger is milder. 0.84 in the paper, 0.8 in
            G-TAD, 0.4 in BMN.
        top_k: Most proposals kept of one video.
        gate: BMN decays only overlaps above ``t1 + (t2 - t1) · w``, where w is the length of the better
            proposal as a share of the video and ``gate = (t1, t2)``, (0.5, 0.9) there; None decays every
            overlap.
        keep_last: The published loop stops when one proposal is left and never emits it, so a single proposal
            vanishes; true emits it.

    Raises:
        LofiError: If ``sigma`` is not positive, ``top_k`` is less than 1, or ``gate`` is no pair of growing overlaps.
    """

    sigma: float = 0.84
    top_k: int = 100
    gate: tuple[float, float] | None = None
    keep_last: bool = False

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise LofiError(f"sigma={self.sigma} of soft-NMS must be above 0 (0.84 in the paper).")
        if self.top_k < 1:
            raise LofiError(f"top_k={self.top_k} of soft-NMS must be at least 1.")
        if self.gate is not None:
            check_gate(self.gate)


BMN_SUPPRESSION = Suppression(sigma=0.4, gate=(0.5, 0.9))
"""The gated variant of BMN; proposals must be shares of the video."""


@overload
def soft_nms(
    segments: Tensor,
    scores: Tensor,
    sigma: float = ...,
    top_k: int = ...,
    *,
    gate: tuple[float, float] | None = ...,
    keep_last: bool = ...,
) -> tuple[Tensor, Tensor]: ...
@overload
def soft_nms(
    segments: ArrayLike,
    scores: ArrayLike,
    sigma: float = ...,
    top_k: int = ...,
    *,
    gate: tuple[float, float] | None = ...,
    keep_last: bool = ...,
) -> tuple[Floats, Floats]: ...
def soft_nms(
    segments: Any,
    scores: Any,
    sigma: float = 0.84,
    top_k: int = 100,
    *,
    gate: tuple[float, float] | None = None,
    keep_last: bool = False,
) -> tuple[Any, Any]:
    """Suppress the overlapping proposals of one video.

    Args:
        segments: ``(N, 2)`` start and end, in any unit (shares of the video if there is a gate).
        scores: ``(N,)``, none negative.
        sigma: See :class:`Suppression`, also for the arguments below.
        top_k: Most proposals kept.
        gate: BMN's thresholds, or None.
        keep_last: Emit the last proposal too.

    Returns:
        Kept segments ``(K, 2)`` and their decayed scores ``(K,)`` by falling score; of equal scores the
        earlier in the input comes first. fp64 arrays, or tensors of the input's type if ``scores`` is a
        tensor.

    Raises:
        DataError: If shapes disagree or a number is not finite.
    """
    kept, decayed = soft_nms_indices([segments], [scores], Suppression(sigma, top_k, gate, keep_last))[0]
    if isinstance(scores, Tensor):
        chosen = torch.from_numpy(kept).to(scores.device)
        return torch.as_tensor(segments)[chosen], torch.from_numpy(decayed).to(scores)
    return np.asarray(segments, dtype=np.float64).reshape(-1, 2)[kept], decayed


def soft_nms_indices(
    segments: Sequence[ArrayLike | Tensor],
    scores: Sequence[ArrayLike | Tensor],
    suppression: Suppression = Suppression(),
    labels: Sequence[ArrayLike | Tensor] | None = None,
) -> list[tuple[Indices, Floats]]:
    """Suppress overlapping proposals of many videos at once.

    Args:
        segments: V arrays ``(N_i, 2)``.
        scores: V arrays ``(N_i,)``.
        suppression: The rule.
        labels: V arrays ``(N_i,)`` of classes: proposals then suppress only those of their own class, and the
            best ``top_k`` of all classes are kept. Not given, all proposals of a video suppress each other.

    Returns:
        For each video the positions of the kept proposals, by falling score, and their decayed scores.

    Raises:
        DataError: If shapes disagree or a number is not finite.
    """
    videos = [_checked(s, p, number) for number, (s, p) in enumerate(zip(segments, scores, strict=True))]
    if labels is not None:
        return _by_class(videos, labels, suppression)
    return _all(videos, suppression)


def _by_class(
    videos: list[tuple[Floats, Floats]], labels: Sequence[ArrayLike | Tensor], suppression: Suppression
) -> list[tuple[Indices, Floats]]:
    """Suppress within each video and class, and merge the classes of a video."""
    members: list[tuple[int, Indices]] = []
    for video, ((_, scores), classes) in enumerate(zip(videos, labels, strict=True)):
        classes = np.asarray(classes.detach().cpu() if isinstance(classes, Tensor) else classes).reshape(-1)
        if classes.shape != scores.shape:
            raise DataError(f"soft-NMS of video {video}: {len(classes)} labels for {len(scores)} scores.")
        members += [(video, np.flatnonzero(classes == label)) for label in np.unique(classes)]
    groups = [(videos[video][0][index], videos[video][1][index]) for video, index in members]
    results: list[list[tuple[Indices, Floats]]] = [[] for _ in videos]
    for (video, index), (kept, decayed) in zip(members, _all(groups, suppression), strict=True):
        results[video].append((index[kept], decayed))
    merged = []
    for pieces in results:
        kept = np.concatenate([piece[0] for piece in pieces] or [np.zeros(0, np.int64)])
        decayed = np.concatenate([piece[1] for piece in pieces] or [np.zeros(0)])
        best = np.lexsort((kept, -decayed))[: suppression.top_k]
        merged.append((kept[best], decayed[best]))
    return merged


def _all(videos: list[tuple[Floats, Floats]], suppression: Suppression) -> list[tuple[Indices, Floats]]:
    """Suppress within each video, in chunks of videos of like size."""
    results: list[tuple[Indices, Floats]] = [(np.zeros(0, np.int64), np.zeros(0))] * len(videos)
    order = sorted(range(len(videos)), key=lambda index: len(videos[index][1]))
    while order:
        widest = len(videos[order[-1]][1])
        count = max(1, _CHUNK // max(1, widest))
        chunk, order = order[-count:], order[:-count]
        batch = [videos[index] for index in chunk]
        suppressed = [_suppress_long(*batch[0], suppression)] if len(batch) == 1 else _suppress(batch, suppression)
        for index, result in zip(chunk, suppressed, strict=True):
            results[index] = result
    return results


def _checked(segments: ArrayLike | Tensor, scores: ArrayLike | Tensor, video: int) -> tuple[Floats, Floats]:
    """Return fp64 arrays ``(N, 2)`` and ``(N,)``."""
    segments, scores = (
        np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x, dtype=np.float64) for x in (segments, scores)
    )
    if segments.size == 0 and scores.size == 0:
        return np.zeros((0, 2)), np.zeros(0)
    if segments.shape != (*scores.shape, 2) or scores.ndim != 1:
        raise DataError(
            f"soft-NMS of video {video}: segments have shape {segments.shape} and scores {scores.shape}; "
            "expected (N, 2) and (N,)."
        )
    if not (np.isfinite(segments).all() and np.isfinite(scores).all()):
        raise DataError(f"soft-NMS of video {video}: a segment or a score is not a finite number.")
    return segments, scores


def _suppress(videos: list[tuple[Floats, Floats]], rule: Suppression) -> list[tuple[Indices, Floats]]:
    """Run the loop for all ``videos`` in step; a padded or emitted proposal has score -1."""
    counts = np.array([len(scores) for _, scores in videos])
    width = int(counts.max(initial=0))
    start, end = np.zeros((2, len(videos), width))
    scores = np.full((len(videos), width), -1.0)
    for row, (segments, values) in enumerate(videos):
        start[row, : len(values)], end[row, : len(values)] = segments.T
        scores[row, : len(values)] = values
    length = end - start
    budget = np.array([_budget(count, rule) for count in counts.tolist()])
    rounds = int(budget.max(initial=0))
    kept = np.full((len(videos), rounds), -1, dtype=np.int64)
    decayed = np.zeros((len(videos), rounds))
    rows = np.arange(len(videos))
    for step in range(rounds):
        best = scores.argmax(axis=1)
        value = scores[rows, best]
        active = (step < budget) & (value > 0)
        if not active.any():
            break
        kept[active, step] = best[active]
        decayed[active, step] = value[active]
        scores *= _decay(start, end, length, rows, best, rule)
        scores[rows, best] = -1.0
    return [(indices[indices >= 0], values[indices >= 0]) for indices, values in zip(kept, decayed, strict=True)]


def _suppress_long(segments: Floats, values: Floats, rule: Suppression) -> tuple[Indices, Floats]:
    """Run the loop for one video; of proposals sorted by their start, those that can overlap another are neighbours."""
    order = np.argsort(segments[:, 0], kind="stable")
    position = np.argsort(order)
    start, end = segments[order].T
    length = end - start
    reach = length.max(initial=0.0)
    scores = values.copy()
    kept: list[int] = []
    decayed: list[float] = []
    for _ in range(_budget(len(scores), rule)):
        best = int(scores.argmax())
        if scores[best] <= 0:
            break
        kept.append(best)
        decayed.append(float(scores[best]))
        low, high = (
            np.searchsorted(start, segments[best, 0] - reach),
            np.searchsorted(start, segments[best].max(), "right"),
        )
        near = slice(low, high)
        here = np.array([position[best] - low])
        factor = _decay(start[None, near], end[None, near], length[None, near], np.zeros(1, np.int64), here, rule)
        scores[order[near]] *= factor[0]
        scores[best] = -1.0
    return np.array(kept, dtype=np.int64), np.array(decayed)


def _budget(count: int, rule: Suppression) -> int:
    """Return the most of ``count`` proposals that are emitted: the published loop runs while more than one is left."""
    return min(count if rule.keep_last else count - 1, rule.top_k)


def _decay(start: Floats, end: Floats, length: Floats, rows: Indices, best: Indices, rule: Suppression) -> Floats:
    """Return the factor ``(V, N)`` of every proposal given the best of each video."""
    chosen = (rows, best)
    overlap = np.minimum(end, end[chosen][:, None])
    overlap -= np.maximum(start, start[chosen][:, None])
    np.maximum(overlap, 0.0, out=overlap)
    union = length + length[chosen][:, None]
    union -= overlap
    # Two empty segments have union 0: they do not overlap.
    np.divide(overlap, union, out=overlap, where=union > 0)
    factor = np.exp(overlap * overlap / -rule.sigma)
    if rule.gate is not None:
        low, high = rule.gate
        factor[overlap <= (low + (high - low) * length[chosen])[:, None]] = 1.0
    return factor
