"""The losses of ActionFormer's points, with and without trident regression.

Sources: happyharrycn/actionformer_release and dingfengshi/TriDet, ``libs/modeling/meta_archs.py``.

Shapes: B videos, P points of all levels, K classes, N positive points, or N true pairs of a point and a class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lofi_tal.heads.actionformer.decode import ActionFormerOutputs
from lofi_tal.heads.actionformer.points import Points, assign, focal_loss, level_points
from lofi_tal.heads.actionformer.trident import weighed
from lofi_tal.heads.anchor_free_losses import distance_loss, distance_overlap
from lofi_tal.heads.losses import weighted_positives

_DECIMALS = 4  # of times in steps: shares in fp32 have no more at T = 2,304


def point_losses(
    outputs: ActionFormerOutputs,
    segments: Sequence[Tensor],
    labels: Sequence[Tensor],
    *,
    divisor: Callable[[Tensor], Tensor],
    smoothing: float,
    iou_power: float,
    weights: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the focal loss of all classes and the DIoU loss of the positive points.

    Args:
        outputs: Of the head.
        segments: B tensors ``(N_i, 2)`` as shares of the video.
        labels: B tensors ``(N_i,)``.
        divisor: Given which points are positive, ``(B, P)``, returns what both losses are divided by.
        smoothing: Share of each class target that is spread over K + 1 classes.
        iou_power: Of the trident regression.
        weights: ``(K,)``, of the positive entries of the focal loss; None weighs all alike.
    """
    logits = torch.cat(outputs.logits, dim=1)
    points, classes = level_points([part.shape[1] for part in outputs.logits], logits.device), logits.shape[2]
    pairs = [_targets(*video, points, classes) for video in zip(segments, labels, outputs.lengths, strict=True)]
    class_target, distance_target = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    positive = class_target.sum(dim=2) > 0
    focal = focal_loss(logits, class_target * (1 - smoothing) + smoothing / (classes + 1))
    focal = weighted_positives(focal, class_target, weights)
    if outputs.masks is not None:
        valid = torch.cat(outputs.masks, dim=1)
        positive, focal = positive & valid, focal * valid[:, :, None]
    divided = divisor(positive)
    if outputs.borders is None:  # a point has one segment, whatever its classes
        found, wanted = torch.cat(outputs.offsets, dim=1)[positive], distance_target[positive]
    else:
        true = (class_target > 0) & positive[:, :, None]
        video, point, label = true.nonzero(as_tuple=True)
        found, wanted = outputs.distances(video, point, label), distance_target[video, point]
        focal = weighed(focal, true, distance_overlap(found, wanted), iou_power)
    located = distance_loss(found, wanted)
    return {"classification": focal.sum() / divided, "regression": located.sum() / divided}


def _targets(segments: Tensor, labels: Tensor, length: int, points: Points, classes: int) -> tuple[Tensor, Tensor]:
    """Return what the points of one video should say, on their device."""
    steps = (segments.double().reshape(-1, 2) * length - 0.5).round(decimals=_DECIMALS).float()
    lasting = steps[:, 1] > steps[:, 0]
    where = points.time.device
    steps, labels = (part[lasting].to(where, non_blocking=True) for part in (steps, labels))
    return assign(steps, labels, points, classes)
