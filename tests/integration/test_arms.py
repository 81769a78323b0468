"""Every way to train an encoder before stage 2, end to end on the tiny benchmark."""

import json
import shutil

import pytest
import torch
from conftest import SETTINGS

from lofi_tal.demo import demo_recipe
from lofi_tal.encoders import load_encoder
from lofi_tal.errors import LofiError
from lofi_tal.localizer import Localizer
from lofi_tal.pipeline import Pipeline
from lofi_tal.recipes import recipe_names

ARMS = [name for name in recipe_names() if name.startswith("mini_")]
QUICK = (
    "second.epochs=1",
    "second.batch=4",
    "finetune.epochs=1",
    "finetune.batch=4",
    "head.lrs=[1e-3]",
    "head.epochs=2",
)


def overrides(name):
    """Those that fit the recipe: a setting of a section that it lacks would add the section."""
    wanted = [s for s in (*SETTINGS, *QUICK) if not s.startswith(("second", "finetune", "pretrain", "lofi"))]
    wanted += ["encoder.options={width: 8}"] if name == "mini_lofi_r2plus1d" else []
    if name != "mini_icp":
        wanted += ["pretrain.epochs=1", "pretrain.batch=4"]
    if "acp_plus" in name:
        wanted += QUICK[2:4]
    if name in ("mini_acp_arrow", "mini_acp_speed"):
        wanted += QUICK[:2]
    if name == "mini_lofi_r2plus1d":
        wanted += ["lofi.epochs=1", "lofi.batch=2"]
    return tuple(wanted)


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_runs_from_its_recipe_to_a_localiser(name, benchmark_set, tmp_path):
    recipe = demo_recipe(benchmark_set, seed=0, name=name, overrides=overrides(name))
    pipeline = Pipeline(recipe, tmp_path, device="cpu", quiet=True)
    with pipeline.open():
        results = pipeline.run()
    for result in results:
        assert result.scores["fused"]["videos"] == len(pipeline.data.evaluation)
    accuracies = pipeline.clip_accuracies()
    assert ("finetune" in accuracies) is ("acp_plus" in name)
    assert ("second" in accuracies) is (name in ("mini_acp_arrow", "mini_acp_speed"))
    for facts in accuracies.values():
        assert 0 <= facts["accuracy"] <= 1
        assert facts["validation_clips"] > 0
    if name == "mini_acp_plus_background":
        assert json.loads((tmp_path / "finetune/stage.json").read_text())["result"]["classes"][-1] == "background"
    localizer = Localizer.from_pretrained(results[-1].model, device="cpu")
    video = pipeline.data.evaluation[0]
    alone = localizer.predict(video.file.path)
    together = pipeline.detections(results[-1].arm)[video.video_id]
    assert alone.score == pytest.approx(together.score, rel=1e-3)
    if pipeline.second is not None:
        parts = localizer.encoder.parts
        assert localizer.encoder.channels == sum(part.channels for part in parts)
        for part, folder in zip(parts, (pipeline.pretrained, pipeline.second), strict=True):
            for key, value in load_encoder(folder).state_dict().items():
                assert torch.equal(part.state_dict()[key], value)


def test_accumulated_parts_cover_the_batch(changed, benchmark_set, finished_run, tmp_path):
    """With frozen BatchNorm statistics and one video a part, the loss that is noted is the mean over the parts."""
    run, _ = finished_run
    losses = {}
    for accumulate in (1, 2):
        recipe = changed(lofi={"accumulate": accumulate, "batchnorm": "frozen_stats", "epochs": 1})
        folder = tmp_path / str(accumulate)
        shutil.copytree(run.output / "pretrain", folder / "pretrain")
        pipeline = Pipeline(recipe, folder, device="cpu", quiet=True)
        with pipeline.open():
            path = pipeline.optimised
        losses[accumulate] = [json.loads(line)["loss"] for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert len(losses[1]) == len(losses[2])
    assert losses[1] != losses[2]  # balanced counts are those of a part
    assert losses[2][0] == pytest.approx(losses[1][0], rel=0.5)


def test_an_unreadable_clip_is_left_out_listed_and_counted(changed, benchmark_set, tmp_path):
    clips = shutil.copytree(benchmark_set.clips, tmp_path / "clips")
    broken = sorted(clips.rglob("*.mp4"))[0]
    broken.write_bytes(b"no video")
    recipe = changed(data={"clips_root": str(clips)}, pretrain={"epochs": 1})
    pipeline = Pipeline(recipe, tmp_path / "run", device="cpu", quiet=True)
    with pipeline.open():
        _ = pipeline.pretrained
    assert [str(broken) in name for name in pipeline.lost_clips()["pretrain"]] == [True]


def test_a_class_named_background_is_refused_beside_background_clips(changed, benchmark_set, tmp_path):
    document = json.loads(benchmark_set.annotations.read_text())
    for entry in document["database"].values():
        for record in entry["annotations"]:
            record["label"] = "background"
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(document))
    recipe = changed(data={"annotations": str(path)}, pretrain=None, finetune={"background": True, "epochs": 1})
    pipeline = Pipeline(recipe, tmp_path / "run", device="cpu", quiet=True)
    with pipeline.open(), pytest.raises(LofiError, match="background"):
        _ = pipeline.finetuned
