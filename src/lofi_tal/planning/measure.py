"""One real training step in a fresh process, to hold a prediction against.

    python -m lofi_tal.planning.measure '{"encoder": {...}, "head": {...}, ...}' PARENT

Memory is the growth of the process's peak resident size (VmHWM; on a GPU the allocator's peak) over its size after a
tiny step of the same model, which loads the libraries; large blocks are given back to the system at once
(MALLOC_MMAP_THRESHOLD_), so that what is freed does not count.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lofi_tal.encoders import adapt_encoder, create_encoder, outline_encoder, trainable
from lofi_tal.errors import RunError
from lofi_tal.heads import create_head
from lofi_tal.processes import end_with_parent
from lofi_tal.runtime import WeightAverage
from lofi_tal.runtime.device import free_unused, give_back_memory
from lofi_tal.stages.end_to_end import EndToEnd
from lofi_tal.stages.strategies import Strategy


def measure_step(
    *,
    encoder: dict[str, Any],
    head: dict[str, Any],
    videos: int,
    snippets: int,
    frames: int,
    size: int,
    strategy: dict[str, Any],
    precision: str = "fp32",
    optimizer: str = "sgd",
    momentum: float = 0.0,
    adapting: dict[str, Any] | None = None,
    ema: float | None = None,
    steps: int = 2,
    threads: int = 0,
) -> dict[str, float]:
    """Run training steps in a process of its own and return ``peak`` (bytes) and ``seconds`` (of the last step).

    Args:
        encoder: ``{"name", **options}``.
        head: ``{"name", **options}``.
        videos: B.
        snippets: L.
        frames: T.
        size: S.
        strategy: Arguments of :class:`Strategy`.
        precision: ``fp32`` or ``bf16``.
        optimizer: ``sgd`` or ``adamw``.
        momentum: Of SGD.
        adapting: How much of the encoder is trained, as arguments of :func:`lofi_tal.encoders.adapt_encoder`.
        ema: Decay of an average of the weights.
        steps: How many; the last one is timed, the peak is that of all.
        threads: Of the CPU; 0 takes torch's default.

    Raises:
        RunError: If the process fails, for want of memory for example.
    """
    request = {**locals()}
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(  # noqa: S603 - this module, with arguments of our own
        [sys.executable, "-m", "lofi_tal.planning.measure", json.dumps(request), str(os.getpid())],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise RunError(f"A step of {videos} × {snippets} × {size} px could not be measured: {last}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0


def _run(request: dict[str, Any]) -> dict[str, float]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if request["threads"]:
        torch.set_num_threads(request["threads"])
    options = {key: value for key, value in request["encoder"].items() if key != "name"}
    small = outline_encoder(request["encoder"]["name"], options).takes.nearest_size(32)
    train_steps({**request, "videos": 1, "snippets": 2, "size": small, "steps": 1}, device)
    free_unused()
    give_back_memory()
    before = _resident("VmRSS")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = train_steps(request, device)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else _resident("VmHWM") - before
    return {"peak": float(peak), "seconds": seconds}


def train_steps(request: dict[str, Any], device: torch.device, after: Callable[[], None] = lambda: None) -> float:
    """Run training steps on random frames in this process and return the seconds of the last one.

    Args:
        request: Arguments of :func:`measure_step`.
        device: Where.
        after: Called after each step.
    """
    torch.manual_seed(0)
    encoder = create_encoder(**request["encoder"])
    adapt_encoder(encoder, **(request.get("adapting") or {}))
    options = {key: value for key, value in request["head"].items() if key != "name"}
    head = create_head(request["head"]["name"], encoder.channels, **options)
    model = EndToEnd(encoder, head, None, Strategy(**request["strategy"])).to(device).train()
    optimizer: torch.optim.Optimizer
    if request["optimizer"] == "adamw":
        optimizer = torch.optim.AdamW(trainable(model.modules()), lr=1e-4)
    else:
        optimizer = torch.optim.SGD(trainable(model.modules()), lr=1e-4, momentum=request["momentum"])
    average = WeightAverage(model, request["ema"]) if request.get("ema") else None
    shape = (request["videos"], request["snippets"], request["frames"], request["size"], request["size"], 3)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8).to(device)
    segments = [torch.tensor([[0.2, 0.6], [0.7, 0.8]], device=device)] * request["videos"]
    labels = [torch.tensor([0, 0], device=device)] * request["videos"]
    seconds = 0.0
    for _ in range(request["steps"]):
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=request["precision"] == "bf16"):
            outputs, _ = model(frames)
        total = head.loss(outputs, segments, labels)["total"]
        del outputs
        torch.autograd.backward(total)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if average is not None:
            average.update()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        after()
    return seconds


if __name__ == "__main__":
    end_with_parent(int(sys.argv[2]))
    sys.stdout.write(json.dumps(_run(json.loads(sys.argv[1]))) + "\n")
