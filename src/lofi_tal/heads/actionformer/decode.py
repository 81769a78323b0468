"""From what ActionFormer says of its points to proposals.

Source: happyharrycn/actionformer_release, ``libs/modeling/meta_archs.py``.

Shapes: B videos, T_l points of level l, K classes, N proposals of one video.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lofi_tal.heads.actionformer.points import level_points
from lofi_tal.heads.actionformer.trident import Borders, expected_distances
from lofi_tal.heads.contract import Proposals


class ActionFormerOutputs(NamedTuple):
    """Outputs of ActionFormer, in fp32.

    Args:
        logits: For each level ``(B, T_l, K)``.
        offsets: For each level ``(B, T_l, 2)``: distances to start and end in strides of the level, not negative. With
            trident regression ``(B, T_l, 2, n + 1)``: scores of the bins.
        masks: For each level ``(B, T_l)``, true at valid points; None where all are.
        lengths: Valid steps of each video, which its segments are shares of.
        borders: Of the trident regression, None without it.
    """

    logits: list[Tensor]
    offsets: list[Tensor]
    masks: list[Tensor] | None
    lengths: list[int]
    borders: Borders | None = None

    def distances(self, video: Tensor, point: Tensor, label: Tensor) -> Tensor:
        """Return the distances ``(N, 2)`` of N pairs of a point and a class, in strides of the point's level.

        Args:
            video: ``(N,)``.
            point: ``(N,)``, counted over all levels.
            label: ``(N,)``; only the trident regression tells classes apart.
        """
        if self.borders is None:
            return torch.cat(self.offsets, dim=1)[video, point]
        return expected_distances(self.offsets, self.borders, video, point, label)

    def on_cpu(self) -> ActionFormerOutputs:
        """Return the same without gradients, on the CPU."""

        def moved(levels: list[Tensor]) -> list[Tensor]:
            return [level.detach().cpu() for level in levels]

        masks, borders = self.masks and moved(self.masks), self.borders and Borders(*map(moved, self.borders))
        return ActionFormerOutputs(moved(self.logits), moved(self.offsets), masks, self.lengths, borders)


def decode(outputs: ActionFormerOutputs, *, max_proposals: int, min_score: float, min_length: float) -> list[Proposals]:
    """Return the segments of the best points, a point once for each class; there are no labels if K is 1.

    Args:
        outputs: Of the head.
        max_proposals: Most of one level.
        min_score: Points that score less propose nothing.
        min_length: Steps; shorter segments are not proposed.
    """
    outputs = outputs.on_cpu()
    video, point, label, score = _best(outputs, max_proposals)
    points = level_points([level.shape[1] for level in outputs.logits], point.device)
    reach = outputs.distances(video, point, label) * points.stride[point, None]
    steps = torch.stack([points.time[point] - reach[:, 0], points.time[point] + reach[:, 1]], dim=1)
    segments = ((steps + 0.5) / torch.tensor(outputs.lengths)[video, None]).clamp(0, 1)
    keep = (score > min_score) & (steps[:, 1] - steps[:, 0] > min_length) & (segments[:, 1] > segments[:, 0])
    told = outputs.logits[0].shape[2] > 1
    rows = [keep & (video == index) for index in range(len(outputs.lengths))]
    return [Proposals(segments[row], score[row], label[row] if told else None) for row in rows]


def _best(outputs: ActionFormerOutputs, most: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return video, point (counted over all levels), class and score of the best pairs of every level and video."""
    found, first = [], 0
    for level, logits in enumerate(outputs.logits):
        scores = logits.sigmoid()
        if outputs.masks is not None:
            scores = scores * outputs.masks[level][:, :, None]
        classes = scores.shape[2]
        best = scores.flatten(1).topk(min(most, scores[0].numel()))
        video = torch.arange(len(scores))[:, None].expand_as(best.indices)
        found.append((video, first + best.indices // classes, best.indices % classes, best.values))
        first += logits.shape[1]
    video, point, label, score = (torch.cat([part.flatten() for part in parts]) for parts in zip(*found, strict=True))
    return video, point, label, score
