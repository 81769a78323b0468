"""Memory of stage 2 for each part of an encoder that can be trained: predicted, measured, and against full.

    python benchmarks/parts.py [ENCODER] [--size S] [--snippets L] [--json FILE]

Every measurement is a process of its own, of two steps with AdamW (`lofi_tal.planning.measure`). Limit: a prediction is
off by at most 10 %.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from lofi_tal.encoders import adapt_encoder, create_encoder, trainable
from lofi_tal.errors import LofiError
from lofi_tal.fidelity import Fidelity
from lofi_tal.heads import create_head
from lofi_tal.planning import StepModel
from lofi_tal.planning.measure import measure_step
from lofi_tal.stages.strategies import Strategy

FRAMES = 8
HEAD = {"hidden_1d": 64, "hidden_2d": 32, "hidden_3d": 64}
PARTS: dict[str, dict[str, Any]] = {
    "full": {},
    "last 4": {"train": "last 4"},
    "last 1": {"train": "last 1"},
    "adapter: temporal": {"train": "adapter", "adapter": {"name": "temporal"}},
    "adapter: lora": {"train": "adapter", "adapter": {"name": "lora"}},
    "frozen": {"train": "frozen"},
}


def measured_part(name: str, part: dict[str, Any], fidelity: Fidelity) -> dict[str, float]:
    """Return weights that are trained, and predicted and measured peak of a step.

    Raises:
        LofiError: If the encoder cannot be trained so.
    """
    encoder = create_encoder(name)
    adapt_encoder(encoder, **part)
    head = create_head("gtad", encoder.channels, **HEAD)
    model = StepModel(encoder, head, frames=FRAMES, optimizer="adamw", momentum=0.0)
    predicted = model.memory(1, fidelity, Strategy(), "fp32").peak
    found = measure_step(
        encoder={"name": name}, head={"name": "gtad", **HEAD}, videos=1, snippets=fidelity.snippets, frames=FRAMES,
        size=fidelity.size, strategy=vars(Strategy()), optimizer="adamw", adapting=part, threads=1,
    )  # fmt: skip
    return {
        "trained": sum(one.numel() for one in trainable(encoder.modules())),
        "predicted": predicted,
        "measured": found["peak"],
    }


def main() -> None:
    """Measure every part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("encoder", nargs="?", default="swin3d_t")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--snippets", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    for title, part in PARTS.items():
        try:
            row = measured_part(options.encoder, part, Fidelity("full", options.snippets, options.size))
        except LofiError as error:
            print(f"{title:<18} {error}", flush=True)
            continue
        rows[title] = row
        print(
            f"{title:<18} {row['trained'] / 1e6:6.2f} M weights trained; predicted {row['predicted'] / 2**20:6.0f} MiB,"
            f" measured {row['measured'] / 2**20:6.0f} MiB ({row['measured'] / rows['full']['measured']:4.0%} of full),"
            f" error {100 * (row['predicted'] / row['measured'] - 1):+5.1f} %",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps({"encoder": options.encoder, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
