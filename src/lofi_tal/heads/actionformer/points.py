"""What every point of the pyramid should say, and what it costs to say something else.

Sources: happyharrycn/actionformer_release (``libs/modeling/meta_archs.py``, ``losses.py``); Lin et al., "Focal Loss"
(ICCV 2017); Zheng et al., "Distance-IoU Loss" (AAAI 2020), in one dimension.

Shapes: B videos, N actions of one video, K classes, P points of all levels. Times are steps of the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_FIRST_RANGE = 4.0  # steps up to which the lowest level is responsible; the limit doubles from level to level
_LONGEST = 10000.0  # steps up to which the highest level is
_SAME_LENGTH = 1e-3  # actions whose lengths differ by less have the same extent


class Points(NamedTuple):
    """The points of all levels, in steps.

    Args:
        time: ``(P,)``: level l has one every 2^l steps, the first at 0.
        stride: ``(P,)``.
        low: ``(P,)``: an action is a level's business if the larger of the distances to its ends is between this
        high: ``(P,)`` and this, both included.
    """

    time: Tensor
    stride: Tensor
    low: Tensor
    high: Tensor


def level_points(lengths: Sequence[int], device: torch.device) -> Points:
    """Return the points of levels with these numbers of steps."""
    parts = []
    for level, count in enumerate(lengths):
        stride, limit = 2.0**level, _FIRST_RANGE * 2.0**level
        low, high = (0.0 if level == 0 else limit / 2), (_LONGEST if level == len(lengths) - 1 else limit)
        time = torch.arange(count, device=device, dtype=torch.float32) * stride
        parts.append((time, *(torch.full_like(time, value) for value in (stride, low, high))))
    return Points(*(torch.cat(values) for values in zip(*parts, strict=True)))


def assign(segments: Tensor, labels: Tensor, points: Points, classes: int) -> tuple[Tensor, Tensor]:
    """Return the classes ``(P, K)`` and distances ``(P, 2)``, in strides, that the points of one video should say.

    A point learns an action if it lies strictly inside it and within 1.5 strides of its centre, and the larger of its
    distances to start and end is in the range of its level. Of several it learns the shortest, and the classes of all
    that are as short.

    Args:
        segments: ``(N, 2)`` in steps.
        labels: ``(N,)``.
        points: Of all levels.
        classes: K.
    """
    time, stride = points.time[:, None], points.stride[:, None]
    if not len(segments):
        return time.new_zeros(len(time), classes), time.new_zeros(len(time), 2)
    start, end = segments.unbind(1)
    to_start, to_end = time - start, end - time  # (P, N)
    centre, radius = (start + end) / 2, 1.5 * stride
    inside = (time > torch.maximum(centre - radius, start)) & (time < torch.minimum(centre + radius, end))
    reach = torch.maximum(to_start, to_end)
    ours = inside & (reach >= points.low[:, None]) & (reach <= points.high[:, None])
    length = torch.where(ours, end - start, torch.inf)
    shortest, chosen = length.min(dim=1)
    equal = ours & (length <= shortest[:, None] + _SAME_LENGTH)
    one_hot = functional.one_hot(labels, classes).to(time.dtype)
    distances = torch.stack([to_start, to_end], dim=2)[torch.arange(len(time), device=time.device), chosen]
    return (equal.to(time.dtype) @ one_hot).clamp(max=1), distances / stride


def focal_loss(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return the focal loss of every entry; targets between 0 and 1 are mixtures of both kinds."""
    probability = logits.sigmoid()
    missed = probability + target - 2 * probability * target  # 1 - p_t
    weight = (1 - alpha) + (2 * alpha - 1) * target
    return weight * missed**gamma * functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
