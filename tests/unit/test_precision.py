"""fp16 on any machine: a scaler that is told to scale stands for the one that a GPU would have."""

import itertools

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import nn

from lofi_tal.runtime import TrainingRun, make_fabric, make_optimizer, open_stage

STEPS = 6


def half_fabric(scale):
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2)
    return Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler=scaler))


def train(folder, fabric, *, clip_norm=None, stop_after=None, resume=False, optimizer="sgd"):
    """Steps on a linear model whose gradients are known; returns weights after each step, and the scaler's state."""
    stage = open_stage(folder, "toy", {}, resume=resume)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    wrapped, stepper = fabric.setup(model, make_optimizer(optimizer, model.parameters(), fabric, lr=0.1))
    run = TrainingRun(
        stage, fabric, modules={"model": model}, optimizer=stepper, lr_at=lambda epoch: 0.1,
        epochs=1, steps_per_epoch=STEPS, seed=0, clip_norm=clip_norm, checkpoint_seconds=0.0, quiet=True,
    )  # fmt: skip
    inputs = torch.randn(STEPS, 16, 4, generator=torch.Generator().manual_seed(1))
    history = []
    for step, batch in run.batches(inputs[run.start :]):
        with torch.autocast("cpu", enabled=False):  # so that every precision has the same gradients
            run.update({"total": 30 * (model(batch) - 1).square().mean()})
        history.append(torch.cat([p.detach().flatten() for p in model.parameters()]).clone())
        if step.index == stop_after:
            raise ZeroDivisionError
    assert wrapped is not model
    return history, fabric.strategy.precision.state_dict()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("clip_norm", [None, 0.5, 1e9])
def test_scaled_gradients_are_clipped_as_if_they_were_not_scaled(tmp_path, optimizer, clip_norm):
    plain, _ = train(tmp_path / "plain", make_fabric("cpu", "fp32"), clip_norm=clip_norm, optimizer=optimizer)
    scaled, _ = train(tmp_path / "scaled", half_fabric(2.0**12), clip_norm=clip_norm, optimizer=optimizer)
    for ours, theirs in zip(scaled, plain, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_clipping_bounds_the_step(tmp_path):
    """SGD moves by lr · norm: a norm of 0.5 at a learning rate of 0.1 by 0.05 at most."""
    history, _ = train(tmp_path / "s", half_fabric(2.0**12), clip_norm=0.5)
    for before, after in itertools.pairwise(history):
        assert 0.049 < float((after - before).norm()) <= 0.05 + 1e-6


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_an_overflow_skips_its_step_and_lowers_the_scale(tmp_path, clip_norm):
    history, state = train(tmp_path / "s", half_fabric(1e38), clip_norm=clip_norm)
    assert torch.equal(history[0], history[1])  # the first steps overflow
    assert torch.isfinite(history[-1]).all()
    assert state["scale"] < 1e38


@pytest.mark.parametrize("stop_after", [1, 2, 4])
def test_a_resumed_run_goes_on_with_its_scale(tmp_path, stop_after):
    whole, state = train(tmp_path / "whole", half_fabric(1e38), clip_norm=0.5)
    with pytest.raises(ZeroDivisionError):
        train(tmp_path / "cut", half_fabric(1e38), clip_norm=0.5, stop_after=stop_after)
    rest, again = train(tmp_path / "cut", half_fabric(1.0), clip_norm=0.5, resume=True)
    assert again == state
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(rest[::-1], whole[::-1], strict=False))
