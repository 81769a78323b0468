"""Speed of TSM-ResNet-18 in training and extraction, against torchvision's plain ResNet-18 on the same frames.

    python benchmarks/encoder.py [--sizes 224 158 112 64] [--clips N] [--rounds N] [--threads N] [--json FILE]

Three ways take turns in every round, and a ratio is the median over the rounds of the ratio within a round:

* ours: the encoder as a run uses it (uint8 frames in, normalised, shifted, averaged), in the precision that ``auto``
  chooses;
* plain: torchvision's ResNet-18 in fp32, channels first, on frames that are normalised already;
* bare: the same backbone, channels last, in our precision: what shift, averaging and reshaping are measured against.

With a GPU the figures are the GPU's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from lofi_tal.encoders import create_encoder
from lofi_tal.runtime import describe_device, make_fabric

FRAMES = 8


def backbone(channels_last: bool) -> nn.Module:
    """Return torchvision's ResNet-18 without its classifier."""
    model = resnet18(weights=None)
    model.fc = nn.Identity()
    return model.to(memory_format=torch.channels_last) if channels_last else model


def ways(
    fabric: Any, clips: Tensor, compiled: str | None, backend: str, options: dict[str, Any]
) -> dict[str, Callable[[bool], None]]:
    """Return for each way a function that trains on, or encodes, the clips ``(N, T, 3, S, S)`` once."""
    device = fabric.device
    ours = create_encoder("tsm_resnet18", **options).to(device)
    if compiled is not None:
        torch.compiler.reset()  # code for earlier shapes counts against a limit, beyond which nothing is compiled
        mode = {"mode": compiled} if backend == "inductor" else {}
        ours.compile(backend=backend, dynamic=False, **mode)
    frames = clips.flatten(0, 1).float().div(255).sub(0.45).div(0.225).contiguous()
    models: dict[str, tuple[nn.Module, Tensor, bool]] = {
        "ours": (ours, clips, True),
        "plain": (backbone(False).to(device), frames.to(device), False),
        "bare": (
            backbone(True).to(device),
            frames.to(device).contiguous(memory_format=torch.channels_last),
            True,
        ),
    }
    if compiled is not None:  # the others are the same as without
        models = {"ours": models["ours"]}

    def run(model: nn.Module, inputs: Tensor, mixed: bool, training: bool) -> None:
        model.train(training)
        with torch.set_grad_enabled(training):
            if mixed:
                with fabric.autocast():
                    features = model(inputs)
            else:
                features = model(inputs)
            if training:
                model.zero_grad(set_to_none=True)
                features.float().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return {
        name: lambda training, parts=parts: run(*parts, training)  # type: ignore[misc]
        for name, parts in models.items()
    }


def measure(
    fabric: Any,
    size: int,
    clips: int,
    rounds: int,
    *,
    compiled: str | None = None,
    backend: str = "inductor",
    options: dict[str, Any] | None = None,
) -> dict[str, dict[str, float]]:
    """Return frames per second and ratios for one size, in training and extraction.

    Args:
        fabric: Device and precision.
        size: S.
        clips: Of 8 frames, at once.
        rounds: Every way takes its turn in each; one more warms up.
        compiled: Our encoder alone, compiled in this mode of `torch.compile`.
        backend: Of `torch.compile`.
        options: Of our encoder.
    """
    torch.manual_seed(0)
    # (N, T, H, W, 3) in memory, as the decoder gives them
    stored = torch.randint(0, 256, (clips, FRAMES, size, size, 3), dtype=torch.uint8).to(fabric.device)
    functions = ways(fabric, stored.permute(0, 1, 4, 2, 3), compiled, backend, options or {})
    found = {}
    for mode, training in (("training", True), ("extraction", False)):
        seconds: dict[str, list[float]] = {name: [] for name in functions}
        warming = 1 if compiled is None else 3  # CUDA graphs are recorded at the second call
        for number in range(-warming, rounds):
            for name, function in functions.items():
                begin = time.perf_counter()
                function(training)
                if number >= 0:
                    seconds[name].append(time.perf_counter() - begin)
        figures = {f"{name} frames/s": clips * FRAMES / statistics.median(values) for name, values in seconds.items()}
        for other in seconds.keys() - {"ours"}:
            ratios = [theirs / ours for theirs, ours in zip(seconds[other], seconds["ours"], strict=True)]
            figures[f"ours / {other}"] = statistics.median(ratios)
        found[mode] = figures
    return found


def main() -> None:
    """Print a table, and write the figures to a file if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 158, 112, 64])
    parser.add_argument(
        "--clips", type=int, default=4, help="clips of 8 frames at once, at 224 pixels; more at lower sizes"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch takes")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    fabric = make_fabric(precision=options.precision)
    results: dict[str, Any] = {"device": describe_device(fabric)}
    print(results["device"])
    print(f"{'size':>5} {'mode':<11} {'ours':>9} {'plain':>9} {'bare':>9} {'ours/plain':>11} {'ours/bare':>10}")
    for size in options.sizes:
        clips = max(1, round(options.clips * (224 / size) ** 2))
        results[str(size)] = measure(fabric, size, clips, options.rounds)
        for mode, row in results[str(size)].items():
            print(
                f"{size:>5} {mode:<11} {row['ours frames/s']:>9.1f} {row['plain frames/s']:>9.1f} "
                f"{row['bare frames/s']:>9.1f} {row['ours / plain']:>11.2f} {row['ours / bare']:>10.2f}"
            )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
