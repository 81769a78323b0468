"""The planned memory of a training step beside the peak of a process: two video transformers and an image backbone."""

from typing import Any

import pytest

from benchmarks.vit_memory import ARCHITECTURES, LIMIT
from lofi_tal.encoders import create_encoder
from lofi_tal.fidelity import Fidelity
from lofi_tal.heads import create_head
from lofi_tal.planning import StepModel
from lofi_tal.planning.measure import measure_step
from lofi_tal.stages.strategies import Strategy

HEAD = {"hidden_1d": 64, "hidden_2d": 32, "hidden_3d": 64}
SMALL = ARCHITECTURES["ViT-S"]
TINY = {**SMALL, "hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}
ENCODERS: dict[str, tuple[str, dict[str, Any], int]] = {
    "ViT-S": ("videomae", {"architecture": SMALL}, 4),
    "ViT-Ti": ("videomae", {"architecture": TINY}, 8),
    "MobileNetV2": ("timm", {"model": "mobilenetv2_100", "temporal": "shift"}, 4),
}


@pytest.mark.parametrize("case", ENCODERS)
def test_the_plan_is_within_a_tenth_of_what_a_process_takes(case):
    name, options, snippets = ENCODERS[case]
    encoder = create_encoder(name, **options)
    model = StepModel(encoder, create_head("gtad", encoder.channels, **HEAD), frames=8, optimizer="adamw", momentum=0.0)
    planned = model.memory(1, Fidelity("full", snippets, 112), Strategy(), "fp32").peak
    measured = measure_step(
        encoder={"name": name, **options}, head={"name": "gtad", **HEAD}, videos=1, snippets=snippets, frames=8,
        size=112, strategy=vars(Strategy()), optimizer="adamw", threads=1,
    )["peak"]  # fmt: skip
    assert planned == pytest.approx(measured, rel=LIMIT)
