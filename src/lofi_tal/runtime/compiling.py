"""Compiling an encoder: with `torch.compile`, with CUDA graphs on top, or whatever is the fastest here."""

from __future__ import annotations

import copy
import statistics
import time
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from lofi_tal.errors import LofiError
from lofi_tal.runtime.device import tuned_convolutions

COMPILE = ("off", "on", "graphs", "auto")
_WAYS: dict[str, dict[str, Any]] = {"on": {}, "graphs": {"mode": "reduce-overhead"}}
_SHAPES = 64  # that are compiled in a process: fidelities, batches that differ by one, training and not
_WORTH = 1.05  # times as fast: below it, compiling again at every start is not
_WARMING, _TIMED = 3, 5  # steps; CUDA graphs are recorded after the first


def compile_module(module: nn.Module, way: str) -> None:
    """Compile a module in place when it is first called, anew for every shape; names of its weights stay.

    Code for shapes that change fails for strided convolutions (torch 2.14: "cannot determine truth value"); the shapes
    of a run are few.

    Args:
        module: Any module.
        way: ``off``, ``on`` or ``graphs``.
    """
    if way != "off":
        dynamo: Any = torch._dynamo  # noqa: SLF001 (the limit below has no public name)
        # all encoders of a process share one limit: beyond the usual 8 shapes and modes, they would run as they are
        dynamo.config.recompile_limit = max(_SHAPES, dynamo.config.recompile_limit)
        module.compile(**_WAYS[way], dynamic=False)


def fastest_way(module: nn.Module, inputs: Tensor, fabric: Fabric) -> tuple[str, dict[str, float]]:
    """Time training steps of a module and return the fastest way, and the seconds of a step for each.

    Compiling takes a minute or more a way, whatever comes out. A way that fails is left out.

    Args:
        module: Not changed.
        inputs: What it is called with.
        fabric: Device and precision.
    """
    ways = ("off", "on", *(("graphs",) if fabric.device.type == "cuda" else ()))
    seconds: dict[str, float] = {}
    for way in ways:
        model = copy.deepcopy(module).to(fabric.device).train()
        compile_module(model, way)
        try:
            with tuned_convolutions(fabric.device):
                seconds[way] = _time_step(model, inputs.to(fabric.device), fabric)
        except (RuntimeError, OSError):  # no compiler, no Triton
            if way == "off":
                raise
    best = min(seconds, key=seconds.__getitem__)
    return (best if seconds["off"] >= _WORTH * seconds[best] else "off"), seconds


def check_compile(way: str, strategy: str = "plain") -> None:
    """Refuse a way to compile that is unknown, or that a strategy of back-propagation does not go with.

    Raises:
        LofiError: If it does not.
    """
    if way not in COMPILE:
        raise LofiError(f"--compile {way!r} is unknown; allowed: {', '.join(COMPILE)}.")
    if way == "graphs" and strategy == "chunked":
        raise LofiError(
            "--compile graphs does not go with lofi.strategy: chunked, each group of which would be recorded."
        )
    if way != "off" and strategy == "checkpoint":
        raise LofiError(
            f"--compile {way}: an encoder whose blocks are checkpointed cannot be compiled; set lofi.strategy to plain "
            "or chunked, or leave --compile away."
        )


def _time_step(model: nn.Module, inputs: Tensor, fabric: Fabric) -> float:
    times = []
    for step in range(_WARMING + _TIMED):
        began = time.perf_counter()
        with fabric.autocast():
            features = model(inputs)
        torch.autograd.backward(features.float().mean())
        model.zero_grad(set_to_none=True)
        if fabric.device.type == "cuda":
            torch.cuda.synchronize()
        if step >= _WARMING:
            times.append(time.perf_counter() - began)
    return statistics.median(times)
