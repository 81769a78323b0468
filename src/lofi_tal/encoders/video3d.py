"""torchvision's video models as encoders: 3-D convolutions and a video transformer.

Sources: torchvision (`models/video/resnet.py`, `models/video/swin_transformer.py`, `models/video/s3d.py`); Tran et al.,
"A Closer Look at Spatiotemporal Convolutions" (CVPR 2018) for R(2+1)D, MC3 and R3D; Liu et al., "Video Swin
Transformer" (CVPR 2022); Xie et al., "Rethinking Spatiotemporal Feature Learning" (ECCV 2018) for S3D.
Normalisation constants are those of the published Kinetics-400 weights.

Shapes: N clips, T frames, H × W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformerBlock
from torchvision.models.video import s3d
from torchvision.models.video.resnet import (
    BasicBlock,
    BasicStem,
    Conv2Plus1D,
    Conv3DNoTemporal,
    Conv3DSimple,
    R2Plus1dStem,
    VideoResNet,
)
from torchvision.models.video.swin_transformer import SwinTransformer3d

from lofi_tal.encoders.contract import Encoder
from lofi_tal.encoders.padding import pad_by_hand
from lofi_tal.encoders.tsm import IMAGENET_MEAN, IMAGENET_STD
from lofi_tal.errors import LofiError
from lofi_tal.fidelity.takes import Takes

KINETICS_MEAN = (0.43216, 0.394666, 0.37645)
KINETICS_STD = (0.22803, 0.22145, 0.216989)
_KINDS: dict[str, tuple[list[Any], Callable[[], nn.Module]]] = {
    "r2plus1d": ([Conv2Plus1D] * 4, R2Plus1dStem),
    "mc3": ([Conv3DSimple, *[Conv3DNoTemporal] * 3], BasicStem),
    "r3d": ([Conv3DSimple] * 4, BasicStem),
}
_SWINS: dict[str, tuple[int, list[int], int, float]] = {
    "t": (96, [2, 2, 6, 2], 7, 0.1),
    "s": (96, [2, 2, 18, 2], 7, 0.1),
    "b": (128, [2, 2, 18, 2], 7, 0.1),
}
"""Channels of the first stage, blocks of each, window in pixels of patches, stochastic depth: those of torchvision."""


class _Encoder3D(Encoder):
    """An encoder whose backbone takes ``(N, 3, T, H, W)`` and returns ``(N, C)``."""

    base_model: nn.Module

    def encode(self, frames: Tensor, frames_per_clip: int) -> Tensor:
        """Return ``(N, C)``: features pooled over time and space."""
        clips = frames.view(-1, frames_per_clip, *frames.shape[1:]).transpose(1, 2)
        features: Tensor = self.base_model(clips.contiguous(memory_format=torch.channels_last_3d))
        return features.float()


class VideoResNet18(_Encoder3D):
    """An 18-layer video ResNet of torchvision, 512 channels: R(2+1)D, MC3 or R3D.

    Args:
        kind: ``"r2plus1d"``, ``"mc3"`` or ``"r3d"``.
        width: Channels of the first stage; 64 is the standard, 16 the quarter width for CPUs.

    Raises:
        LofiError: If an argument is not one of the above.
    """

    def __init__(self, *, kind: str = "r2plus1d", width: int = 64) -> None:
        if kind not in _KINDS:
            raise LofiError(f"encoder kind {kind!r} is unknown; allowed: {', '.join(_KINDS)}.")
        if width < 8 or width % 8:
            raise LofiError(f"encoder width {width} is not a multiple of 8 (64 is standard, 16 a quarter).")
        super().__init__(
            channels=8 * width, config={"kind": kind, "width": width}, mean=KINETICS_MEAN, std=KINETICS_STD
        )
        convolutions, stem = _KINDS[kind]
        model = VideoResNet(BasicBlock, convolutions, [2, 2, 2, 2], stem, num_classes=1)
        if width != 64:
            model.stem = _narrow(model.stem, width)
            model.inplanes = width
            for index, convolution in enumerate(convolutions):
                stride = 1 if index == 0 else 2
                # torchvision has no public way to make a stage of another width
                layer = model._make_layer(BasicBlock, convolution, width * 2**index, 2, stride)  # noqa: SLF001
                setattr(model, f"layer{index + 1}", layer)
        model.fc = nn.Identity()
        for module in model.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        pad_by_hand(model)
        self.base_model = model

    def blocks(self) -> list[nn.Module]:
        """Return the stem and the residual blocks."""
        model = cast(VideoResNet, self.base_model)
        return [model.stem, *(module for module in model.modules() if isinstance(module, BasicBlock))]


class VideoSwin(_Encoder3D):
    """Video Swin Transformer: no BatchNorm.

    Args:
        kind: ``"t"`` (tiny), ``"s"`` (small) or ``"b"`` (base).
        width: Channels of the first stage, a multiple of 32; the kind's own (96 or 128) without it.

    Raises:
        LofiError: If an argument is not one of the above.
    """

    def __init__(self, *, kind: str = "t", width: int | None = None) -> None:
        if kind not in _SWINS:
            raise LofiError(f"encoder kind {kind!r} is unknown; allowed: {', '.join(_SWINS)}.")
        if width is not None and (width < 32 or width % 32):
            raise LofiError(f"encoder width {width} is not a multiple of 32 (96 is standard).")
        standard, depths, window, drop = _SWINS[kind]
        channels = width or standard
        given = {"kind": kind} if kind != "t" else {}
        super().__init__(
            channels=8 * channels,
            config={**given, **({} if width is None else {"width": width})},
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        )
        model = SwinTransformer3d(
            patch_size=[2, 4, 4],
            embed_dim=channels,
            depths=depths,
            num_heads=[channels // 32 * 2**stage for stage in range(4)],
            window_size=[8, window, window],
            stochastic_depth_prob=drop,
            num_classes=1,
        )
        model.head = nn.Identity()
        self.base_model = model

    def blocks(self) -> list[nn.Module]:
        """Return the transformer blocks."""
        return [module for module in self.base_model.modules() if isinstance(module, SwinTransformerBlock)]


class S3D(_Encoder3D):
    """S3D, 1024 channels. Its strides leave one of 8 frames and one of 32 pixels."""

    takes = Takes(smallest=32, fewest=8)

    def __init__(self) -> None:
        super().__init__(channels=1024, config={}, mean=KINETICS_MEAN, std=KINETICS_STD)
        model = s3d(weights=None)
        # its pooling spans 2 × 7 × 7, all that is left of the clips it was trained on; here it is the mean at any size
        model.avgpool = nn.AdaptiveAvgPool3d(1)
        model.classifier = nn.Identity()
        pad_by_hand(model)
        self.base_model = model

    def blocks(self) -> list[nn.Module]:
        """Return convolutions, poolings and mixed layers in their order."""
        return list(cast(nn.Sequential, self.base_model.features))


def _narrow(stem: nn.Module, width: int) -> nn.Sequential:
    """Rebuild a stem with ``width`` instead of 64 channels."""
    layers: list[nn.Module] = []
    for layer in cast(nn.Sequential, stem):
        if isinstance(layer, nn.Conv3d):
            channels = layer.in_channels if layer.in_channels == 3 else layer.in_channels * width // 64
            wider = layer.out_channels * width // 64
            geometry: Any = {
                "kernel_size": layer.kernel_size,
                "stride": layer.stride,
                "padding": layer.padding,
            }
            layers.append(nn.Conv3d(channels, wider, bias=False, **geometry))
        elif isinstance(layer, nn.BatchNorm3d):
            layers.append(nn.BatchNorm3d(layer.num_features * width // 64))
        else:
            layers.append(layer)
    return nn.Sequential(*layers)
