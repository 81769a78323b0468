"""The cases in which ActionFormer is compared with its published code, and the values that both are given.

``actionformer.json`` holds what happyharrycn/actionformer_release (of April 2024) returned for them on a CPU. Values of
parameters and features are formulas of their names, so none need storing.
"""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lofi_tal.heads import ActionFormer


class Case(NamedTuple):
    """A model, the lengths of a batch, and its actions ``(start, end, class)`` in steps of the features."""

    variant: str
    options: dict[str, Any]
    lengths: tuple[int, ...]
    actions: tuple[tuple[tuple[float, float, int], ...], ...]


NARROW = {"in_channels": 24, "width": 32}
ONE = ((10.2, 31.7, 0), (55.0, 58.5, 0), (60.0, 160.0, 0), (62.5, 90.0, 0))
MANY = ((10.2, 31.7, 3), (10.2, 31.7, 7), (55.0, 58.5, 1), (60.0, 160.0, 2), (62.5, 90.0, 2), (100.0, 400.0, 19))
CASES = {
    "activitynet": Case("activitynet", {}, (192,), (ONE,)),
    "thumos": Case("thumos", {}, (300,), (MANY,)),
    "activitynet, masks": Case("activitynet", NARROW, (192, 131, 97), (ONE, ONE[:2], ())),
    "activitynet, longer than its table": Case("activitynet", NARROW, (300,), (ONE,)),
    "thumos, masks": Case("thumos", NARROW, (700, 32, 449), (MANY, MANY[:2], MANY[2:])),
    "thumos, shorter than a stride": Case("thumos", NARROW, (7,), (((1.5, 5.0, 4),),)),
    "thumos, longer than in training": Case("thumos", NARROW, (2500,), (((1.0, 2000.0, 4), *MANY),)),
    "thumos, no padding": Case("thumos", NARROW, (2304,), (MANY,)),
}
SHOWN = ("backbone.embd.0.conv.weight", "backbone.branch.4.attn.key.weight", "neck.fpn_norms.2.bias",
         "reg_head.scale.3.scale", "cls_head.cls_head.conv.bias")  # fmt: skip
"""Parameters whose gradients are compared."""


def filled(name: str, shape: tuple[int, ...], scale: float) -> Tensor:
    """Return values in [-scale, scale] that look random and depend on name and shape alone."""
    count = torch.Size(shape).numel()
    index = torch.arange(count, dtype=torch.float64)
    phase = zlib.crc32(name.encode()) % 9973
    return (scale * torch.sin(index * 12.9898 + index * index % 997 * 0.31 + phase)).float().reshape(shape)


@torch.no_grad()
def fill(model: nn.Module) -> None:
    """Give every parameter its value: factors near 1, weights by fan-in, small biases; offsets mostly above 0."""
    for name, parameter in model.named_parameters():
        shape = tuple(parameter.shape)
        factors = parameter.ndim == 3 and parameter.numel() == max(shape)
        if factors or name.endswith(".scale"):
            centre = 0.0 if name.endswith("bias") else 1.0
            parameter.copy_(centre + filled(name, shape, 0.1))
        elif parameter.ndim > 1:
            parameter.copy_(filled(name, shape, (3 / parameter[0].numel()) ** 0.5))
        else:
            parameter.copy_(filled(name, shape, 0.1) + (1.0 if "offset_head" in name else 0.0))


def features_of(case: Case, channels: int) -> list[Tensor]:
    """Return the features ``(C, T)`` of each video."""
    return [filled(f"features {index}", (channels, length), 1.0) for index, length in enumerate(case.lengths)]


def build(case: Case, **options: Any) -> ActionFormer:
    """Return the filled model of a case, without stochastic depth."""
    head: ActionFormer = getattr(ActionFormer, case.variant)(**case.options, drop_path=0.0, **options)
    fill(head)
    return head


def batch(case: Case, channels: int) -> tuple[Tensor, Tensor]:
    """Return features ``(B, C, T)`` and mask, filled up to the longest video."""
    videos = features_of(case, channels)
    longest = max(case.lengths)
    features = torch.stack([nn.functional.pad(video, (0, longest - video.shape[1])) for video in videos])
    return features, torch.arange(longest) < torch.tensor(case.lengths)[:, None]


def truth(case: Case) -> tuple[list[Tensor], list[Tensor]]:
    """Return segments as shares of each video, and classes."""
    segments = [
        (torch.tensor([action[:2] for action in actions], dtype=torch.float64).reshape(-1, 2) + 0.5) / length
        for actions, length in zip(case.actions, case.lengths, strict=True)
    ]
    labels = [torch.tensor([action[2] for action in actions], dtype=torch.long) for actions in case.actions]
    return [one.float() for one in segments], labels


def samples(levels: list[Tensor], lengths: tuple[int, ...]) -> list[float]:
    """Return sums and single values of outputs ``(B, T_l, X)`` at the valid points of every level and video."""
    found: list[float] = []
    for level, part in enumerate(levels):
        for video, length in enumerate(lengths):
            valid = part[video, : -(-length // 2**level)].double()
            found += [
                valid.sum().item(),
                valid[0].sum().item(),
                valid[-1].sum().item(),
                valid[len(valid) // 2, 0].item(),
            ]
    return found
