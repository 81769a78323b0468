"""The average of the weights: what it is, how looks and saved weights use it, and that it goes on exactly."""

import copy

import pytest
import torch
from torch import nn

from lofi_tal.runtime import TrainingRun, WeightAverage, make_fabric, open_stage

EPOCHS, STEPS = 2, 4


def toy():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))


def moved(model, generator):
    """Change all weights and statistics, as a step of training does."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else 1)


@pytest.mark.parametrize("ramp", [True, False])
def test_the_average_is_that_of_its_definition(ramp):
    model, generator = toy(), torch.Generator().manual_seed(1)
    average = WeightAverage(model, 0.7, ramp=ramp)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for step in range(1, 41):
        moved(model, generator)
        average.update()
        decay = min(0.7, (1 + step) / (10 + step)) if ramp else 0.7
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * tensor
    average.apply()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-5)
    assert model[1].num_batches_tracked == 40  # a count stays that of the steps


def test_what_is_frozen_is_not_averaged_and_stays_to_the_bit():
    model = toy()
    model[0].requires_grad_(False)
    average = WeightAverage(model, 0.9)
    assert set(average.averages) == {
        "1.weight", "1.bias", "1.running_mean", "1.running_var", "2.weight", "2.bias",
    }  # fmt: skip
    before = model[0].weight.clone()
    average.update()
    average.apply()
    assert torch.equal(model[0].weight, before)


def test_weights_come_back_to_the_bit_after_a_use_of_the_average():
    model, generator = toy(), torch.Generator().manual_seed(1)
    average = WeightAverage(model, 0.9)
    moved(model, generator)
    average.update()
    weights, averages = copy.deepcopy(model.state_dict()), copy.deepcopy(average.averages)

    def fail():
        assert torch.equal(model[0].weight, averages["0.weight"])
        assert torch.equal(model[1].running_var, averages["1.running_var"])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), average.used():
        fail()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert all(torch.equal(tensor, averages[name]) for name, tensor in average.averages.items())


def train(folder, *, resume=False, stop_after=None):
    """Train with an average and return what looks saw, and the weights at the end."""
    stage = open_stage(folder, "toy", {}, resume=resume)
    model, fabric = toy(), make_fabric("cpu", "fp32")
    wrapped, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    run = TrainingRun(
        stage, fabric, modules={"model": model}, optimizer=optimizer, lr_at=lambda epoch: 0.1, epochs=EPOCHS,
        steps_per_epoch=STEPS, seed=3, average=WeightAverage(model, 0.9), checkpoint_seconds=0.0, quiet=True,
    )  # fmt: skip
    seen = {}

    def look(epoch):
        seen[epoch] = model[0].weight.detach().clone()
        return {"seen": 1.0}

    data = [torch.randn(6, 4, generator=torch.Generator().manual_seed(i)) for i in range(EPOCHS * STEPS)]
    for step, batch in run.batches(data[run.start :], look):
        run.update({"total": wrapped(batch).square().mean()})
        if step.index == stop_after:
            raise ZeroDivisionError
    trained = model[0].weight.detach().clone()
    run.average.apply()
    return seen, trained, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_looks_and_the_end_see_the_average_and_the_training_does_not(tmp_path):
    seen, trained, final = train(tmp_path / "run")
    assert torch.equal(seen[EPOCHS - 1], final["0.weight"])
    assert not torch.equal(trained, final["0.weight"])


@pytest.mark.parametrize("stop_after", [0, 3, 6, 7])
def test_a_resumed_average_is_that_of_the_whole_training_to_the_bit(tmp_path, stop_after):
    whole = train(tmp_path / "whole")[2]
    with pytest.raises(ZeroDivisionError):
        train(tmp_path / "part", stop_after=stop_after)
    again = train(tmp_path / "part", resume=True)[2]
    assert all(torch.equal(tensor, whole[name]) for name, tensor in again.items())
