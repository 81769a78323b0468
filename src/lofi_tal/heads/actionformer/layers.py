"""Layers of ActionFormer, on features whose channels lie last.

Source of names, shapes and numbers: happyharrycn/actionformer_release, ``libs/modeling/blocks.py``. There, channels lie
before time. Here they lie last, so that norms and 1 × 1 convolutions, most of the work, are plain row operations.

Shapes: B videos, T steps, C channels. A mask is ``(B, T)``, true at valid steps; None where all are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lofi_tal.heads.actionformer.attention import Mask, attend


def masked(features: Tensor, mask: Mask) -> Tensor:
    """Return ``(B, T, C)`` with 0 outside the mask."""
    return features if mask is None else features * mask[:, :, None]


class ChannelNorm(nn.Module):
    """Layer normalisation of ``(B, T, C)`` over the channels; weight and bias are ``(1, C, 1)``, as published."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Normalise each step."""
        return functional.layer_norm(features, features.shape[2:], self.weight.flatten(), self.bias.flatten())


class Pointwise(nn.Conv1d):
    """A 1 × 1 convolution of ``(B, T, C)``; its bias starts at 0."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__(channels, outputs, 1)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map each step."""
        return functional.linear(features, self.weight[:, :, 0], self.bias)


class MaskedConvolution(nn.Module):
    """Convolution over three steps of ``(B, T, C)`` that is 0 outside the mask; a bias starts at 0."""

    def __init__(self, channels: int, outputs: int, *, bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, outputs, 3, padding=1, bias=bias)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, features: Tensor, mask: Mask) -> Tensor:
        """Map ``(B, T, C)`` to ``(B, T, outputs)``."""
        return masked(self.conv(features.transpose(1, 2)).transpose(1, 2), mask)


class DepthwiseConvolution(nn.Module):
    """Convolution of each channel of ``(B, T, C)`` over three steps, with a stride; 0 outside its output's mask."""

    def __init__(self, channels: int, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv1d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)

    def forward(self, features: Tensor, mask: Mask) -> Tensor:
        """Map ``(B, T, C)`` to ``(B, T / stride, C)``; ``mask`` is that of the output."""
        before, here, after = self.conv.weight[:, 0].unbind(1)
        padded = functional.pad(features, (0, 0, 1, 1))
        last = features.shape[1]
        rows = [padded[:, first : first + last : self.stride] for first in range(3)]
        return masked(rows[0] * before + rows[1] * here + rows[2] * after, mask)


class ResidualScale(nn.Module):
    """A factor for each channel of a residual branch, and stochastic depth: a branch is left out for whole videos.

    Sources: Touvron et al., "Going Deeper with Image Transformers" (ICCV 2021), for the factors; Huang et al., "Deep
    Networks with Stochastic Depth" (ECCV 2016).

    Args:
        channels: C.
        drop: Probability with which a branch is left out in training.
    """

    def __init__(self, channels: int, *, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.scale = nn.Parameter(torch.full((1, channels, 1), 1e-4))

    def forward(self, branch: Tensor) -> Tensor:
        """Scale a branch ``(B, T, C)``; in training leave it out of some videos."""
        scaled = branch * self.scale[:, :, 0]
        if not self.training or self.drop == 0:
            return scaled
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= self.drop
        return scaled * (kept / (1 - self.drop)).to(scaled.dtype)


class LearntScale(nn.Module):
    """One learnt factor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, features: Tensor) -> Tensor:
        """Multiply."""
        return features * self.scale


class Attention(nn.Module):
    """Multi-head attention whose queries, keys and values come from depthwise convolutions.

    Args:
        channels: C.
        heads: H, a divisor of C.
        window: Steps that a step sees, odd, itself in the middle; None lets it see the whole sequence.
        stride: Of the convolutions.
    """

    def __init__(self, channels: int, *, heads: int, window: int | None, stride: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.query_conv, self.key_conv, self.value_conv = (
            DepthwiseConvolution(channels, stride=stride) for _ in range(3)
        )
        self.query_norm, self.key_norm, self.value_norm = (ChannelNorm(channels) for _ in range(3))
        self.query, self.key, self.value = (Pointwise(channels, channels) for _ in range(3))
        self.proj = Pointwise(channels, channels)

    def forward(self, features: Tensor, mask: Mask) -> Tensor:
        """Map ``(B, T, C)`` to ``(B, T / stride, C)``; ``mask`` is that of the output."""
        parts = (
            self.query(self.query_norm(self.query_conv(features, mask))),
            self.key(self.key_norm(self.key_conv(features, mask))),
            self.value(self.value_norm(self.value_conv(features, mask))),
        )
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = attend(query, key, value, mask, self.window)
        return masked(self.proj(mixed.transpose(1, 2).flatten(2)), mask)


class Block(nn.Module):
    """A transformer block: attention and a perceptron, each normalised first and added; the first may halve the steps.

    Args:
        channels: C.
        heads: Attention heads.
        window: Steps that a step sees; None for all.
        stride: 1 or 2.
        drop: Probability of stochastic depth.
    """

    def __init__(self, channels: int, *, heads: int, window: int | None, stride: int, drop: float) -> None:
        super().__init__()
        self.stride = stride
        self.ln1, self.ln2 = ChannelNorm(channels), ChannelNorm(channels)
        self.attn = Attention(channels, heads=heads, window=window, stride=stride)
        # layer 2 is the published dropout, whose rate is 0
        layers: tuple[Any, ...] = (Pointwise(channels, 4 * channels), nn.GELU(), nn.Identity())
        self.mlp = nn.Sequential(*layers, Pointwise(4 * channels, channels))
        self.drop_path_attn, self.drop_path_mlp = (ResidualScale(channels, drop=drop) for _ in range(2))

    def forward(self, features: Tensor, mask: Mask) -> tuple[Tensor, Mask]:
        """Map ``(B, T, C)`` and its mask to those of ``T / stride`` steps."""
        mask = None if mask is None else mask[:, :: self.stride]
        attended = self.attn(self.ln1(features), mask)
        features = masked(self._skip(features), mask) + self.drop_path_attn(attended)
        return features + self.drop_path_mlp(masked(self.mlp(self.ln2(features)), mask)), mask

    def _skip(self, features: Tensor) -> Tensor:
        if self.stride == 1:
            return features
        return functional.max_pool1d(features.transpose(1, 2), 3, self.stride, padding=1).transpose(1, 2)
