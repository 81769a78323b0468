"""ActionFormer's network: embedding, a pyramid of transformer blocks, and two branches shared by its levels.

Names and shapes of parameters are those of happyharrycn/actionformer_release (``libs/modeling``); its checkpoints load.

Shapes: B videos, C input channels, T steps, T_l steps of level l, H channels of the network, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from lofi_tal.heads.actionformer.attention import Mask
from lofi_tal.heads.actionformer.layers import Block, ChannelNorm, LearntScale, MaskedConvolution, masked

_PRIOR = 0.01
"""Probability of every class at every point before training, so that background does not swamp the first steps."""


def sinusoids(length: int, channels: int) -> Tensor:
    """Return the position encoding ``(length, channels)`` of Vaswani et al. (2017), divided by sqrt(channels)."""
    pair = torch.arange(channels, dtype=torch.float64) // 2
    angle = torch.arange(length, dtype=torch.float64)[:, None] / 10000 ** (2 * pair / channels)
    even = torch.arange(channels) % 2 == 0
    return (torch.where(even, angle.sin(), angle.cos()).float() / math.sqrt(channels)).float()


class Backbone(nn.Module):
    """Embedding and pyramid.

    Args:
        in_channels: C.
        width: H.
        heads: Attention heads.
        windows: Of each level; None sees the whole sequence.
        stem_blocks: Blocks before the pyramid.
        positions: Length of the table of position encodings; None for none.
        drop: Probability of stochastic depth.
    """

    positions: Tensor | None

    def __init__(
        self,
        in_channels: int,
        *,
        width: int,
        heads: int,
        windows: Sequence[int | None],
        stem_blocks: int,
        positions: int | None,
        drop: float,
    ) -> None:
        super().__init__()
        self.embd = nn.ModuleList(MaskedConvolution(channels, width) for channels in (in_channels, width))
        self.embd_norm = nn.ModuleList(ChannelNorm(width) for _ in self.embd)
        table = None if positions is None else sinusoids(positions, width)
        self.register_buffer("positions", table, persistent=False)

        def block(window: int | None, stride: int) -> Block:
            return Block(width, heads=heads, window=window, stride=stride, drop=drop)

        self.stem = nn.ModuleList(block(windows[0], 1) for _ in range(stem_blocks))
        self.branch = nn.ModuleList(block(window, 2) for window in windows[1:])

    def forward(self, features: Tensor, mask: Mask, length: int) -> list[tuple[Tensor, Mask]]:
        """Return features ``(B, T_l, H)`` and mask of every level.

        Args:
            features: ``(B, T, C)``.
            mask: Valid steps.
            length: Steps that the published code would pad the sequence to, which the position encoding depends on.
        """
        for convolution, norm in zip(self.embd, self.embd_norm, strict=True):
            features = functional.relu(norm(convolution(features, mask)))
        if self.positions is not None:
            features = features + masked(self._positions(length)[None, : features.shape[1]], mask)
        for block in self.stem:
            features, mask = block(features, mask)
        levels = [(features, mask)]
        for block in self.branch:
            features, mask = block(features, mask)
            levels.append((features, mask))
        return levels

    def _positions(self, length: int) -> Tensor:
        """Return the encodings of at least ``length`` positions; the table is stretched to a longer sequence."""
        table = self.positions
        assert table is not None
        if length <= len(table):
            return table
        return functional.interpolate(table.T[None], length, mode="linear", align_corners=False)[0].T


class Neck(nn.Module):
    """A norm for each level."""

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        self.fpn_norms = nn.ModuleList(ChannelNorm(width) for _ in range(levels))

    def forward(self, levels: Sequence[tuple[Tensor, Mask]]) -> list[tuple[Tensor, Mask]]:
        """Normalise every level."""
        return [(norm(features), mask) for norm, (features, mask) in zip(self.fpn_norms, levels, strict=True)]


class _Branch(nn.Module):
    """Two convolutions, each with norm and ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.ModuleList(MaskedConvolution(width, width) for _ in range(2))
        self.norm = nn.ModuleList(ChannelNorm(width) for _ in self.head)

    def hidden(self, features: Tensor, mask: Mask) -> Tensor:
        """Map ``(B, T_l, H)`` to ``(B, T_l, H)``."""
        for convolution, norm in zip(self.head, self.norm, strict=True):
            features = functional.relu(norm(convolution(features, mask)))
        return features


class ClassBranch(_Branch):
    """Class logits ``(B, T_l, K)`` of every level, in fp32.

    Args:
        width: H.
        classes: K.
        apart: Send no gradient to the pyramid.
    """

    def __init__(self, width: int, classes: int, *, apart: bool = False) -> None:
        super().__init__(width)
        self.apart = apart
        self.cls_head = MaskedConvolution(width, classes, bias=True)
        assert self.cls_head.conv.bias is not None
        nn.init.constant_(self.cls_head.conv.bias, -math.log((1 - _PRIOR) / _PRIOR))

    def forward(self, levels: Sequence[tuple[Tensor, Mask]]) -> list[Tensor]:
        """Return the logits of every level."""
        if self.apart:
            levels = [(features.detach(), mask) for features, mask in levels]
        return [self.cls_head(self.hidden(features, mask), mask).float() for features, mask in levels]


class OffsetBranch(_Branch):
    """Distances ``(B, T_l, 2)`` to start and end in strides of the level, not negative, in fp32.

    Args:
        width: H.
        levels: Of the pyramid.
        bins: n of the trident regression: then scores ``(B, T_l, 2, n + 1)`` of bins instead of distances.
    """

    def __init__(self, width: int, levels: int, bins: int | None) -> None:
        super().__init__(width)
        self.bins = bins
        self.scale = nn.ModuleList(LearntScale() for _ in range(levels))
        self.offset_head = MaskedConvolution(width, 2 * ((bins or 0) + 1), bias=True)

    def forward(self, levels: Sequence[tuple[Tensor, Mask]]) -> list[Tensor]:
        """Return the distances, or the scores of the bins, of every level."""
        found = [
            functional.relu(scale(self.offset_head(self.hidden(features, mask), mask).float()))
            for scale, (features, mask) in zip(self.scale, levels, strict=True)
        ]
        return found if self.bins is None else [level.reshape(*level.shape[:2], 2, -1) for level in found]
