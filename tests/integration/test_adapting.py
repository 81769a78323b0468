"""Runs that train a part of the encoder: it is what the recipe says, is saved as it says, and goes on exactly."""

import logging
import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from lofi_tal.encoders import create_encoder, layer_groups, load_encoder, save_encoder, trainable
from lofi_tal.encoders.adapters import is_of_an_adapter
from lofi_tal.encoders.registry import ENCODERS
from lofi_tal.errors import LofiError
from lofi_tal.localizer import Localizer
from lofi_tal.run import Run
from lofi_tal.runtime import InterruptedRunError, TrainingRun
from tests.small_vits import SmallViT

ADAMW = {"epochs": 2, "batch": 2, "optimizer": "adamw", "lr": 1e-2, "class_loss": 0.5, "watch": 0}


@pytest.fixture
def recipe_of(changed, finished_run):
    """Return a recipe whose stage 2 starts from the stage 1 of the finished run."""
    start = {"weights": str(finished_run[0].output / "pretrain")}

    def make(encoder, **sections):
        return changed(encoder={**start, **encoder}, **{"pretrain": None, "baseline": False, "lofi": ADAMW, **sections})

    return make


def trained(recipe, folder, stage="lofi", **options):
    run = Run(recipe, folder, device="cpu", precision="fp32", quiet=True, **options)
    with run.open():
        return run.ensure(stage)


def changed_tensors(start, folder):
    before, after = load_file(start / "encoder.safetensors"), load_file(folder / "encoder.safetensors")
    return {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}


def test_last_1_trains_the_last_group_in_stages_1_and_2(recipe_of, finished_run, tmp_path):
    start = finished_run[0].output / "pretrain"
    encoder = load_encoder(start)
    last = {id(one) for one in trainable(layer_groups(encoder)[-1][1])}
    owners = {name.rpartition(".")[0] for name, one in encoder.named_parameters() if id(one) in last}
    pretrain = {"epochs": 1, "batch": 4, "layer_decay": 0.5, "encoder_lr": 1e-3}
    lofi = {**ADAMW, "reestimate": 1}
    folder = trained(recipe_of({"train": "last 1"}, pretrain=pretrain, lofi=lofi), tmp_path / "run")
    for stage in (folder.parent / "pretrain", folder):
        moved = changed_tensors(start, stage)
        assert moved
        assert {name.rpartition(".")[0] for name in moved} <= owners
    assert changed_tensors(folder.parent / "pretrain", folder)


def test_frozen_leaves_the_encoder_to_the_bit_and_says_that_stage_2_is_of_no_use(
    recipe_of, finished_run, tmp_path, caplog
):
    caplog.set_level(logging.WARNING, "lofi_tal")
    lofi = {**ADAMW, "reestimate": 1, "ema": 0.9}
    folder = trained(recipe_of({"train": "frozen"}, lofi=lofi), tmp_path / "run")
    assert not changed_tensors(finished_run[0].output / "pretrain", folder)
    assert "`lofi: null` gives the same encoder at once" in caplog.text


def test_an_average_is_what_is_saved_and_resumes_to_the_bit(recipe_of, finished_run, tmp_path, monkeypatch):
    recipe = recipe_of({"train": "last 2"}, lofi={**ADAMW, "ema": 0.9, "watch": 1})
    whole = trained(recipe, tmp_path / "whole")
    last = trained(recipe_of({"train": "last 2"}, lofi={**ADAMW, "watch": 1}), tmp_path / "last")
    assert changed_tensors(last, whole)
    applied = TrainingRun.apply

    def stopped(self, *arguments):
        applied(self, *arguments)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(TrainingRun, "apply", stopped)
    with pytest.raises(InterruptedRunError):
        trained(recipe, tmp_path / "part")
    monkeypatch.setattr(TrainingRun, "apply", applied)
    again = trained(recipe, tmp_path / "part", resume=True)
    assert not changed_tensors(whole, again)


@pytest.mark.parametrize("save", ["all", "adapter"])
def test_adapters_alone_are_trained_saved_and_detect(changed, tmp_path, save):
    ENCODERS.register("small_vit")(SmallViT)
    try:
        torch.manual_seed(0)
        save_encoder(create_encoder("small_vit"), "small_vit", tmp_path / "base")
        encoder = {
            "name": "small_vit",
            "options": {},
            "weights": str(tmp_path / "base"),
            "train": "adapter",
            "save": save,
        }
        head = {"epochs": 1, "lrs": [1e-3], "ema": 0.9}
        recipe = changed(
            encoder=encoder, pretrain=None, baseline=False, head=head,
            lofi={**ADAMW, "strategy": "chunked", "chunk": 5, "layer_decay": 0.8},
        )  # fmt: skip
        run = Run(recipe, tmp_path / "run", device="cpu", precision="fp32", quiet=True)
        with run.open():
            (result,) = run.run()
        saved = load_file(result.model / "encoder.safetensors")
        base = load_file(tmp_path / "base" / "encoder.safetensors")
        adapters = {name for name in saved if is_of_an_adapter(name)}
        assert adapters
        assert saved.keys() - adapters == (base.keys() if save == "all" else set())
        assert all(torch.equal(saved[name], base[name]) for name in saved.keys() - adapters)
        localizer = Localizer.from_pretrained(result.model, device="cpu")
        assert localizer.encoder.adapter == {"name": "temporal", "ratio": 0.25, "kernel": 3}
        assert localizer.encoder.get_parameter("layers_of_blocks.0.temporal_adapter.up.weight").abs().max() > 0
    finally:
        ENCODERS._registered.pop("small_vit")


def test_an_adapter_that_does_not_fit_is_refused_before_any_training(recipe_of, tmp_path):
    recipe = recipe_of({"train": "adapter"})
    with pytest.raises(LofiError, match="does not fit"):
        trained(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "recipe.yaml").exists()
