"""(c) Frames per second of the encoder in training and extraction, against the bare torchvision backbone.

TSM-ResNet-18 at 224, 158 and 112 pixels: as a run uses it, compiled, compiled with CUDA graphs; beside it the same
backbone in the same precision on frames that are normalised already (`bare`), and in fp32, channels first (`plain`).
FLOPs are counted, and held against a large bf16 matrix product on the same device. Limit: training within 10 % of bare.
"""

from __future__ import annotations

import time
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.encoder import FRAMES, measure
from benchmarks.gpu.setting import Jobs, Row, Setting, synchronise
from lofi_tal.encoders import create_encoder
from lofi_tal.runtime import make_fabric, tuned_convolutions

TITLE = "frames per second of the encoder"
SIZES = (224, 158, 112)
CLIPS = 64  # of 8 frames, at 224 pixels
COMPILED = {"compile": "default", "graphs": "reduce-overhead"}


def jobs(setting: Setting) -> Jobs:
    """Yield the device's peak, every size as it is, then compiled."""
    sizes = (32,) if setting.smoke else SIZES
    yield "matrix product", partial(_peak, setting)
    for size in sizes:
        yield f"{size} eager", partial(_measure, setting, size, None)
    for size in sizes:
        for name, mode in list(COMPILED.items())[: 1 if setting.smoke else None]:
            yield f"{size} {name}", partial(_measure, setting, size, mode)


def _peak(setting: Setting, seconds: float) -> Row:
    """Return the FLOP/s of a large bf16 matrix product."""
    side = 256 if setting.smoke else 8192
    left, right = torch.randn(2, side, side, device=setting.device, dtype=torch.bfloat16)
    best = float("inf")
    for _ in range(3 if setting.smoke else 30):
        synchronise(setting.device)
        began = time.perf_counter()
        left @ right
        synchronise(setting.device)
        best = min(best, time.perf_counter() - began)
    return {"tflops": 2 * side**3 / best / 1e12}


def _measure(setting: Setting, size: int, mode: str | None, seconds: float) -> Row:
    fabric = make_fabric(setting.device.type, "bf16", alone=True)
    clips = 1 if setting.smoke else round(CLIPS * (224 / size) ** 2)
    options = {"width": 8} if setting.smoke else {}
    backend = "aot_eager" if setting.smoke else "inductor"
    began = time.perf_counter()
    with tuned_convolutions(setting.device):
        rounds = 1 if setting.smoke else 5
        figures = measure(fabric, size, clips, rounds, compiled=mode, backend=backend, options=options)
    row: Row = {"clips": clips, "whole_seconds": time.perf_counter() - began, **figures}
    flops = _flops(size, options)
    for name, passes in (("training", 3), ("extraction", 1)):
        row[name]["tflops"] = row[name]["ours frames/s"] * passes * flops / 1e12
    return row


def _flops(size: int, options: dict[str, int]) -> float:
    """Return the operations of a forward pass over one frame."""
    encoder = create_encoder("tsm_resnet18", **options)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        encoder(torch.zeros(1, FRAMES, 3, size, size, dtype=torch.uint8))
    return float(counter.get_total_flops()) / FRAMES


def show(rows: dict[str, Row]) -> list[str]:
    """Return a line for each size, way and mode, and which way is the fastest."""
    peak = rows.get("matrix product", {}).get("tflops", float("nan"))
    lines = [f"bf16 matrix product: {peak:.0f} TFLOP/s"]
    for key, row in rows.items():
        for mode in ("training", "extraction"):
            if mode in row:
                one = row[mode]
                against = f"{one['ours / bare']:.2f} of bare" if "ours / bare" in one else ""
                lines.append(
                    f"{key:14} {mode:10} {one['ours frames/s']:9.0f} frames/s, {one['tflops']:6.1f} TFLOP/s "
                    f"({one['tflops'] / peak:.1%} of the product) {against}"
                )
    return lines


def is_good(rows: dict[str, Row]) -> bool:
    """Say whether training is within 10 % of the bare backbone."""
    return all(row["training"].get("ours / bare", 1.0) >= 0.9 for row in rows.values() if "training" in row)
