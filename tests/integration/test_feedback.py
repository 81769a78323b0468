"""What a user is told while a run works and when it is begun again: what differs, is unfinished, is used again."""

import json
import shutil

import pytest
from conftest import lofi

from lofi_tal.errors import LofiError
from lofi_tal.files import read_json, write_json
from lofi_tal.recipes.writing import save_recipe
from lofi_tal.run import Run


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
