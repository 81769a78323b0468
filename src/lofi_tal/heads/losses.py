"""Losses of boundary-matching heads (G-TAD and BMN share them), on probabilities.

Source: Frostinassiky/gtad, branch ``anet``, ``gtad_lib/loss_function.py``. Deviations, none of which changes
a loss that is finite there: a group without cells contributes nothing instead of NaN, and cells are only
drawn from their own group.

Counts are taken over the whole batch and, under DistributedDataParallel, over the batches of all ranks: each
rank's loss is scaled so that the average of the ranks' gradients is the gradient of the loss of the global
batch.

Legend: B videos, L snippets, D durations.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator] | None
EPSILON = 1e-6
POSITIVE_BOUNDARY = 0.5
POSITIVE_IOU = 0.9
HIGH_IOU = 0.7
LOW_IOU = 0.3


def boundary_loss(start: Tensor, end: Tensor, start_target: Tensor, end_target: Tensor) -> Tensor:
    """Return the balanced cross-entropy of starts plus that of ends.

    Args:
        start: ``(B, L)`` probabilities (any shape, as long as all four agree).
        end: ``(B, L)`` probabilities.
        start_target: ``(B, L)`` overlap scores; a cell is positive where ``> 0.5``.
        end_target: ``(B, L)`` overlap scores.
    """
    everywhere = torch.ones_like(start_target, dtype=torch.bool)
    return _balanced_cross_entropy(start, start_target > POSITIVE_BOUNDARY, everywhere) + (
        _balanced_cross_entropy(end, end_target > POSITIVE_BOUNDARY, everywhere)
    )


def map_classification_loss(scores: Tensor, iou_target: Tensor, valid: Tensor) -> Tensor:
    """Return the balanced cross-entropy of "this anchor has IoU > 0.9".

    Args:
        scores: ``(B, D, L)`` probabilities (channel 1 of the map).
        iou_target: ``(B, D, L)``.
        valid: ``(D, L)``, true (or 1) where the anchor lies inside the video; broadcast over the batch.
    """
    return _balanced_cross_entropy(scores, iou_target > POSITIVE_IOU, _broadcast(valid, iou_target))


def map_regression_loss(scores: Tensor, iou_target: Tensor, valid: Tensor, generator: Generators = None) -> Tensor:
    """Return half the mean squared error of the IoU over a balanced draw of anchors.

    All anchors with IoU > 0.7 are kept; of those in (0.3, 0.7] and of those in (0, 0.3] about as many are
    drawn. Anchors with IoU 0 are never used.

    Args:
        scores: ``(B, D, L)`` probabilities (channel 0 of the map).
        iou_target: ``(B, D, L)``.
        valid: ``(D, L)``, true (or 1) where the anchor lies inside the video; broadcast over the batch.
        generator: Source of the draw, on the device of ``scores``, or one on the CPU for each video, so that a video is
            drawn alike in whatever batch it stands; torch's global one if not given.
    """
    scores = scores.float()
    valid = _broadcast(valid, iou_target)
    high = (iou_target > HIGH_IOU) & valid
    middle = (iou_target > LOW_IOU) & ~(iou_target > HIGH_IOU) & valid
    low = (iou_target > 0) & ~(iou_target > LOW_IOU) & valid
    n_high, n_middle, n_low = global_counts(high, middle, low)
    if isinstance(generator, Sequence):
        noise = torch.stack([torch.rand(scores.shape[1:], generator=one) for one in generator])
        noise = noise.to(scores.device, non_blocking=True)
    else:
        noise = torch.rand(scores.shape, generator=generator, device=scores.device)
    kept = high | (middle & (noise < ratio(n_high, n_middle))) | (low & (noise < ratio(n_high, n_low)))
    (n_kept,) = global_counts(kept)
    return 0.5 * ratio(((scores - iou_target).square() * kept).sum(), n_kept)


def _balanced_cross_entropy(scores: Tensor, positive: Tensor, valid: Tensor) -> Tensor:
    """Return ``-½ [mean over positives of log(p + ε) + mean over negatives of log(1 - p + ε)]``."""
    scores = scores.float()
    positive, negative = positive & valid, ~positive & valid
    n_positive, n_negative = global_counts(positive, negative)
    gain = ratio((torch.log(scores + EPSILON) * positive).sum(), n_positive)
    gain = gain + ratio((torch.log(1 - scores + EPSILON) * negative).sum(), n_negative)
    return -0.5 * gain


def _broadcast(valid: Tensor, like: Tensor) -> Tensor:
    """Return ``valid`` as a boolean tensor of the shape of ``like``, on its device."""
    return (valid.to(like.device) > 0).expand_as(like)


def weighted_positives(losses: Tensor, positive: Tensor, weights: Tensor | None) -> Tensor:
    """Return losses in which those of positive entries are multiplied by the weight of their class.

    Args:
        losses: ``(..., K)``.
        positive: ``(..., K)``, above 0 where the entry is to be learnt as that class.
        weights: ``(K,)``; without them the losses are returned as they are.
    """
    return losses if weights is None else losses * torch.where(positive > 0, weights.to(losses), 1.0)


def global_counts(*masks: Tensor, at_least: int = 0) -> Tensor:
    """Return how many cells each mask holds in all ranks together, divided by the number of ranks.

    Args:
        masks: Boolean tensors.
        at_least: Smallest count, for divisors of a total that is not 0 when the count is.
    """
    counts = torch.stack([mask.sum() for mask in masks]).float()
    if (ranks := processes()) > 1:
        dist.all_reduce(counts)
    return counts.clamp(min=at_least) / ranks


def processes() -> int:
    """Return the number of ranks."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def ratio(total: Tensor, count: Tensor) -> Tensor:
    """Return ``total / count``, and 0 where there is nothing to count (then the total is 0 as well)."""
    return total / count.clamp(min=EPSILON)
