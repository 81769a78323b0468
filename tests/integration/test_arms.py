"""Every way to train an encoder before stage 2, end to end on the tiny benchmark."""

import json
import shutil

import pytest
import torch

import lofi_tal.run.training
from conftest import losses_of, own_scores
from lofi_tal.demo import demo_recipe
from lofi_tal.encoders import load_encoder
from lofi_tal.errors import LofiError, RunError
from lofi_tal.heads import create_head, load_head
from lofi_tal.localizer import Localizer
from lofi_tal.recipes import recipe_names
from lofi_tal.run import Run
from lofi_tal.run.report import clip_accuracies, lost_in_training, stage_summaries
from tests.tiny import SETTINGS

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


def stage_2(recipe, run, folder):
    """Run stage 2 of a recipe from the stage 1 of a finished run, and return its folder."""
    shutil.copytree(run.output / "pretrain", folder / "pretrain")
    pipeline = Run(recipe, folder, device="cpu", quiet=True)
    with pipeline.open():
        return pipeline.ensure("lofi")


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_runs_from_its_recipe_to_a_localiser(name, benchmark_set, tmp_path):
    recipe = demo_recipe(benchmark_set, seed=0, name=name, overrides=overrides(name))
    pipeline = Run(recipe, tmp_path / "run", device="cpu", quiet=True)
    with pipeline.open():
        results = pipeline.run()
    for result in results:
        assert result.scores["fused"]["videos"] == len(pipeline.data().evaluation)
    stages = [record.name for record in stage_summaries(pipeline)]
    assert stages[0] == ("start" if name == "mini_icp" else "pretrain")
    assert ("second" in stages) is (pipeline.ensure("second") is not None)
    accuracies = clip_accuracies(pipeline)
    assert ("finetune" in accuracies) is ("acp_plus" in name)
    assert ("second" in accuracies) is (name in ("mini_acp_arrow", "mini_acp_speed"))
    for facts in accuracies.values():
        assert 0 <= facts["accuracy"] <= 1
        assert facts["validation_clips"] > 0
    if name == "mini_acp_plus_background":
        assert json.loads((tmp_path / "run/finetune/stage.json").read_text())["result"]["classes"][-1] == "background"
    localizer = Localizer.from_pretrained(results[-1].model, device="cpu")
    video = pipeline.data().evaluation[0]
    alone = localizer.predict(video.file.path)
    together = pipeline.detections(results[-1].arm)[video.video_id]
    assert own_scores(alone) == pytest.approx(own_scores(together), rel=1e-3)
    if pipeline.ensure("second") is not None:
        parts = localizer.encoder.parts
        assert localizer.encoder.channels == sum(part.channels for part in parts)
        for part, folder in zip(parts, (pipeline.ensure("pretrain"), pipeline.ensure("second")), strict=True):
            for key, value in load_encoder(folder).state_dict().items():
                assert torch.equal(part.state_dict()[key], value)


def test_accumulated_parts_cover_the_batch(changed, benchmark_set, finished_run, tmp_path):
    """With frozen BatchNorm statistics and one video a part, the loss that is noted is the mean over the parts."""
    run, _ = finished_run
    losses = {}
    for accumulate in (1, 2):
        recipe = changed(lofi={"accumulate": accumulate, "batchnorm": "frozen_stats", "epochs": 1})
        losses[accumulate] = losses_of(stage_2(recipe, run, tmp_path / str(accumulate)))
    assert len(losses[1]) == len(losses[2])
    assert losses[1] != losses[2]  # balanced counts are those of a part
    assert losses[2][0] == pytest.approx(losses[1][0], rel=0.5)


def test_the_encoder_can_have_a_learning_rate_of_its_own(changed, finished_run, tmp_path):
    """As small as nothing it leaves the encoder as it was, while the head learns at its own."""
    run, _ = finished_run
    before, losses, moved = load_encoder(run.output / "pretrain"), {}, {}
    for encoder_lr in (None, 1e-12):
        section = {"encoder_lr": encoder_lr, "optimizer": "adamw", "weight_decay": 0.0, "lr": 1e-2, "epochs": 2}
        path = stage_2(changed(lofi=section), run, tmp_path / str(encoder_lr))
        pairs = zip(before.parameters(), load_encoder(path).parameters(), strict=True)
        moved[encoder_lr] = max(float((a - b).detach().abs().max()) for a, b in pairs)
        losses[encoder_lr] = losses_of(path)
    assert moved[None] > 1e-3
    assert moved[1e-12] < 1e-8
    assert losses[1e-12][0] == losses[None][0]
    assert losses[1e-12][-1] != losses[1e-12][0]


