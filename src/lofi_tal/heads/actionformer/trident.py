"""TriDet's trident regression: how far a point is from a border, as the mean over bins in which the border may lie.

A bin is scored by the point, which knows about how far, and by what lies in the bin, which knows how much it looks like
a border of the class. Source: Shi et al., "TriDet: Temporal Action Detection with Relative Boundary Modeling" (CVPR
2023), sec. 3.3; names and numbers are those of dingfengshi/TriDet.

Shapes: B videos, T_l points of level l, P points of all levels, K classes, n + 1 bins of one stride, N pairs of a point
and a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_LEAST = 1e-30  # of a tIoU whose root is taken: the gradient at 0 is infinite


class Borders(NamedTuple):
    """How much every point looks like a start and like an end of every class, in fp32.

    Args:
        starts: For each level ``(B, T_l, K)``, 0 outside the mask.
        ends: As starts.
    """

    starts: list[Tensor]
    ends: list[Tensor]


def expected_distances(
    offsets: Sequence[Tensor], borders: Borders, video: Tensor, point: Tensor, label: Tensor
) -> Tensor:
    """Return the distances ``(N, 2)`` of pairs to start and end, in strides of the level, between 0 and n.

    Args:
        offsets: For each level ``(B, T_l, 2, n + 1)``: what the points give each bin; those of the start run towards
            the point, those of the end away from it.
        borders: Of the same levels. Behind the ends of a level they are 0.
        video: ``(N,)``.
        point: ``(N,)``, counted over all levels.
        label: ``(N,)``.
    """
    last = offsets[0].shape[3] - 1
    counts = torch.tensor([level.shape[1] for level in offsets])
    level = torch.arange(len(counts)).repeat_interleave(counts).to(point.device)[point]
    reach = torch.arange(last + 1, device=point.device)
    place = (video[:, None], (point + last * level)[:, None] + reach, label[:, None])
    starts = torch.cat([functional.pad(level, (0, 0, last, 0)) for level in borders.starts], dim=1)[place]
    ends = torch.cat([functional.pad(level, (0, 0, 0, last)) for level in borders.ends], dim=1)[place]
    to_start, to_end = torch.cat(list(offsets), dim=1)[video, point].unbind(1)
    steps = reach.to(starts.dtype)
    return torch.stack([(starts + to_start).softmax(1) @ steps.flip(0), (ends + to_end).softmax(1) @ steps], dim=1)


def weighed(focal: Tensor, pairs: Tensor, overlaps: Tensor, power: float) -> Tensor:
    """Return class losses ``(B, P, K)`` in which those of the true pairs count as much as the pair's tIoU to a power.

    Args:
        focal: ``(B, P, K)``.
        pairs: ``(B, P, K)``, true at N entries.
        overlaps: ``(N,)``; as in the published code, gradients flow through it.
        power: 0.2 on THUMOS14, 1 on ActivityNet.
    """
    factors = torch.ones_like(focal)
    factors[pairs] = overlaps.clamp(min=_LEAST) ** power
    return focal * factors
