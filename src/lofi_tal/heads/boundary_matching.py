"""What G-TAD and BMN share: outputs, loss and decoding around a map of anchors.

Legend: B videos, C channels, L snippets, D durations, A valid anchors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lofi_tal.errors import LofiError, quoted
from lofi_tal.heads.alignment import Interpolation, Rows, interpolate, row_blocks, valid_anchors
from lofi_tal.heads.contract import Head, Proposals
from lofi_tal.heads.decoding import decode_boundary_map
from lofi_tal.heads.losses import Generators, boundary_loss, map_classification_loss, map_regression_loss
from lofi_tal.heads.targets import batch_targets

# sigmoid(-1e4) is exactly 0, and -1e4 stays finite in every precision
_INVALID_LOGIT = -1e4
REGRESSION_WEIGHT = 10.0
_MOST = {"samples": 100, "max_duration": 10_000}
"""Largest options that no weight has the shape of, but the map of anchors."""
ANCHORS_AT_ONCE = 1024
"""Anchors whose map is made together where memory counts."""


class BoundaryMatchingOutputs(NamedTuple):
    """Outputs of a boundary-matching head, in fp32.

    Args:
        start: ``(B, L)`` probability that an action starts in each snippet.
        end: ``(B, L)`` probability that one ends there.
        iou_map: ``(B, 2, D, L)`` probabilities: channel 0 estimates the IoU, channel 1 whether it exceeds
            0.9; row d, column s is the anchor of d + 1 snippets from snippet s; zero where it leaves the
            video.
        start_logits: ``(B, L)``.
        end_logits: ``(B, L)``.
        map_logits: ``(B, 2, D, L)``, -10,000 where the anchor leaves the video.
    """

    start: Tensor
    end: Tensor
    iou_map: Tensor
    start_logits: Tensor
    end_logits: Tensor
    map_logits: Tensor

    @classmethod
    def from_logits(
        cls, start_logits: Tensor, end_logits: Tensor, anchor_logits: Tensor, snippets: int, durations: int
    ) -> BoundaryMatchingOutputs:
        """Build from ``(B, L)`` boundary logits and ``(B, A, 2)`` logits of the valid anchors."""
        cell = valid_anchors(snippets, durations, anchor_logits.device).cell
        # In fp32 whatever the autocast mode: the losses take logarithms of these probabilities.
        start_logits, end_logits = start_logits.float(), end_logits.float()
        anchor_logits = anchor_logits.float().transpose(1, 2)
        flat = anchor_logits.new_full((len(anchor_logits), 2, durations * snippets), _INVALID_LOGIT)
        map_logits = flat.index_copy(2, cell, anchor_logits).view(-1, 2, durations, snippets)
        return cls(
            start_logits.sigmoid(),
            end_logits.sigmoid(),
            map_logits.sigmoid(),
            start_logits,
            end_logits,
            map_logits,
        )


class BoundaryMatchingHead(Head):
    """Base of heads that score every anchor of a duration × start map.

    Args:
        in_channels: C.
        config: Constructor arguments.
        max_duration: D; as many as there are snippets if None.
    """

    at_once: int | None = None  # anchors made together; see score_anchors

    def __init__(self, *, in_channels: int, config: dict[str, Any], max_duration: int | None) -> None:
        super().__init__(in_channels=in_channels, config=config)
        self.max_duration = max_duration

    def save_memory(self) -> None:
        """Make the map of anchors in parts from now on, so that it hardly grows with the square of L."""
        self.at_once = ANCHORS_AT_ONCE

    def durations(self, snippets: int) -> int:
        """Return D for L snippets."""
        return snippets if self.max_duration is None else self.max_duration

    def loss(
        self,
        outputs: BoundaryMatchingOutputs,
        segments: Sequence[Tensor],
        labels: Sequence[Tensor] | None = None,
        generator: Generators = None,
    ) -> dict[str, Tensor]:
        """Return ``boundary + 10 · regression + classification`` and its unweighted terms.

        The weights are those of G-TAD's ``anet`` branch and of BMN. (G-TAD's ``master`` weighs the
        classification by 10 instead, which its variable names suggest was a slip.)
        """
        device = outputs.iou_map.device
        durations, snippets = outputs.iou_map.shape[2:]
        targets = batch_targets(segments, snippets, durations, device)
        valid = valid_anchors(snippets, durations, device).valid
        terms = {
            "boundary": boundary_loss(outputs.start, outputs.end, targets.start, targets.end),
            "regression": map_regression_loss(outputs.iou_map[:, 0], targets.iou_map, valid, generator),
            "classification": map_classification_loss(outputs.iou_map[:, 1], targets.iou_map, valid),
        }
        total = terms["boundary"] + REGRESSION_WEIGHT * terms["regression"] + terms["classification"]
        return {"total": total, **terms}

    def proposals(self, outputs: BoundaryMatchingOutputs, preset: str = "fixed") -> list[Proposals]:
        """Return the anchors between candidate boundaries, scored by regression × classification."""
        return decode_boundary_map(outputs.start, outputs.end, outputs.iou_map.prod(dim=1), preset)


def score_anchors(
    nodes: Sequence[Tensor],
    interpolations: Callable[[Rows], Sequence[Interpolation]],
    bias: Tensor,
    layers: nn.Sequential,
    snippets: int,
    durations: int,
    *,
    at_once: int | None,
) -> Tensor:
    """Align, and apply what follows, on the valid anchors alone as far as that is exact.

    If any layer is wider than 1 × 1, one more anchor follows the valid ones: what the reference computes in every
    invalid cell, which wide kernels see.

    Args:
        nodes: Tensors ``(B, L·R_i, C)``: what the alignment interpolates, the first convolution applied.
        interpolations: Range of anchors to as many matrices.
        bias: ``(C,)``, of the first convolution.
        layers: Convolutions over the map and ReLUs; the first convolution is 1 × 1.
        snippets: L.
        durations: D.
        at_once: Anchors whose alignment is made together, and made again for the gradient, so that memory hardly
            grows with their number; None makes all at once and keeps them.

    Returns:
        Logits ``(B, A, 2)`` of the valid anchors.
    """
    wide = next((index for index, layer in enumerate(layers) if not _is_pointwise(layer)), len(layers))
    count = len(valid_anchors(snippets, durations, bias.device).cell) + (wide < len(layers))

    def score(rows: Rows, *nodes: Tensor) -> Tensor:
        hidden = functional.relu_(interpolate(nodes, interpolations(rows)) + bias)
        for layer in layers[:wide]:
            if isinstance(layer, nn.Conv2d):
                hidden = functional.linear(hidden, layer.weight.flatten(1), layer.bias)
            else:
                hidden = functional.relu_(hidden)
        return hidden

    ranges = row_blocks(count, at_once)
    if len(ranges) == 1:
        hidden = score(ranges[0], *nodes)
    else:
        hidden = torch.cat([checkpoint(score, rows, *nodes, use_reentrant=False) for rows in ranges], dim=1)
    return hidden if wide == len(layers) else _score_map(hidden, layers[wide:], snippets, durations)


def _is_pointwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.ReLU) or (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1))


def _score_map(hidden: Tensor, layers: nn.Sequential, snippets: int, durations: int) -> Tensor:
    """Spread anchors ``(B, A + 1, C)`` over the map, apply ``layers``, return the valid anchors ``(B, A, 2)``."""
    anchors = valid_anchors(snippets, durations, hidden.device)
    count = len(anchors.cell)
    anchor_of_cell = torch.full((durations * snippets,), count, device=hidden.device)
    anchor_of_cell[anchors.cell] = torch.arange(count, device=hidden.device)
    dense = torch.index_select(hidden, 1, anchor_of_cell).transpose(1, 2)
    dense = dense.reshape(len(hidden), -1, durations, snippets)
    for layer in layers:
        dense = layer(dense)
    return torch.index_select(dense.flatten(2), 2, anchors.cell).transpose(1, 2)


def bin_slices(weight: Tensor, bins: int) -> Tensor:
    """Return the weight of a convolution over aligned anchors as ``(R·H, C)``, row r·H + h.

    Args:
        weight: Of H output channels over C channels and R bins, bin index last: any shape that flattens to
            ``(H, C·R)``.
        bins: R.
    """
    return weight.reshape(weight.shape[0], -1, bins).permute(2, 0, 1).flatten(0, 1)


def project_nodes(nodes: Tensor, slices: Tensor, bins: int) -> Tensor:
    """Apply each bin's slice to every node: ``(B, C, L)`` and ``(R·H, C)`` to ``(B, L·R, H)``."""
    projected = functional.linear(nodes.transpose(1, 2), slices)
    return projected.reshape(nodes.shape[0], -1, slices.shape[0] // bins)


def convolution_at(layers: nn.Sequential, index: int = 0) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the convolution at ``index``."""
    layer = layers[index]
    assert isinstance(layer, nn.Conv2d | nn.Conv3d)
    assert layer.bias is not None
    return layer.weight, layer.bias


def check_sizes(head: str, options: Mapping[str, Any]) -> None:
    """Refuse options of a head that are not positive whole numbers in bounds; ``max_duration`` may be None."""
    for key, value in options.items():
        most = _MOST.get(key, 100_000)
        if (value is not None or key != "max_duration") and (
            not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most
        ):
            raise LofiError(f"{key}={quoted(value)} of {head} must be a positive whole number, at most {most:,}.")
