"""Gradients of the encoders in bf16 on a CPU are those of fp32, also where the CPU's library gets them wrong."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lofi_tal.encoders import create_encoder
from lofi_tal.encoders.padding import PaddedConv2d, PaddedConv3d


def weight_gradients(convolution: nn.Module, inputs: Tensor, up: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the gradient of the weights, in memory that holds NaN where nobody writes."""
    spoilt = [torch.full((size,), float("nan")) for size in (10**3, 10**4, 10**5, 10**6) for _ in range(6)]
    del spoilt
    convolution.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        convolution(inputs).backward(up.to(dtype))
    return convolution.get_parameter("weight").grad.clone()


@pytest.mark.parametrize(
    ("convolution", "shape"),
    [
        (PaddedConv3d(36, 16, (3, 1, 1), padding=(1, 0, 0), bias=False), (4, 36, 2, 6, 6)),
        (PaddedConv3d(16, 16, 3, padding=1, bias=False), (4, 16, 2, 6, 6)),
        (PaddedConv3d(16, 16, 3, stride=2, padding=1, bias=False), (4, 16, 2, 6, 1)),
        (PaddedConv3d(16, 16, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), bias=False), (4, 16, 4, 6, 1)),
        (PaddedConv2d(16, 32, 3, stride=2, padding=1, bias=False), (8, 16, 1, 1)),
        (PaddedConv2d(16, 32, 7, stride=2, padding=3, bias=False), (8, 16, 5, 1)),
    ],
)
def test_weights_of_short_clips_and_narrow_frames_get_their_gradient(
    convolution: nn.Module, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(shape)
    up = torch.randn_like(convolution(inputs)).bfloat16()
    exact = weight_gradients(convolution, inputs, up, torch.float32)
    rounded = weight_gradients(convolution, inputs, up, torch.bfloat16)
    assert float((rounded - exact).norm() / exact.norm()) < 0.02


@pytest.mark.parametrize("name", ["r2plus1d_18", "r3d_18", "mc3_18", "tsm_resnet18"])
@pytest.mark.parametrize("size", [16, 32])
def test_every_weight_of_an_encoder_gets_the_gradient_of_fp32(name: str, size: int) -> None:
    # per layer, since one wrong layer is lost in the norm of all; loose, since bf16 rounds in every layer before it
    torch.manual_seed(0)
    encoder = create_encoder(name, width=16).train()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.eval()
    frames = torch.rand(8 * 8, 3, size, size)
    found: list[dict[str, Tensor]] = []
    for enabled in (False, True):
        encoder.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            features = encoder.encode(frames, 8)
        (features - features.detach().mean(0)).square().sum().backward()
        found.append({key: one.grad for key, one in encoder.named_parameters() if one.grad is not None})
    exact, rounded = found
    wrong = {key: float((rounded[key] - one).norm() / one.norm()) for key, one in exact.items() if one.ndim > 3}
    assert {key: value for key, value in wrong.items() if not value < 0.5} == {}
