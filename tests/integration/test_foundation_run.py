"""A video transformer from a checkpoint folder, through stage 2 at fidelities of whole patches to a saved localiser."""

import json

import pytest
from safetensors.torch import load_file

from lofi_tal.config import make_recipe
from lofi_tal.encoders import encoder_options, load_encoder
from lofi_tal.encoders.adapters import is_of_an_adapter
from lofi_tal.errors import DataError, LofiError
from lofi_tal.localizer import Localizer
from lofi_tal.run import Run
from tests.encoders import TINY

transformers = pytest.importorskip("transformers")


@pytest.fixture
def checkpoint(tmp_path):
    config = transformers.VJEPA2Config(**TINY["vjepa2"]["architecture"])
    transformers.VJEPA2Model(config).save_pretrained(tmp_path / "checkpoint")
    settings = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2], "size": {"shortest_edge": 70}}
    settings["crop_size"] = {"height": 64, "width": 64}
    (tmp_path / "checkpoint" / "preprocessor_config.json").write_text(json.dumps(settings))
    return tmp_path / "checkpoint"


def test_stage_2_trains_it_at_whole_patches_and_the_model_needs_no_checkpoint(changed, checkpoint, tmp_path):
    encoder = {"name": "vjepa2", "options": {}, "pretrained": str(checkpoint)}
    snippets = {"count": 8, "frames": 2, "stride": 2, "size": 64}
    lofi = {"epochs": 3, "r_s": 2.0, "r_t": 4.0, "strategy": "checkpoint"}
    recipe = changed(encoder=encoder, snippets=snippets, pretrain=None, lofi=lofi, head={"epochs": 1}, baseline=False)
    pipeline = Run(recipe, tmp_path / "run", device="cpu", quiet=True)
    with pipeline.open():
        results = pipeline.run()
    lines = [json.loads(line) for line in (tmp_path / "run" / "lofi" / "metrics.jsonl").read_text().splitlines()]
    sizes = {line["epoch"]: (line["fidelity"], line["size"]) for line in lines if "fidelity" in line}
    assert sizes == {0: ("S", 32), 1: ("T", 64), 2: ("ST", 48)}  # 45 pixels are 48 in patches of 16
    assert results[0].arm == "lofi"
    checkpoint.rename(tmp_path / "elsewhere")
    localizer = Localizer.from_pretrained(tmp_path / "run")
    assert localizer.encoder.licence == "MIT (L), Apache-2.0 (H, g)"
    assert localizer.encoder.takes.resize == 70 / 64
    assert localizer.encoder.mean.flatten().tolist() == pytest.approx([0.5, 0.4, 0.3])


def test_adapters_alone_are_saved_with_the_name_of_the_checkpoint(changed, checkpoint, tmp_path):
    encoder = {"name": "vjepa2", "options": {}, "pretrained": str(checkpoint), "train": "adapter", "save": "adapter"}
    recipe = changed(
        encoder=encoder, snippets={"count": 8, "frames": 2, "stride": 2, "size": 64}, pretrain=None, baseline=False,
        lofi={"epochs": 1, "optimizer": "adamw", "lr": 1e-2, "watch": 0},
    )  # fmt: skip
    with (run := Run(recipe, tmp_path / "run", device="cpu", quiet=True)).open():
        folder = run.ensure("lofi")
    saved = load_file(folder / "encoder.safetensors")
    assert saved
    assert all(map(is_of_an_adapter, saved))
    assert load_encoder(folder).base["weights"] == str(checkpoint / "model.safetensors")
    checkpoint.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"are not at .*checkpoint/model\.safetensors"):
        load_encoder(folder)


def test_a_recipe_whose_size_it_does_not_take_is_refused_before_anything_runs(changed, checkpoint, tmp_path):
    encoder = {"name": "vjepa2", "options": {}, "pretrained": str(checkpoint)}
    recipe = changed(encoder=encoder, snippets={"count": 8, "frames": 2, "size": 60}, pretrain=None)
    with pytest.raises(LofiError, match=r"60 × 60 pixels: .* The nearest is 64"), Run(recipe, tmp_path / "run").open():
        pass
    assert make_recipe(recipe.model_dump(mode="json")) == recipe
    assert encoder_options("vjepa2", {"resize": 1.0}, checkpoint)["resize"] == 1.0
