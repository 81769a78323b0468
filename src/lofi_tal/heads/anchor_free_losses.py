"""Points, targets and losses of the anchor-free head.

Sources: Tian et al., "FCOS" (ICCV 2019) for ranges and centre sampling; Lin et al., "Focal Loss" (ICCV 2017);
Zheng et al., "Distance-IoU Loss" (AAAI 2020), in one dimension as in happyharrycn/actionformer_release.

Legend: B videos, N instances of one video, K classes, P points of all levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lofi_tal.errors import LofiError

# A level is responsible for distances of 2 to 4 strides.
_REACH = 4.0
# Instances whose lengths differ by less, in snippets, have the same extent.
_SAME_LENGTH = 1e-3
_TINY = 1e-8


def level_points(lengths: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return position ``(P,)``, stride ``(P,)`` and range of distances ``(P, 2)`` of all points, in snippets.

    Level k has points every 2^k snippets. Its range is ``[2^k · 2, 2^k · 4]``; the lowest level takes
    everything shorter, the highest everything longer.
    """
    points, strides, ranges = [], [], []
    for level, count in enumerate(lengths):
        stride = float(2**level)
        low = 0.0 if level == 0 else stride * _REACH / 2
        high = float("inf") if level == len(lengths) - 1 else stride * _REACH
        points.append((torch.arange(count, device=device) + 0.5) * stride)
        strides.append(points[-1].new_full((count,), stride))
        ranges.append(points[-1].new_tensor([[low, high]]).expand(count, 2))
    return torch.cat(points), torch.cat(strides), torch.cat(ranges)


def assign_points(
    videos: Sequence[tuple[Tensor, Tensor]],
    points: Tensor,
    strides: Tensor,
    ranges: Tensor,
    snippets: int,
    classes: int,
    radius: float,
) -> tuple[Tensor, Tensor]:
    """Return what each point should say: classes ``(B, P, K)`` and distances ``(B, P, 2)`` in strides.

    A point learns an instance if it lies inside it, within ``radius`` strides of its centre, and the larger
    of its distances to start and end is in the level's range. Of several it learns the shortest, and the
    classes of all with (nearly) the same extent.

    Args:
        videos: B pairs of segments ``(N, 2)`` as shares of the video and class indices ``(N,)``; those on the CPU are
            checked there, without waiting for the device.
        points: ``(P,)`` in snippets.
        strides: ``(P,)``.
        ranges: ``(P, 2)``.
        snippets: L.
        classes: K.
        radius: In strides.

    Raises:
        LofiError: If a class index is out of range.
    """
    class_target = points.new_zeros(len(videos), len(points), classes)
    distance_target = points.new_zeros(len(videos), len(points), 2)
    for index, (segments, labels) in enumerate(videos):
        segments = segments.to(points.dtype).reshape(-1, 2).clamp(0, 1) * snippets
        inside = segments[:, 1] > segments[:, 0]
        segments, labels = segments[inside], labels[inside]
        if not len(segments):
            continue
        if int(labels.min()) < 0 or int(labels.max()) >= classes:
            raise LofiError(
                f"labels of video {index} in the batch are not all in 0 ... {classes - 1}: {labels.tolist()}."
            )
        segments, labels = (part.to(points.device, non_blocking=True) for part in (segments, labels))
        same, distance = _assign(segments, points, strides, ranges, radius)
        one_hot = functional.one_hot(labels, classes).to(points.dtype)
        class_target[index] = (same.to(points.dtype) @ one_hot).clamp(max=1)
        distance_target[index] = distance / strides[:, None]
    return class_target, distance_target


def _assign(segments: Tensor, points: Tensor, strides: Tensor, ranges: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Return the instances whose classes each point learns ``(P, N)``, and the distances to the first ``(P, 2)``.

    Segments ``(N, 2)``, points and distances are in snippets.
    """
    start, end = segments.unbind(1)
    distance = torch.stack([points[:, None] - start, end - points[:, None]], dim=2)  # (P, N, 2)
    reach = distance.amax(dim=2)
    central = (points[:, None] - (start + end) / 2).abs() <= radius * strides[:, None]
    responsible = (reach >= ranges[:, :1]) & (reach <= ranges[:, 1:])
    ours = (distance.amin(dim=2) > 0) & central & responsible
    length = torch.where(ours, end - start, torch.inf)
    same = ours & (length <= length.amin(dim=1, keepdim=True) + _SAME_LENGTH)
    chosen = same.int().argmax(dim=1)  # the first of them
    return same, distance[torch.arange(len(points), device=points.device), chosen]


def focal_loss(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return ``-α_t (1 - p_t)^γ log p_t`` of every entry, in fp32."""
    logits = logits.float()
    probability = logits.sigmoid()
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    missed = torch.where(target > 0.5, 1 - probability, probability)
    weight = torch.where(target > 0.5, alpha, 1 - alpha)
    return weight * missed**gamma * cross_entropy


def distance_overlap(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the tIoU ``(M,)`` of distances ``(M, 2)`` to start and end from a common point."""
    intersection = torch.minimum(predicted, target).sum(dim=1)
    union = predicted.sum(dim=1) + target.sum(dim=1) - intersection
    return intersection / union.clamp(min=_TINY)


def distance_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the DIoU loss of distances from a common point.

    ``1 - IoU + (distance of the centres / length of the hull)²``

    Args:
        predicted: ``(M, 2)`` distances to start and end, not negative.
        target: ``(M, 2)``, positive.

    Returns:
        ``(M,)``.
    """
    predicted, target = predicted.float(), target.float()
    hull = torch.maximum(predicted, target).sum(dim=1)
    shift = ((predicted[:, 1] - predicted[:, 0]) - (target[:, 1] - target[:, 0])) / 2
    return 1 - distance_overlap(predicted, target) + (shift / hull.clamp(min=_TINY)) ** 2
