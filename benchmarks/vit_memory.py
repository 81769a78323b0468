"""Memory of a training step of video transformers at four sizes: the planner beside published peaks of another system.

    python benchmarks/vit_memory.py

TRACE (KunmingS/TRACE, `trace_tad/training_resources.py`, read 2026-11) states the peaks that it measured on a GPU with
one window of 768 frames. Its configurations (`configs/small.py`, `large.py`) train adapters in a frozen VideoMAE, with
activation checkpointing, in half precision, and keep an average of the whole model. This is planned here for the same
network, with G-TAD instead of TriDet as the head. Limit: ratios between sizes differ by at most 10 %.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from lofi_tal.encoders import adapt_encoder, create_encoder
from lofi_tal.fidelity import Fidelity
from lofi_tal.heads import create_head
from lofi_tal.planning import StepModel
from lofi_tal.stages.strategies import Strategy

SIZES = (112, 144, 192, 224)
FRAMES, SNIPPETS = 16, 48  # 768 frames
PUBLISHED = {"ViT-S": (1070, 1529, 2430, 3177), "ViT-L": (5376, 7147, 10619, 13497)}
"""MiB at each size."""
ARCHITECTURES: dict[str, dict[str, int]] = {
    "ViT-S": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536},
    "ViT-L": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
}
LIMIT = 0.1


def planned(name: str) -> list[float]:
    """Return the predicted peak in MiB at each size."""
    encoder = create_encoder("videomae", architecture=ARCHITECTURES[name])
    adapt_encoder(encoder, train="adapter", adapter={"name": "temporal"})
    head = create_head("gtad", encoder.channels)
    model = StepModel(encoder, head, frames=FRAMES, optimizer="adamw", momentum=0.0, averaged=True)
    copied = model.encoder_bytes - model.trained_bytes  # an average of frozen weights too, which ours does not keep
    strategy = Strategy("checkpoint")
    peaks = [model.memory(1, Fidelity("full", SNIPPETS, size), strategy, "bf16").peak for size in SIZES]
    return [(peak + copied) / 2**20 for peak in peaks]


def differences(name: str, peaks: list[float]) -> list[float]:
    """Return by how much the ratios to the smallest size differ from the published ones."""
    published = PUBLISHED[name]
    return [peak / peaks[0] / (theirs / published[0]) - 1 for peak, theirs in zip(peaks, published, strict=True)]


def main() -> None:
    """Print both, and exit with 1 if a ratio is off by more than the limit."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    worst = 0.0
    for name, published in PUBLISHED.items():
        peaks = planned(name)
        off = differences(name, peaks)
        worst = max(worst, *map(abs, off))
        rows: dict[str, Any] = {"planned": peaks, "published": published}
        for title, row in rows.items():
            ratios = ", ".join(f"{value / row[0]:.2f}" for value in row)
            print(f"{name} {title:<9} {', '.join(f'{value:6.0f}' for value in row)} MiB; ratios {ratios}", flush=True)
        print(f"{name} ratios differ by {', '.join(f'{100 * value:+.1f}' for value in off)} %")
    sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
