"""How stage 3 steps: Adam with one fall, or ActionFormer's AdamW with warm-up and cosine."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from lightning_fabric import Fabric
from torch import nn

from lofi_tal.head_settings import HeadSection
from lofi_tal.runtime import make_optimizer

_LEAST = 1e-8  # learning rate at the end of the cosine


def head_optimizer(head: nn.Module, section: HeadSection, lr: float, fabric: Fabric) -> Any:
    """Return the optimiser of a head."""
    if section.optimizer is None:
        return make_optimizer("adam", head.parameters(), fabric, lr=lr, weight_decay=section.weight_decay)
    return make_optimizer(section.optimizer, decay_groups(head, section.weight_decay), fabric, lr=lr)


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two groups of parameters: weights, which decay, and biases, norms and scales, which do not.

    The latter have one axis that is longer than 1 at most, as in happyharrycn/actionformer_release
    (``libs/utils/train_utils.py``).
    """
    weights: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in module.parameters():
        flat = parameter.numel() == max((1, *parameter.shape))
        (others if flat else weights).append(parameter)
    return [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def rate_at_step(lr: float, warmup: int, total: int) -> Callable[[int], float]:
    """Return the learning rate of each step: up a line from 0, then down half a cosine.

    Source: happyharrycn/actionformer_release, ``libs/utils/lr_schedulers.py``.

    Args:
        lr: The highest.
        warmup: Steps of the line.
        total: Steps of both together.
    """

    def rate(step: int) -> float:
        if step < warmup:
            return lr * step / max(1, warmup - 1)
        share = (step - warmup) / max(1, total - warmup)
        return _LEAST + (lr - _LEAST) * (1 + math.cos(math.pi * share)) / 2

    return rate
