"""Training targets of boundary-matching heads (G-TAD and BMN share them).

Source: Frostinassiky/gtad, branch ``anet``, ``gtad_lib/dataset.py``. Everything is computed in fp64, as
there, and returned in fp32: cells lie exactly on the thresholds more often than chance suggests.

Legend: B videos, N instances, L snippets, D durations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lofi_tal.heads.alignment import Anchors, valid_anchors

# Boundary regions are 3 snippets wide and are compared with windows of 2, so that about 3 cells a boundary
# are positive.
_REGION_HALF_WIDTH = 1.5
_WINDOW_HALF_WIDTH = 1.0


class BoundaryMatchingTargets(NamedTuple):
    """Targets of a batch: ``start (B, L)`` and ``end (B, L)`` overlap scores, ``iou_map (B, D, L)``."""

    start: Tensor
    end: Tensor
    iou_map: Tensor


def batch_targets(
    segments: Sequence[Tensor], snippets: int, max_duration: int | None = None, device: torch.device | None = None
) -> BoundaryMatchingTargets:
    """Return the targets of a batch of videos.

    ``start`` and ``end``: the share of a two-snippet window around each cell that lies within 1.5 snippets of a
    boundary, positive where ``> 0.5``. ``iou_map``: the best IoU of the anchor that begins at snippet ``s`` (column)
    and is ``d + 1`` snippets long (row ``d``) with any instance, zero where it leaves the video.

    Args:
        segments: B tensors ``(N_i, 2)``: start and end as shares of the video, clipped to [0, 1]. N_i may be 0.
        snippets: L.
        max_duration: D; L if not given.
        device: Where the targets are wanted; that of the segments without it. They are computed there, in fp64, which
            rounds these operations alike everywhere: every device trains on equal labels.
    """
    max_duration = snippets if max_duration is None else max_duration
    counts = [len(video) for video in segments]
    device = segments[0].device if device is None else device
    where = torch.device("cpu") if device.type == "mps" else device  # which has no fp64
    instances = torch.cat([video.detach().reshape(-1, 2) for video in segments]).double().clamp(0, 1)
    instances = instances.to(where, non_blocking=True)
    start = _best(_boundary_overlap(instances[:, 0], snippets), counts)
    end = _best(_boundary_overlap(instances[:, 1], snippets), counts)
    anchors = valid_anchors(snippets, max_duration, where)
    best = _best(_anchor_iou(instances, anchors, snippets), counts).float()
    iou_map = best.new_zeros(len(segments), max_duration * snippets).index_copy(1, anchors.cell, best)
    iou_map = iou_map.view(len(segments), max_duration, snippets)
    return BoundaryMatchingTargets(*(target.float().to(device) for target in (start, end, iou_map)))


def _boundary_overlap(time: Tensor, snippets: int) -> Tensor:
    """Return ``(N, L)``: the share of each cell's window covered by the region around each boundary."""
    gap = 1 / snippets
    centre = (torch.arange(snippets, dtype=torch.float64, device=time.device) + 0.5) * gap
    region, window = _REGION_HALF_WIDTH * gap, _WINDOW_HALF_WIDTH * gap
    upper = torch.minimum(time[:, None] + region, centre + window)
    lower = torch.maximum(time[:, None] - region, centre - window)
    return (upper - lower).clamp(min=0) / (2 * window)


def _anchor_iou(instances: Tensor, anchors: Anchors, snippets: int) -> Tensor:
    """Return ``(N, A)``: the IoU of each instance with each anchor; reversed instances overlap nothing."""
    gap = 1 / snippets
    lower = anchors.start.double() * gap
    upper = (anchors.start + anchors.duration + 1).double() * gap
    start, end = instances[:, :1], instances[:, 1:]
    inter = (torch.minimum(upper, end) - torch.maximum(lower, start)).clamp(min=0)
    union = (upper - lower) + (end - start).clamp(min=0) - inter
    return inter / union


def _best(values: Tensor, counts: Sequence[int]) -> Tensor:
    """Return ``(B, K)``: the largest of each video's rows of ``(ΣN, K)``, zero for a video without instances."""
    best = values.new_zeros(len(counts), values.shape[1])
    for row, video in zip(best, torch.split(values, list(counts)), strict=True):
        if len(video):
            torch.amax(video, dim=0, out=row)
    return best
