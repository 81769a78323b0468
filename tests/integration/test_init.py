"""`lofi init`: a recipe that suits the data, without a trial unless asked, and no traceback whatever the data are."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import lofi_tal.initialise
import lofi_tal.trial
from lofi_tal.cli.app import app
from lofi_tal.encoders import create_encoder, public_source, save_encoder
from lofi_tal.errors import LofiError
from lofi_tal.recipes import load_recipe
from lofi_tal.run import Run
from lofi_tal.trial import LEAST_JUDGED, Verdict, judged, try_class_loss
from lofi_tal.video import write_video
from tests.hub import hub  # noqa: F401 (a fixture)


def init(folder, data, *options):
    """Run the command in this process; an exception that is not the user's mistake comes through."""
    arguments = ["init", "--annotations", data[0], "--videos", data[1], "-o", folder / "recipe.yaml", *options]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception and not isinstance(result.exception, SystemExit | LofiError):
        raise result.exception
    result.status = getattr(result.exception, "exit_status", result.exit_code)
    result.said = f"{result.output}{result.exception or ''}"
    return result


@pytest.fixture(autouse=True)
def untimed(monkeypatch):
    """How long a run takes is measured by tests/integration/test_forecast.py and the tutorials."""
    monkeypatch.setattr("lofi_tal.cli.train.recipe_times", lambda recipe, budget, **shown: [])


@pytest.fixture
def data(benchmark_set):
    return benchmark_set.annotations, benchmark_set.videos


@pytest.fixture
def few(tmp_path):
    """Write annotations of small videos of 4 s with 10 frames a second, as subset and segments by id."""

    def write(**videos):
        (tmp_path / "videos").mkdir()
        database = {}
        for seed, (name, (subset, segments)) in enumerate(videos.items()):
            pictures = [np.full((32, 32, 3), 60 * seed + i, np.uint8) for i in range(40)]
            write_video(tmp_path / "videos" / f"{name}.mp4", pictures, fps=10)
            records = [{"segment": segment, "label": "x"} for segment in segments]
            database[name] = {"subset": subset, "annotations": records}
        (tmp_path / "labels.json").write_text(json.dumps({"database": database}))
        return tmp_path / "labels.json", tmp_path / "videos"

    return write


def test_a_small_set_gets_a_warning_and_a_recipe_that_suits_it(data, tmp_path, monkeypatch):
    monkeypatch.setattr(lofi_tal.initialise, "try_class_loss", lambda *args, **options: pytest.fail("a trial unasked"))
    result = init(tmp_path, data)
    assert result.status == 0, result.said
    assert "training videos are few (under 30)" in result.said
    assert "classes have fewer than 5 training segments" in result.said
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert (recipe.lofi.optimizer, recipe.lofi.lr, recipe.lofi.epochs) == ("adamw", 2e-3, 18)
    assert recipe.lofi.class_loss == 1.0
    assert (recipe.encoder.name, recipe.snippets.size) == ("tsm_resnet18_narrow", 48)
    assert recipe.head.lrs == (2e-3,)
    assert (recipe.finetune.epochs, recipe.finetune.lr) == (60, 2e-3)  # random weights: ACP+ first
    assert "random weights know nothing" in (tmp_path / "recipe.yaml").read_text()
    text = (tmp_path / "recipe.yaml").read_text()
    assert "# Warning: 8 training videos are few" in text
    refused = init(tmp_path, data)
    assert refused.status == 2
    assert "recipe.yaml exists" in refused.said


