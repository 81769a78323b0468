"""What a user is told while a run works and when it is begun again: what differs, is unfinished, is used again."""

import json
import shutil

import pytest

from conftest import lofi
from lofi_tal.errors import LofiError
from lofi_tal.files import read_json, write_json
from lofi_tal.recipes.writing import save_recipe
from lofi_tal.run import Run, live_report
from lofi_tal.runtime import InterruptedRunError


@pytest.fixture
def run_copy(finished_run, tiny_recipe, tmp_path):
    """A finished run that may be changed, and its recipe."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(save_recipe(tiny_recipe))
    return shutil.copytree(finished_run[0].output, tmp_path / "run"), recipe


@pytest.mark.parametrize(
    "removed",
    [
        ["lofi/stage.json"],
        ["arms/lofi/evaluation/stage.json", "arms/lofi/head/refit/stage.json"],
        ["arms/lofi/evaluation/stage.json", "arms/lofi/features.json"],
    ],
    ids=["stage 2", "stage 3", "extraction"],
)
def test_unfinished_work_of_any_stage_needs_resume(run_copy, removed):
    run, recipe = run_copy
    for name in removed:
        (run / name).unlink()
    command = ("run", recipe, "-o", run, "-q", "--device", "cpu")
    refused = lofi(*command)
    assert refused.exit_code == 2
    assert "Add --resume to go on" in refused.stderr
    assert lofi(*command, "--resume").exit_code == 0


def test_changed_annotations_are_told_in_words(run_copy, changed, tmp_path):
    run, _ = run_copy
    recipe = changed()
    document = read_json(recipe.data.annotations)
    data = Run(recipe, run, device="cpu", quiet=True).data()
    first, second = (video.video_id for video in data.train[:2])
    entry = document["database"][first]
    start, end = entry["annotations"][0]["segment"]
    entry["annotations"][0]["segment"] = [start, (start + end) / 2]
    del document["database"][second]
    write_json(tmp_path / "labels.json", document)
    recipe = changed(data={"annotations": str(tmp_path / "labels.json")}, lofi={"lr": 0.05})
    with pytest.raises(LofiError) as refusal:
        Run(recipe, run, device="cpu", quiet=True).ensure("lofi")
    for words in (f"1 segment of {first} changed", f"1 video removed ({second})", "lofi.lr: 0.002 -> 0.05"):
        assert words in str(refusal.value)


def test_a_new_run_beside_an_old_one_decodes_nothing(finished_run, tiny_recipe, tmp_path, monkeypatch):
    shutil.copytree(finished_run[0].output, tmp_path / "old")
    new = Run(tiny_recipe, tmp_path / "new", device="cpu", quiet=True)
    new.data()
    monkeypatch.setattr("lofi_tal.video.cache.decode_views", None)
    assert new.fill_cache() == (True, {})
    shutil.rmtree(tmp_path / "old")
    assert Run(tiny_recipe, tmp_path / "new", device="cpu", quiet=True).fill_cache() == (True, {})


def test_runs_may_name_one_cache(finished_run, changed, tmp_path):
    recipe = changed(data={"cache": str(finished_run[0].output / "cache")})
    assert Run(recipe, tmp_path / "run", device="cpu", quiet=True).cache.folder == recipe.data.cache
    assert "cache" not in json.loads(finished_run[0].recipe.model_dump_json())["data"]


def metrics(stage):
    return [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]


def test_first_batches_are_on_sheets_that_the_report_names(finished_run):
    output = finished_run[0].output
    for stage, count in (("pretrain", 4), ("lofi", 2)):
        page = (output / stage / "first-batch.html").read_text()
        assert page.count("<h3>") == count  # as many as a batch has
        assert f'href="{stage}/first-batch.html"' in (output / "report.html").read_text()


@pytest.fixture(scope="module")
def watched(tiny_recipe, tmp_path_factory):
    """Stage 2 alone, with a look after each epoch and with none."""
    encoders = {}
    for every in (1, 0):
        lofi = tiny_recipe.lofi.model_copy(update={"watch": every})
        recipe = tiny_recipe.model_copy(update={"pretrain": None, "lofi": lofi})
        folder = tmp_path_factory.mktemp("watched") / "run"
        encoders[every] = Run(recipe, folder, device="cpu", quiet=True).ensure("lofi")
    return encoders


def test_looks_at_held_out_videos_change_no_bit_of_the_training(watched):
    with_looks, without = metrics(watched[1]), metrics(watched[0])
    assert (watched[1] / "encoder.safetensors").read_bytes() == (watched[0] / "encoder.safetensors").read_bytes()
    assert [line["loss"] for line in with_looks] == [line["loss"] for line in without]
    assert read_json(watched[1] / "stage.json")["fingerprint"] == read_json(watched[0] / "stage.json")["fingerprint"]
    assert not any(key.startswith("held_out") for line in without for key in line)


def test_a_look_follows_each_epoch_and_its_figures_stand_in_the_last_step(watched):
    lines = metrics(watched[1])
    looks = [(line["epoch"], line["held_out/loss"], line["held_out/mAP"]) for line in lines if "held_out/loss" in line]
    assert [epoch for epoch, *_ in looks] == [0, 1, 2]
    assert all(loss > 0 and 0 <= score <= 1 for _, loss, score in looks)
    last = {line["epoch"]: line["step"] for line in lines}
    assert [line["step"] for line in lines if "held_out/loss" in line] == list(last.values())


def test_without_held_out_videos_there_is_no_curve_and_that_is_said_once(changed, tmp_path, caplog):
    caplog.set_level("INFO", "lofi_tal")
    recipe = changed(pretrain=None, data={"selection_share": 0.0}, lofi={"watch": 1, "epochs": 2})
    stage = Run(recipe, tmp_path / "run", device="cpu", quiet=True).ensure("lofi")
    assert not any("held_out/loss" in line for line in metrics(stage))
    assert sum("No held-out curve" in record.getMessage() for record in caplog.records) == 1


def test_the_report_is_there_from_the_first_stage_on_and_follows_it(tiny_recipe, tmp_path):
    run = Run(tiny_recipe.model_copy(update={"pretrain": None}), tmp_path / "run", device="cpu", quiet=True)
    with run.open("lofi train"), live_report(run, "lofi train") as page:
        assert 'data-refresh="10"' in page.read_text()  # before anything is done
        run.ensure("lofi")
    text = page.read_text()
    assert 'data-refresh="0"' in text  # it is over
    assert ">Ended<" in text
    assert "Course of the training" in text
    assert 'href="lofi/first-batch.html"' in text


@pytest.mark.parametrize(
    ("error", "words"),
    [(InterruptedRunError("Stopped as asked"), "--resume goes on"), (LofiError("the <reason>"), "the &lt;reason&gt;")],
)
def test_the_report_of_a_run_that_did_not_end_well_says_so(tiny_recipe, tmp_path, error, words):
    run = Run(tiny_recipe, tmp_path / "run", device="cpu", quiet=True)
    with pytest.raises(LofiError), run.open(), live_report(run) as page:
        raise error
    text = page.read_text()
    assert words in text
    assert 'data-refresh="0"' in text


def test_the_report_of_a_finished_run_stays_as_long_as_nothing_is_done(finished_run, tiny_recipe):
    page = finished_run[0].output / "report.html"
    before = page.read_bytes()
    run = Run(tiny_recipe, page.parent, device="cpu", quiet=True)
    with live_report(run):
        run.ensure("lofi")
    assert page.read_bytes() == before


def test_a_report_that_cannot_be_drawn_ends_no_run(tiny_recipe, tmp_path, monkeypatch, caplog):
    def broken(*_, **__):
        raise RuntimeError("no fonts")

    monkeypatch.setattr("lofi_tal.run.live.report_page", broken)
    run = Run(tiny_recipe, tmp_path / "run", device="cpu", quiet=True)
    with run.open(), live_report(run):
        assert run.data()
    assert "The report cannot be drawn: RuntimeError: no fonts" in caplog.text