def test_an_unreadable_clip_is_left_out_listed_and_counted(changed, benchmark_set, tmp_path):
    clips = shutil.copytree(benchmark_set.clips, tmp_path / "clips")
    broken = sorted(clips.rglob("*.mp4"))[0]
    broken.write_bytes(b"no video")
    recipe = changed(data={"clips_root": str(clips)}, pretrain={"epochs": 1})
    pipeline = Run(recipe, tmp_path / "run", device="cpu", quiet=True)
    with pipeline.open():
        _ = pipeline.ensure("pretrain")
    (lost,) = lost_in_training(pipeline).values()
    assert list(lost) == [str(broken)]


def test_a_class_named_background_is_refused_beside_background_clips(changed, benchmark_set, tmp_path):
    document = json.loads(benchmark_set.annotations.read_text())
    for entry in document["database"].values():
        for record in entry["annotations"]:
            record["label"] = "background"
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(document))
    recipe = changed(data={"annotations": str(path)}, pretrain=None, finetune={"background": True, "epochs": 1})
    pipeline = Run(recipe, tmp_path / "run", device="cpu", quiet=True)
    with pipeline.open(), pytest.raises(LofiError, match="background"):
        _ = pipeline.ensure("finetune")


def test_a_budget_sets_strategy_and_parts_and_a_run_keeps_within_it(tiny_recipe, finished_run, tmp_path):
    run, _ = finished_run
    shutil.copytree(run.output / "pretrain", tmp_path / "run/pretrain")
    largest = Run(tiny_recipe, tmp_path / "x", device="cpu", quiet=True, memory=2**40).plan
    budget = int(0.9 * max(row.one_video.peak for row in largest.recommended.rows))
    pipeline = Run(tiny_recipe, tmp_path / "run", device="cpu", quiet=True, memory=budget)
    section = pipeline.recipe.lofi
    assert section.strategy != "plain" or section.accumulate > 1
    assert section.batch == tiny_recipe.lofi.batch
    assert section.lr == tiny_recipe.lofi.lr
    with pipeline.open():
        path = pipeline.ensure("lofi")
    assert json.loads((path / "stage.json").read_text())["result"]["videos"] == len(pipeline.data().train)
    with pytest.raises(LofiError, match="Nothing fits"):
        Run(tiny_recipe, tmp_path / "run", device="cpu", quiet=True, memory=2**20)


@pytest.mark.parametrize("step_down", [False, True])
def test_running_out_of_memory_says_what_fits_and_steps_down_if_told_to(
    tiny_recipe, finished_run, tmp_path, monkeypatch, step_down
):
    run, _ = finished_run
    shutil.copytree(run.output / "pretrain", tmp_path / "run/pretrain")
    tried = []
    real = lofi_tal.run.training.train_lofi

    def train(*args, section, **kwargs):
        tried.append((section.strategy, section.accumulate))
        if len(tried) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(*args, section=section, **kwargs)

    monkeypatch.setattr(lofi_tal.run.training, "train_lofi", train)
    pipeline = Run(tiny_recipe, tmp_path / "run", device="cpu", quiet=True, step_down=step_down)
    with pipeline.open():
        if not step_down:
            with pytest.raises(RunError, match=r"ran out of memory: plain, accumulate=1 was predicted.*accumulate=2"):
                _ = pipeline.ensure("lofi")
            return
        assert (pipeline.ensure("lofi") / "stage.json").exists()
    assert tried[:2] == [("plain", 1), ("plain", 2)]
    assert tried[2][0] != "plain"
    assert not pipeline.folder.overwrite  # what comes after stage 2 is replaced only if the user says so