def test_public_weights_in_the_cache_are_proposed_before_random_ones(data, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    without = init(tmp_path, data)
    assert "No public weights can be proposed" in without.said
    assert (
        "the last resort: on the embedded benchmark, average mAP after stage 2 was 6.6 from them alone"
        in (tmp_path / "recipe.yaml").read_text()
    )
    (tmp_path / "checkpoints").mkdir()
    public_source("imagenet", "tsm_resnet18")[1].write_bytes(b"weights")
    result = init(tmp_path, data, "--overwrite", "--licence", "any")
    assert result.status == 0, result.said
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert (recipe.encoder.name, recipe.encoder.pretrained, recipe.snippets.size) == ("tsm_resnet18", "imagenet", 112)
    assert recipe.lofi.encoder_lr == 2e-4  # a trained encoder has much to lose
    assert (recipe.finetune.epochs, recipe.finetune.batch) == (60, 16)  # of pictures: ACP+ first
    assert "weights of pictures know no motion" in (tmp_path / "recipe.yaml").read_text()
    assert "licence: BSD-3-Clause (torchvision)" in (tmp_path / "recipe.yaml").read_text()
    assert init(tmp_path, data, "--overwrite", "--licence", "mine").status == 2


def test_weights_of_timm_in_the_hubs_cache_are_proposed_with_what_they_need(data, tmp_path, hub):  # noqa: F811
    timm = pytest.importorskip("timm")
    (tmp_path / "weights").mkdir()
    save_file(timm.create_model("mobilenetv2_100").state_dict(), tmp_path / "weights" / "model.safetensors")
    hub("timm/mobilenetv2_100.ra_in1k", tmp_path / "weights")
    result = init(tmp_path, data)
    assert result.status == 0, result.said
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert recipe.encoder.options == {"model": "mobilenetv2_100", "temporal": "shift"}
    assert (recipe.encoder.name, recipe.encoder.pretrained, recipe.snippets.size) == ("timm", "imagenet", 112)
    assert recipe.finetune is not None
    run = Run(recipe, tmp_path / "run", quiet=True)
    assert run.new_encoder().licence == "apache-2.0"  # loaded, without a network


def test_the_recipe_is_there_before_the_trial_which_goes_on_where_it_stopped(data, tmp_path, monkeypatch):
    asked = []

    def interrupted(recipe, folder, run_folder, **options):
        asked.append((folder, run_folder))
        assert load_recipe(tmp_path / "recipe.yaml").lofi == recipe.lofi
        if len(asked) == 1:
            raise LofiError("stopped")
        return Verdict(0.0, "because")

    monkeypatch.setattr(lofi_tal.initialise, "try_class_loss", interrupted)
    assert "stopped" in init(tmp_path, data, "--trial").said
    assert load_recipe(tmp_path / "recipe.yaml").lofi.class_loss == 1.0
    assert init(tmp_path, data, "--trial").status == 0
    assert asked[0] == asked[1]
    assert asked[0][0] == tmp_path / "recipe-trial"
    assert load_recipe(tmp_path / "recipe.yaml").lofi.class_loss == 0.0
    assert "class_loss: 0.0  # because" in (tmp_path / "recipe.yaml").read_text()
    changed = init(tmp_path, data, "--trial")  # the recipe is another one now
    assert (changed.status, len(asked)) == (2, 2)


def test_too_few_videos_judge_nothing(tiny_recipe, tmp_path):
    verdict = try_class_loss(tiny_recipe, tmp_path / "trial", tmp_path / "run", overwrite=False, quiet=True)
    assert verdict.class_loss == tiny_recipe.lofi.class_loss
    assert f"fewer than {LEAST_JUDGED}" in verdict.reason
    assert not (tmp_path / "trial").exists()
    assert not (tmp_path / "run" / "pretrain").exists()


def test_a_trial_starts_from_the_stage_1_of_the_run_and_resumes(tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(lofi_tal.trial, "LEAST_JUDGED", 1)
    monkeypatch.setattr(lofi_tal.trial, "_EPOCHS", 1)
    monkeypatch.setattr(lofi_tal.trial, "measure_step", lambda **request: {"seconds": 0.5, "peak": 0.0})
    whole, ran = Run.run, []

    def interrupted(run):
        ran.append(run)
        if len(ran) == 2:
            raise KeyboardInterrupt
        return whole(run)

    monkeypatch.setattr(Run, "run", interrupted)
    places = (tmp_path / "trial", tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        try_class_loss(tiny_recipe, *places, overwrite=False, quiet=True)
    verdict = try_class_loss(tiny_recipe, *places, overwrite=False, quiet=True)
    assert "average mAP on" in verdict.reason
    assert [run.recipe.lofi.class_loss for run in ran] == [0.0, 1.0, 0.0, 1.0]
    assert {run.recipe.encoder.weights for run in ran} == {tmp_path / "run" / "pretrain"}
    assert ran[2].folder.opened["lofi"] in ran[2].folder.skipped  # finished before the interruption
    later = Run(tiny_recipe, tmp_path / "run", quiet=True)
    later.ensure("pretrain")
    assert later.folder.skipped == {tmp_path / "run" / "pretrain"}
    truth = json.loads((tmp_path / "trial" / "trial.json").read_text())["database"]
    judges = {name for name, video in truth.items() if video["subset"] == "validation"}
    assert judges == {video.video_id for video in later.data().selection}


@pytest.mark.parametrize(("better", "chosen"), [(12, 1.0), (-12, 0.0), (1, 0.5), (-1, 0.5)])
def test_only_a_margin_that_the_videos_can_show_decides(better, chosen, tmp_path):
    """Of 12 videos, the trial with the class loss finds so many more than the one without, or less."""
    records = [{"segment": [2.0, 5.0], "label": "x"}]
    truth = {
        "database": {f"v{i}": {"subset": "validation", "duration": 9.0, "annotations": records} for i in range(12)}
    }
    folders = []
    for name, finds in (("without", max(0, -better)), ("with", max(0, better))):
        results = {f"v{i}": [{"segment": [2.0, 5.0], "label": "x", "score": 0.9}] if i < finds
                   else [{"segment": [7.0, 8.0], "label": "x", "score": 0.5}] for i in range(12)}  # fmt: skip
        folders.append(tmp_path / name)
        (folders[-1] / "arms" / "lofi").mkdir(parents=True)
        found = {"version": "", "results": results, "external_data": {}}
        (folders[-1] / "arms" / "lofi" / "detections.json").write_text(json.dumps(found))
    verdict = judged(truth, *folders, default=0.5, learnt=40)
    assert verdict.class_loss == chosen
    assert "on 12 selection videos" in verdict.reason
    assert ("no clear difference" in verdict.reason) == (chosen == 0.5)


@pytest.mark.parametrize(
    ("videos", "said"),
    [
        ({"a": ("training", [[10, 30]]), "b": ("validation", [[10, 30]])}, "are these frames"),
        ({"a": ("training", [[900, 2100]]), "b": ("validation", [[1, 2]])}, "are these milliseconds"),
        ({"a": ("training", [[4.5, 5]]), "b": ("validation", [[1, 2]])}, "are they frames or milliseconds"),
        ({"a": ("training", [[3, 1]]), "b": ("validation", [[1, 2]])}, "has no length"),
        ({"a": ("training", []), "b": ("validation", [[1, 2]])}, "none with a segment"),
        ({"a": ("training", [[1, 2]])}, "lofi data split"),
        ({"a": ("train", [[1, 2]]), "b": ("val", [[1, 2]])}, "Did you mean 'train'"),
    ],
)
def test_data_that_cannot_be_used_end_in_a_message(few, tmp_path, videos, said):
    result = init(tmp_path, few(**videos))
    assert result.status == 3
    assert said in result.said
    assert not (tmp_path / "recipe.yaml").exists()


def test_a_broken_file_beside_a_background_video_ends_in_a_message(few, tmp_path):
    labels, videos = few(lab=("training", [[1, 3]]), bg=("training", []), a=("validation", [[1, 3]]))
    (videos / "lab.mp4").write_bytes(b"no video")
    result = init(tmp_path, (labels, videos))
    assert result.status == 3
    assert "that has a segment can be read" in result.said
    (videos / "lab.mp4").unlink()
    assert init(tmp_path, (labels, videos)).status == 3


def test_labels_without_a_length_are_events(few, tmp_path):
    labels = few(a=("training", [[1, 1], [2, 2]]), b=("validation", [[1.5, 1.5]]))
    result = init(tmp_path, labels)
    assert result.status == 0, result.said
    assert load_recipe(tmp_path / "recipe.yaml").data.events == 2.0
    assert "point events" in result.said
    refused = CliRunner().invoke(app, ["data", "check", str(labels[0]), "--videos", str(labels[1])])
    assert "are point events, and need a width" in " ".join(refused.output.split())
    assert CliRunner().invoke(app, ["data", "check", str(labels[0]), "--events", "2"]).exit_code == 0
    wrong = CliRunner().invoke(app, ["data", "stats", str(labels[0]), "--events", "-2"])
    assert "--events -2: allowed are seconds above 0" in str(wrong.exception)


def test_a_recipe_is_told_as_json(few, tmp_path):
    result = init(tmp_path, few(a=("training", [[1, 3]]), b=("validation", [[1, 2]])), "--json", "-q")
    told = json.loads(result.stdout)
    assert told["recipe"] == str(tmp_path / "recipe.yaml")
    assert {"setting", "value", "why"} == set(told["reasons"][0])


def test_classes_that_overlap_are_several_at_once(few, tmp_path):
    labels, videos = few(a=("training", [[1, 3], [2, 4]]), b=("validation", [[1, 2]]))
    document = json.loads(labels.read_text())
    document["database"]["a"]["annotations"][1]["label"] = "y"
    labels.write_text(json.dumps(document))
    assert init(tmp_path, (labels, videos)).status == 0
    assert load_recipe(tmp_path / "recipe.yaml").detect.multi_label


def test_clips_without_their_folder_are_refused(few, tmp_path):
    data = few(a=("training", [[1, 2]]), b=("validation", [[1, 2]]))
    result = init(tmp_path, data, "--clips", "clips.csv")
    assert result.status == 2
    assert "--clips and --clips-root belong together" in result.said


@pytest.mark.parametrize("layout", ["folder", "file"])
def test_weights_say_which_encoder_they_are_of(few, tmp_path, layout):
    data = few(a=("training", [[1, 2]]), b=("validation", [[1, 2]]))
    encoder = create_encoder("tsm_resnet18_narrow", width=8)
    if layout == "folder":
        facts = {"inputs": {"snippets": {"frames": 4, "stride": 2, "size": 40}}}
        save_encoder(encoder, "tsm_resnet18_narrow", weights := tmp_path / "encoder", facts)
        expected = ("tsm_resnet18_narrow", {"width": 8}, 4, 40)
    else:
        torch.save(encoder.state_dict(), weights := tmp_path / "encoder.pth")
        expected = ("tsm_resnet18", {"width": 8, "stem": "compact"}, 8, 48)
    result = init(tmp_path, data, "--weights", weights)
    assert result.status == 0, result.said
    recipe = load_recipe(tmp_path / "recipe.yaml")
    found = (recipe.encoder.name, recipe.encoder.options, recipe.snippets.frames, recipe.snippets.size)
    assert found == expected
    assert recipe.lofi.encoder_lr == 2e-4
    assert Run(recipe, tmp_path / "run", quiet=True).new_encoder().config == encoder.config
