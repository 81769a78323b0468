"""Convolutions that pad by themselves where the CPU's library gets the gradient of the weights wrong.

In bf16 on CPUs, oneDNN 3.12 (torch 2.14) gets parts of a weight gradient wrong, or leaves them as the memory was, for
two geometries: a depth of 2 under a kernel of depth 3 with stride 1 (the third stage of R(2+1)D and R3D with clips of 8
frames), and a width of 1 under a padded kernel with a stride (the last stage of a ResNet with frames of 16 pixels).
Outputs and the gradients of inputs are right, and so are the weights' with zeros added by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn
from torch.nn import functional


class PaddedConv2d(nn.Conv2d):
    """``nn.Conv2d``, with right gradients in bf16 on CPUs for frames one pixel wide."""

    def forward(self, frames: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the convolution's output."""
        return _pad(self, frames, functional.conv2d) if _goes_wrong(self, frames) else super().forward(frames)


class PaddedConv3d(nn.Conv3d):
    """``nn.Conv3d``, with right gradients in bf16 on CPUs for clips two frames long or one pixel wide."""

    def forward(self, clips: Tensor) -> Tensor:
        """Map ``(N, C, T, H, W)`` to the convolution's output."""
        return _pad(self, clips, functional.conv3d) if _goes_wrong(self, clips) else super().forward(clips)


def pad_by_hand(model: nn.Module) -> None:
    """Replace the 2-D and 3-D convolutions inside a model by those of this module, with the same parameters.

    Convolutions that pad in a way of their own, as TensorFlow does, are left alone.
    """
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            for plain, padded in ((nn.Conv2d, PaddedConv2d), (nn.Conv3d, PaddedConv3d)):
                own_way = getattr(type(child), "forward", None) is not plain.forward
                if isinstance(child, plain) and not own_way and max(child.kernel_size) > 1:
                    setattr(module, name, _replaced(child, padded))


def _goes_wrong(convolution: nn.Conv2d | nn.Conv3d, inputs: Tensor) -> bool:
    kernel, size = convolution.kernel_size, inputs.shape[2:]
    short = len(size) == 3 and size[0] == 2 and kernel[0] > 1
    narrow = size[-1] == 1 and kernel[-1] > 1 and convolution.stride[-1] > 1
    return inputs.is_cpu and (short or narrow)


def _pad(convolution: nn.Conv2d | nn.Conv3d, inputs: Tensor, convolve: Callable[..., Tensor]) -> Tensor:
    sides = [side for side in reversed(cast(tuple[int, ...], convolution.padding)) for _ in range(2)]
    inputs = functional.pad(inputs, sides)
    weight, bias, stride = convolution.weight, convolution.bias, convolution.stride
    return convolve(inputs, weight, bias, stride, 0, convolution.dilation, convolution.groups)


def _replaced(old: nn.Conv2d | nn.Conv3d, padded: type[PaddedConv2d | PaddedConv3d]) -> nn.Module:
    new = padded(
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
