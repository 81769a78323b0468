"""The optimisers of the stages, in the form that the device runs fastest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from lightning_fabric import Fabric

from lofi_tal.runtime.device import precision_of

_KINDS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def make_optimizer(name: str, parameters: Iterable[Any], fabric: Fabric, **options: Any) -> torch.optim.Optimizer:
    """Return an optimiser; on CUDA one whose update of all parameters is a single kernel.

    Such an optimiser unscales fp16 gradients by itself, so that they cannot be clipped before it: fp16 goes without. On
    CPUs the usual form stays, of which results do not change.

    Args:
        name: ``sgd``, ``adam`` or ``adamw``.
        parameters: Parameters or groups of them.
        fabric: Device and precision.
        options: Of the optimiser, such as ``lr``.
    """
    if fabric.device.type == "cuda" and precision_of(fabric) != "fp16":
        options["fused"] = True
    return _KINDS[name](parameters, **options)
