"""Convolutions that pad by themselves where the CPU's library gets the gradient of the weights wrong.

In bf16 on CPUs, oneDNN 3.12 (torch 2.14) leaves parts of a weight gradient unwritten, so that it holds whatever the
memory held before, for two geometries: a depth of 2 under a kernel of depth 3 with stride 1 (the third stage of R(2+1)D
and R3D with clips of 8 frames), and a width of 1 under a padded kernel with a stride (the last stage of a ResNet with
frames of 16 pixels). Outputs and the gradients of inputs are right, and so are the weights' with zeros added by hand.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional


class PaddedConv2d(nn.Conv2d):
    """``nn.Conv2d``, with right gradients in bf16 on CPUs for frames one pixel wide."""

    def forward(self, frames: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the convolution's output."""
        if not (frames.is_cpu and _too_narrow(self, frames)):
            return super().forward(frames)
        high, wide = cast(tuple[int, int], self.padding)
        padded = functional.pad(frames, (wide, wide, high, high))
        return functional.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class PaddedConv3d(nn.Conv3d):
    """``nn.Conv3d``, with right gradients in bf16 on CPUs for clips two frames long or one pixel wide."""

    def forward(self, clips: Tensor) -> Tensor:
        """Map ``(N, C, T, H, W)`` to the convolution's output."""
        short = clips.shape[2] == 2 and self.kernel_size[0] > 1
        if not (clips.is_cpu and (short or _too_narrow(self, clips))):
            return super().forward(clips)
        deep, high, wide = cast(tuple[int, int, int], self.padding)
        padded = functional.pad(clips, (wide, wide, high, high, deep, deep))
        return functional.conv3d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def pad_by_hand(model: nn.Module) -> None:
    """Replace the 2-D and 3-D convolutions inside a model by those of this module, with the same parameters."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            for plain, padded in ((nn.Conv2d, PaddedConv2d), (nn.Conv3d, PaddedConv3d)):
                if isinstance(child, plain) and max(child.kernel_size) > 1:
                    setattr(module, name, _replaced(child, padded))


def _too_narrow(convolution: nn.Conv2d | nn.Conv3d, frames: Tensor) -> bool:
    return frames.shape[-1] == 1 and convolution.kernel_size[-1] > 1 and convolution.stride[-1] > 1


def _replaced(old: nn.Conv2d | nn.Conv3d, kind: type[PaddedConv2d | PaddedConv3d]) -> nn.Module:
    new = kind(
        old.in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        dilation=old.dilation,  # type: ignore[arg-type]
        groups=old.groups,
        bias=old.bias is not None,
        device="meta",
    )
    new.weight, new.bias = old.weight, old.bias
    return new
