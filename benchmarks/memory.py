"""Memory of stage 2: predicted against measured, for every strategy and fidelity; flatness in L; the cost of a step.

    python benchmarks/memory.py [--encoders NAME ...] [--size S] [--snippets L] [--json FILE]

Every measurement is a process of its own (`lofi_tal.planning.measure`): the growth of its peak resident memory over two
training steps, encoder, G-TAD head, loss and optimiser included. Limits: a prediction is off by at most 10 %; S, T and
ST lie within 15 % of each other and at about a quarter of full fidelity; chunked at full fidelity needs at most what
plain T-LoFi needs, and as much at L = 200 as at L = 25; a chunked step takes at most 1.45 times a plain one; a whole
plan for TSM-ResNet-18 at 224 pixels takes less than 20 s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from lofi_tal.config import make_recipe
from lofi_tal.encoders import create_encoder
from lofi_tal.fidelity import Fidelity, create_schedule, full_fidelity
from lofi_tal.heads import create_head
from lofi_tal.planning import StepModel, make_plan
from lofi_tal.planning.measure import measure_step
from lofi_tal.stages.end_to_end import EndToEnd
from lofi_tal.stages.strategies import STRATEGIES, Strategy

FRAMES = 8
CHUNK = 4  # few, because L is small here
COST_CHUNK, COST_SIZE, COST_SNIPPETS = 8, 112, 16  # the recipe's default; small chunks cost more


def model_of(encoder: str) -> StepModel:
    """Return the predictor of an encoder with G-TAD and the paper's optimiser."""
    built = create_encoder(encoder)
    return StepModel(built, create_head("gtad", built.channels), frames=FRAMES, optimizer="sgd", momentum=0.0)


def measured(encoder: str, fidelity: Fidelity, strategy: Strategy) -> dict[str, float]:
    """Return peak and seconds of a real step with one video."""
    return measure_step(
        encoder={"name": encoder}, head={"name": "gtad"}, videos=1, snippets=fidelity.snippets, frames=FRAMES,
        size=fidelity.size, strategy=vars(strategy),
    )  # fmt: skip


def strategies_benchmark(encoder: str, size: int, snippets: int) -> list[dict[str, Any]]:
    """Hold every prediction against a measurement."""
    model, full = model_of(encoder), full_fidelity(snippets, size)
    rows = []
    for fidelity in (full, *create_schedule("long", full).fidelities):
        for name in STRATEGIES:
            strategy = Strategy(name, CHUNK)
            predicted = model.memory(1, fidelity, strategy, "fp32").peak
            found = measured(encoder, fidelity, strategy)["peak"]
            row: dict[str, Any] = {"encoder": encoder, "fidelity": str(fidelity), "strategy": str(strategy)}
            row |= {"predicted_gib": predicted / 2**30, "measured_gib": found / 2**30, "error": predicted / found - 1}
            rows.append(row)
            print(
                f"{encoder:<16} {fidelity!s:<14} {strategy!s:<14} predicted {predicted / 2**30:6.3f} GiB, measured "
                f"{found / 2**30:6.3f} GiB, error {100 * rows[-1]['error']:+5.1f} %",
                flush=True,
            )
    plain = {row["fidelity"].split()[0]: row["measured_gib"] for row in rows if row["strategy"] == "plain"}
    low = [plain[name] for name in ("S", "T", "ST")]
    chunked = next(r["measured_gib"] for r in rows if r["fidelity"].startswith("full") and "chunked" in r["strategy"])
    print(f"  largest error {100 * max(abs(row['error']) for row in rows):.1f} % (at most 10)")
    print(
        f"  S, T, ST differ by {100 * (max(low) / min(low) - 1):.1f} % (at most 15); "
        f"T / full {plain['T'] / plain['full']:.2f}"
    )
    print(f"  chunked full fidelity / plain T {chunked / plain['T']:.2f} (at most 1)", flush=True)
    return rows


def flatness_benchmark(encoder: str) -> list[dict[str, Any]]:
    """Measure chunked back-propagation at growing L."""
    rows = []
    for snippets in (25, 50, 100, 200):
        found = measured(encoder, Fidelity("full", snippets, COST_SIZE), Strategy("chunked", COST_CHUNK))
        rows.append({"encoder": encoder, "snippets": snippets, "measured_gib": found["peak"] / 2**30})
        print(f"{encoder:<16} chunked, L = {snippets:<4} {rows[-1]['measured_gib']:.3f} GiB", flush=True)
    found = [row["measured_gib"] for row in rows]
    print(f"  L = 200 / L = 25: {found[-1] / found[0]:.2f}; plain grows 8-fold", flush=True)
    return rows


def cost_benchmark(encoder: str, rounds: int = 5) -> dict[str, float]:
    """Time a step of each strategy at the same fidelity, taking turns."""
    built = create_encoder(encoder)
    head = create_head("gtad", built.channels)
    shape = (1, COST_SNIPPETS, FRAMES, COST_SIZE, COST_SIZE, 3)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8)
    models = {name: EndToEnd(built, head, None, Strategy(name, COST_CHUNK)).train() for name in STRATEGIES}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for number in range(rounds + 1):
        for name, model in models.items():
            begin = time.perf_counter()
            outputs, _ = model(frames)
            head.loss(outputs, [torch.tensor([[0.2, 0.6]])], [torch.tensor([0])])["total"].backward()
            model.zero_grad(set_to_none=True)
            if number:
                seconds[name].append(time.perf_counter() - begin)
    plain = seconds["plain"]
    ratios = {
        name: statistics.median(ours / theirs for ours, theirs in zip(values, plain, strict=True))
        for name, values in seconds.items()
    }
    print(
        f"{encoder:<16} step / plain step: " + ", ".join(f"{n} {r:.2f}" for n, r in ratios.items()) + " (at most 1.45)"
    )
    return ratios


def planner_benchmark() -> float:
    """Time a whole plan of TSM-ResNet-18 at 224 pixels."""
    recipe = make_recipe({"data": {"annotations": "-", "videos": "-"}})
    begin = time.perf_counter()
    make_plan(recipe, model_of("tsm_resnet18"), budget=24 * 2**30, precisions=("fp32", "bf16"))
    seconds = time.perf_counter() - begin
    print(f"plan of TSM-ResNet-18 at 224 px, all rows, fp32 and bf16: {seconds:.1f} s (under 20)", flush=True)
    return seconds


def main() -> None:
    """Print every figure beside its limit, and write them to a file if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", default=["tsm_resnet18", "r2plus1d_18"])
    parser.add_argument("--size", type=int, default=80)
    parser.add_argument("--snippets", type=int, default=32)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: dict[str, Any] = {"planner_seconds": planner_benchmark()}
    for encoder in options.encoders:
        results[encoder] = {
            "strategies": strategies_benchmark(encoder, options.size, options.snippets),
            "cost": cost_benchmark(encoder),
            "flatness": flatness_benchmark(encoder),
        }
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