def test_the_decoder_of_the_training_travels_with_the_model(finished_run, tmp_path, monkeypatch):
    localizer = Localizer.from_pretrained(finished_run[1][-1].model, device="cpu")
    assert localizer.decoder == "pyav"
    localizer.decoder = "torchcodec"
    localizer.save_pretrained(tmp_path)
    again = Localizer.from_pretrained(tmp_path, device="cpu")
    asked = []
    monkeypatch.setattr(
        lofi_tal.data.snippets, "stream_frames", lambda *args, decoder, **more: asked.append(decoder) or iter(())
    )
    with pytest.raises(RuntimeError):  # no frames come
        again.features(finished_run[0].data().evaluation[0].file.path)
    assert asked == ["torchcodec"]
    content = json.loads((tmp_path / "localizer.json").read_text())
    del content["check"]  # it is changed on purpose
    (tmp_path / "localizer.json").write_text(json.dumps({**content, "decoder": "ffmpg"}))
    with pytest.raises(LofiError, match="decoder 'ffmpg' is unknown"):
        Localizer.from_pretrained(tmp_path, device="cpu")


def test_other_errors_are_not_taken_for_want_of_memory(tiny_recipe, finished_run, tmp_path, monkeypatch):
    run, _ = finished_run
    shutil.copytree(run.output / "pretrain", tmp_path / "run/pretrain")

    def train(*args, **kwargs):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(lofi_tal.run.training, "train_lofi", train)
    pipeline = Run(tiny_recipe, tmp_path / "run", device="cpu", quiet=True, step_down=True)
    with pipeline.open(), pytest.raises(RuntimeError, match="shape mismatch"):
        _ = pipeline.ensure("lofi")


@pytest.mark.parametrize(
    ("settings", "batchnorm"),
    [({"strategy": "chunked", "chunk": 5}, "frozen_stats"), ({"strategy": "checkpoint"}, "train")],
)
def test_whole_stage_2_runs_agree_step_by_step(changed, finished_run, tmp_path, settings, batchnorm):
    run, _ = finished_run
    losses = {}
    for name, more in (("plain", {}), ("other", settings)):
        recipe = changed(lofi={**more, "batchnorm": batchnorm, "optimizer": "sgd", "lr": 0.01})
        losses[name] = losses_of(stage_2(recipe, run, tmp_path / name))
    assert len(losses["plain"]) > 3
    assert losses["other"] == pytest.approx(losses["plain"], rel=1e-3)


def test_statistics_are_estimated_anew_at_full_fidelity(changed, finished_run, tmp_path):
    run, _ = finished_run
    encoders = {}
    for batches in (0, 2):
        shutil.copytree(run.output / "pretrain", tmp_path / str(batches) / "pretrain")
        recipe = changed(lofi={"reestimate": batches, "epochs": 1})
        pipeline = Run(recipe, tmp_path / str(batches), device="cpu", quiet=True)
        with pipeline.open():
            encoders[batches] = load_encoder(pipeline.ensure("lofi"))
    for name, parameter in encoders[0].named_parameters():
        assert torch.equal(parameter, dict(encoders[2].named_parameters())[name])
    moved = [
        not torch.allclose(value, encoders[2].state_dict()[name])
        for name, value in encoders[0].state_dict().items()
        if name.endswith("running_mean")
    ]
    assert all(moved)


def test_a_checkpoint_of_the_published_code_takes_the_place_of_stage_3(finished_run, changed, tmp_path):
    run, results = finished_run
    head = load_head(results[-1].model)
    state = {f"module.{key}": value for key, value in head.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "gtad.pth.tar")
    content = {
        "features": {"sources": [str(run.output / "arms/lofi/features")]},
        "head": {"weights": str(tmp_path / "gtad.pth.tar")},
        "detect": {"vote": 0.9},
    }
    again = Run(changed(**content), tmp_path / "run", device="cpu", quiet=True)
    with again.open():
        (result,) = again.run()
    assert result.chosen["weights"] == str(tmp_path / "gtad.pth.tar")
    assert not (tmp_path / "run/arms/features/head").exists()  # nothing was trained
    theirs = load_head(result.model).state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in head.state_dict().items())
    assert json.loads((result.model / "localizer.json").read_text())["detect"]["vote"] == 0.9
    with pytest.raises(LofiError, match="head 'bmn' reads no checkpoints of other code"):
        create_head("bmn", 8).load_official(tmp_path / "gtad.pth.tar")
