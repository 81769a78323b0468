"""Device, precision and memory of the machine at hand."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import functools
import gc
import logging
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.single_device import SingleDeviceStrategy
from torch import Tensor

from lofi_tal.errors import LofiError
from lofi_tal.launch import started_here, started_local_rank, started_size
from lofi_tal.runtime.heartbeat import begin_heartbeat

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_CLEARLY = 1.3  # times faster; below it, fp32 is worth more than the difference
_PATIENCE = datetime.timedelta(hours=12)  # of collectives: one process may work for long while others wait for it
_STATUS = Path("/proc/self/status")


def make_fabric(device: str = "auto", precision: str = "auto", *, alone: bool = False) -> Fabric:
    """Return a Fabric for one device, or for the processes that ``torchrun`` or SLURM started.

    Args:
        device: ``auto`` (CUDA where there is one, else CPU), ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto`` is bf16 autocast on a GPU that has it, and on a CPU if :func:`cpu_gains_from_bf16` says so;
            fp32 elsewhere.
        alone: For this process and its device by itself, whatever others there are.

    Raises:
        LofiError: If the device is not there or the precision does not exist on it.
    """
    if device not in DEVICES or precision not in PRECISIONS:
        raise LofiError(
            f"device {device!r} with precision {precision!r}: devices are {', '.join(DEVICES)}; "
            f"precisions are {', '.join(PRECISIONS)}."
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise LofiError("device 'cuda' was asked for and torch sees no CUDA device; use cpu or auto.")
    if device == "mps" and not torch.backends.mps.is_available():
        raise LofiError("device 'mps' was asked for and torch sees none; use cpu or auto.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "auto":
        precision = auto_precision(device)
    if precision == "fp16" and device != "cuda":
        raise LofiError(f"precision 'fp16' needs a CUDA device; on {device!r} use fp32 or bf16.")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells the precision every time
    name: Any = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[precision]
    if alone:
        chosen = torch.device(device, started_local_rank() % torch.cuda.device_count()) if device == "cuda" else device
        return Fabric(accelerator=device, devices=1, strategy=SingleDeviceStrategy(chosen), precision=name)
    processes, local = started_size(), started_here()
    fabric = Fabric(
        accelerator=device,
        devices=local,
        num_nodes=max(1, processes // local),
        strategy=DDPStrategy(timeout=_PATIENCE) if processes > 1 else "auto",
        precision=name,
    )
    fabric.launch()
    if processes > 1:
        begin_heartbeat(fabric.global_rank, fabric.world_size)
    return fabric


def auto_precision(device: str) -> str:
    """Return what ``auto`` stands for on ``cpu``, ``cuda`` or ``mps``."""
    gains = torch.cuda.is_bf16_supported() if device == "cuda" else device == "cpu" and cpu_gains_from_bf16()
    return "bf16" if gains else "fp32"


def precision_of(fabric: Fabric) -> str:
    """Return ``fp32``, ``bf16`` or ``fp16``."""
    name = str(fabric.strategy.precision.precision)
    return {"32-true": "fp32", "bf16-mixed": "bf16", "16-mixed": "fp16"}.get(name, name)


@functools.cache
def cpu_gains_from_bf16() -> bool:
    """Say whether a convolution trains clearly faster in bf16 than in fp32 on this CPU; it is tried, in about 0.2 s.

    Having the instructions is not enough: with AMX, or on some CPUs with AVX512-BF16, bf16 is two to three times as
    fast, and on others slower than fp32. The fastest of several rounds on one thread counts, which other work on the
    machine disturbs least: a command that goes on with a run must come to the same answer.
    """
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():  # noqa: SLF001 (torch has no public name for it)
        return False
    frames = torch.randn(16, 64, 28, 28).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(64, 64, 3, 3).contiguous(memory_format=torch.channels_last).requires_grad_()

    def seconds(dtype: torch.dtype) -> float:
        began = time.perf_counter()
        out = torch.nn.functional.conv2d(frames.to(dtype), weight.to(dtype), padding=1)
        torch.autograd.backward(out.float().mean())
        return time.perf_counter() - began

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rounds = [(seconds(torch.float32), seconds(torch.bfloat16)) for _ in range(8)]
    finally:
        torch.set_num_threads(threads)
    return min(full for full, _ in rounds) / min(half for _, half in rounds) >= _CLEARLY


def describe_device(fabric: Fabric) -> str:
    """Return e.g. ``cpu, 2 threads, fp32`` or ``1 × NVIDIA H100, bf16``."""
    precision = precision_of(fabric)
    if fabric.device.type == "cuda":
        return f"{fabric.world_size} × {torch.cuda.get_device_name(fabric.device)}, {precision}"
    threads = torch.get_num_threads()
    return f"{fabric.device.type}, {threads} thread{'s' if threads > 1 else ''}, {precision}"


@contextlib.contextmanager
def pinned(memory: Tensor) -> Iterator[None]:
    """Keep memory that other processes write to where the GPU reads it directly; without CUDA nothing is done.

    Where the system allows no more pinned memory (``ulimit -l``), copies are slower, and that is all.
    """
    if not torch.cuda.is_available():
        yield
        return
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    done = int(runtime.cudaHostRegister(memory.data_ptr(), memory.nbytes, 0)) == 0
    if not done:
        with contextlib.suppress(RuntimeError):  # CUDA keeps the error and raises it at the next kernel: this one
            torch.ones(1, device="cuda")
    try:
        yield
    finally:
        if done:
            torch.cuda.synchronize()
            runtime.cudaHostUnregister(memory.data_ptr())


@contextlib.contextmanager
def tuned_convolutions(device: torch.device) -> Iterator[None]:
    """Let cuDNN try its algorithms once for each shape of a convolution and keep the fastest.

    The shapes of a training are few: batches differ by one item at most, and a schedule has a few fidelities. Going
    back to a known shape costs nothing. Not in deterministic mode, for chance has a part in what is the fastest.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = device.type == "cuda" and not torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def free_unused() -> None:
    """Free tensors that only circles of references hold, and what CUDA's allocator keeps for later."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def give_back_memory() -> None:
    """Return freed memory to the system, where the C library can."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class PeakMemory:
    """Peak memory since this object was made: of the GPU, or resident memory of this process.

    What was freed before is given back first: kept by the C library, it would count as memory of what comes next.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            give_back_memory()
            with contextlib.suppress(OSError):  # Linux: starts a new high-water mark
                Path("/proc/self/clear_refs").write_text("5")

    def bytes(self) -> int:
        """Return the peak in bytes."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return self.resident()

    @staticmethod
    def resident() -> int:
        """Return the peak of this process's resident memory in bytes."""
        if _STATUS.exists():
            for line in _STATUS.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def environment() -> dict[str, Any]:
    """Return versions and hardware, as they belong beside results."""
    packages = ("lofi-tal", "torch", "torchvision", "numpy", "av", "lightning-fabric", "safetensors")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "versions": {package: _version(package) for package in packages},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from its sources, or part of another package
        module = sys.modules.get(package.replace("-", "_"))
        return getattr(module, "__version__", "not installed")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
