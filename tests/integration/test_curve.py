"""`lofi curve` on a finished run: what it trains, what it does not train again, and what it says."""

import json
import shutil

import pytest
from conftest import lofi

from lofi_tal.errors import LofiError
from lofi_tal.recipes.writing import save_recipe
from lofi_tal.run import Run
from lofi_tal.run.curve import learning_curve


def test_stage_3_is_trained_on_shares_once_and_the_whole_is_among_them(finished_run, tiny_recipe, tmp_path):
    run, _ = finished_run
    output = shutil.copytree(run.output, tmp_path / "run")
    (tmp_path / "recipe.yaml").write_text(save_recipe(tiny_recipe))
    command = ("curve", tmp_path / "recipe.yaml", "-o", output, "-q", "--shares", "25,50,100", "--draws", "2")
    first = lofi(*command, "--json")
    assert first.exit_code == 0, first.output
    found = json.loads(first.stdout)
    train = sum(len(part) for part in (run.data().train, run.data().selection))
    counts = [round(share * train) for share in (0.25, 0.5, 1)]
    assert [(point["videos"], point["draw"]) for point in found["points"]] == [
        (count, draw) for draw in range(2) for count in counts
    ]
    assert found["more"]["videos"] == 2 * train
    assert set(found["classes"]) == set(run.data().labels)
    made = {path: path.stat().st_mtime_ns for path in (output / "arms/lofi/curve").glob("*/stage.json")}
    assert len(made) == 6
    again = lofi(*command)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert f"With {2 * train} training videos instead of {train}, expect about" in again.stderr
    assert json.loads((output / "arms/lofi/curve.json").read_text())["points"] == found["points"]


def test_a_share_that_is_too_small_or_a_head_that_is_not_trained_is_refused(finished_run, tiny_recipe, tmp_path):
    run, _ = finished_run
    (tmp_path / "recipe.yaml").write_text(save_recipe(tiny_recipe))
    output = shutil.copytree(run.output, tmp_path / "run")
    refused = lofi("curve", tmp_path / "recipe.yaml", "-o", output, "-q", "--shares", "100", "--draws", "1")
    assert refused.exit_code == 2
    assert "is one number of videos: a curve needs two or more" in refused.stderr
    with pytest.raises(LofiError, match=r"shares 1.5, draws 1: shares lie above 0 and at most at 1"):
        learning_curve(Run(tiny_recipe, output, device="cpu", quiet=True), "lofi", [1.5], 1)
