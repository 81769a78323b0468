"""GSM: a temporal shift that learns how much of each value moves.

Source: Sudhakaran et al., "Gate-Shift Networks for Video Action Recognition" (CVPR 2020), and the public code of
spotting that puts it in front of the first convolution of every residual block (jhong93/spot, `model/shift.py`, a
quarter of the channels). The gates begin at zero: nothing moves in time, but the quarter's channels change their order
from the beginning, as in the public code.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn


def is_of_a_gate(key: str) -> bool:
    """Say whether a tensor of a state dict belongs to a gate, which weights of an image network do not have."""
    return ".gsm." in key


class GateShift(nn.Module):
    """Shift what the gates let through one frame to the past (first half of the channels) or the future (second half).

    Args:
        channels: A multiple of 4.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv3D = nn.Conv3d(channels, 2, 3, padding=1, groups=2)  # public names, so that public weights fit
        nn.init.zeros_(self.conv3D.weight)
        nn.init.zeros_(cast(Tensor, self.conv3D.bias))
        self.bn = nn.BatchNorm3d(channels)

    def forward(self, frames: Tensor, frames_per_clip: int) -> Tensor:
        """Map ``(N·T, C, h, w)`` to the same shape; zeros enter at the ends of a clip."""
        clips = frames.view(-1, frames_per_clip, *frames.shape[1:]).transpose(1, 2)  # (N, C, T, h, w)
        gates = torch.tanh(self.conv3D(torch.relu(self.bn(clips))))
        early, late = clips.chunk(2, 1)
        early_moving, late_moving = gates[:, :1] * early, gates[:, 1:] * late
        past = nn.functional.pad(early_moving[:, :, 1:], (0, 0, 0, 0, 0, 1)) + early - early_moving
        future = nn.functional.pad(late_moving[:, :, :-1], (0, 0, 0, 0, 1, 0)) + late - late_moving
        # the channels of both halves are mixed, so that the next block moves others
        mixed = torch.cat([_mixed(past), _mixed(future)], 1)
        return mixed.transpose(1, 2).flatten(0, 1)


def _mixed(half: Tensor) -> Tensor:
    """Return channels ``(N, C, T, h, w)`` with those of both halves in turn."""
    count, channels, *rest = half.shape
    return half.reshape(count, 2, channels // 2, *rest).transpose(1, 2).reshape(count, channels, *rest)


class GatedConv(nn.Module):
    """A convolution behind a gated shift of a quarter of its input channels.

    Args:
        net: The convolution, or a module that begins with one.
        channels: Its input channels.
    """

    def __init__(self, net: nn.Module, channels: int) -> None:
        super().__init__()
        self.net = net
        self.fold = math.ceil(channels // 4 / 4) * 4
        self.gsm = GateShift(self.fold)
        self.frames_per_clip = 1

    def forward(self, frames: Tensor) -> Tensor:
        """Map ``(N·T, C, h, w)`` to the convolution's output."""
        moved = self.gsm(frames[:, : self.fold], self.frames_per_clip)
        joined = torch.cat([moved, frames[:, self.fold :]], 1)
        if frames.is_contiguous(memory_format=torch.channels_last):
            joined = joined.contiguous(memory_format=torch.channels_last)
        return cast(Tensor, self.net(joined))
