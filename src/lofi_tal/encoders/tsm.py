"""TSM: the temporal shift module inside torchvision's ResNets.

Source: Lin et al., "TSM: Temporal Shift Module for Efficient Video Understanding" (ICCV 2019) and the public code
mit-han-lab/temporal-shift-module (`ops/temporal_shift.py`, placement "blockres": conv1 of every residual block, one
eighth of the channels each way, zeros at the ends). The shift stays inside a clip of T frames.

Parameter names follow torchvision's ResNet with `.net` behind every shifted conv1, as in the public TSM checkpoints
(`base_model.layerX.Y.conv1.net.weight`).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from lofi_tal.encoders.contract import Encoder
from lofi_tal.encoders.padding import pad_by_hand
from lofi_tal.errors import LofiError, quoted

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_LAYERS: dict[int, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    18: (BasicBlock, [2, 2, 2, 2]),
    34: (BasicBlock, [3, 4, 6, 3]),
    50: (Bottleneck, [3, 4, 6, 3]),
}


def _shift(frames: Tensor, frames_per_clip: int, fold: int, forward: bool) -> Tensor:
    """Shift channels [0, fold) one frame towards the past and [fold, 2·fold) towards the future, or undo it."""
    out = torch.empty_like(frames)
    clips = (-1, frames_per_clip, *frames.shape[1:])
    x, y = frames.view(clips), out.view(clips)
    early, late = slice(0, fold), slice(fold, 2 * fold)
    if not forward:
        early, late = late, early
    y[:, :-1, early] = x[:, 1:, early]
    y[:, -1, early] = 0
    y[:, 1:, late] = x[:, :-1, late]
    y[:, 0, late] = 0
    y[:, :, 2 * fold :] = x[:, :, 2 * fold :]
    return out


class _TemporalShift(torch.autograd.Function):
    """The shift is linear and its transpose is the shift the other way round: nothing is saved for backward."""

    @staticmethod
    def forward(ctx: Any, frames: Tensor, frames_per_clip: int, fold: int) -> Tensor:
        ctx.geometry = (frames_per_clip, fold)
        return _shift(frames, frames_per_clip, fold, forward=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        frames_per_clip, fold = ctx.geometry
        return _shift(gradients[0], frames_per_clip, fold, forward=False), None, None


def temporal_shift(frames: Tensor, frames_per_clip: int, fold: int) -> Tensor:
    """Shift a part of the channels along time, inside each clip, with zeros at the ends.

    Args:
        frames: ``(N·T, C, h, w)``.
        frames_per_clip: T.
        fold: Channels [0, fold) take the next frame's values, channels [fold, 2·fold) the previous frame's.

    Returns:
        ``(N·T, C, h, w)``, in the memory format of the input.
    """
    return cast(Tensor, _TemporalShift.apply(frames, frames_per_clip, fold))


class ShiftedConv(nn.Module):
    """A convolution behind a temporal shift of 1/8 of its input channels in each direction.

    Args:
        net: The convolution, or a module that begins with one.
        channels: Its input channels.
    """

    def __init__(self, net: nn.Module, channels: int) -> None:
        super().__init__()
        self.net = net
        self.fold = channels // 8
        self.frames_per_clip = 1

    def forward(self, frames: Tensor) -> Tensor:
        """Map ``(N·T, C, h, w)`` to the convolution's output."""
        return cast(Tensor, self.net(temporal_shift(frames, self.frames_per_clip, self.fold)))


class _Backbone(ResNet):  # type: ignore[misc]
    """torchvision's ResNet at any width, with the ImageNet stem or a compact one for small images."""

    def __init__(self, depth: int, width: int, stem: str) -> None:
        block, layers = _LAYERS[depth]
        super().__init__(block, layers, num_classes=1)
        self.inplanes = width
        if stem == "compact":  # 3×3, stride 2, no max-pool: keeps twice the resolution of the ImageNet stem
            self.conv1 = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
            self.maxpool = cast(nn.MaxPool2d, nn.Identity())
        elif width != 64:
            self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        if width != 64:
            self.bn1 = nn.BatchNorm2d(width)
            self.layer1 = self._make_layer(block, width, layers[0])
            self.layer2 = self._make_layer(block, 2 * width, layers[1], stride=2)
            self.layer3 = self._make_layer(block, 4 * width, layers[2], stride=2)
            self.layer4 = self._make_layer(block, 8 * width, layers[3], stride=2)
        self.fc = cast(nn.Linear, nn.Identity())
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class TSMResNet(Encoder):
    """TSM-ResNet: frame-level ResNet features with temporal shift, averaged over the frames of a clip.

    Args:
        depth: 18, 34 or 50.
        width: Channels of the first stage; 64 is the standard, 16 the quarter width for CPUs.
        stem: ``"imagenet"`` (7×7 stride 2 and max-pool) or ``"compact"`` (3×3 stride 2, for frames under about 112 px).
        shift: Without it the encoder is a plain frame-level ResNet (TSN).

    Raises:
        LofiError: If an argument is not one of the above.
    """

    def __init__(self, *, depth: int = 18, width: int = 64, stem: str = "imagenet", shift: bool = True) -> None:
        if depth not in _LAYERS:
            raise LofiError(f"encoder depth {depth} is not available; allowed: {', '.join(map(str, _LAYERS))}.")
        if width < 8 or width % 8:
            raise LofiError(f"encoder width {width} is not a multiple of 8 (64 is standard, 16 a quarter).")
        if stem not in ("imagenet", "compact"):
            raise LofiError(f"encoder stem {stem!r} is unknown; allowed: imagenet, compact.")
        if not isinstance(shift, bool):
            raise LofiError(f"encoder shift {quoted(shift)} is neither true nor false.")
        block, _ = _LAYERS[depth]
        super().__init__(
            channels=8 * width * block.expansion,
            config={"depth": depth, "width": width, "stem": stem, "shift": shift},
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        )
        self.base_model = _Backbone(depth, width, stem)
        pad_by_hand(self.base_model)
        self.shifts: list[ShiftedConv] = []
        if shift:
            for module in list(self.base_model.modules()):
                if isinstance(module, BasicBlock | Bottleneck):
                    shifted = ShiftedConv(module.conv1, module.conv1.in_channels)
                    module.conv1 = cast(nn.Conv2d, shifted)
                    self.shifts.append(shifted)
        self.base_model.to(memory_format=torch.channels_last)

    def blocks(self) -> list[nn.Module]:
        """Return the residual blocks."""
        return [module for module in self.base_model.modules() if isinstance(module, BasicBlock | Bottleneck)]

    def encode(self, frames: Tensor, frames_per_clip: int) -> Tensor:
        """Return ``(N, C)``: pooled frame features averaged over each clip."""
        for shifted in self.shifts:
            shifted.frames_per_clip = frames_per_clip
        frames = frames.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.base_model(frames)  # (N·T, C)
        return features.float().view(-1, frames_per_clip, self.channels).mean(1)
