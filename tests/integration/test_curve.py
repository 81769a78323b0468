"""`lofi curve` on a finished run: what it trains, what it does not train again, and what it says."""

import contextlib
import json
import shutil

import pytest

import lofi_tal.runtime.training
from conftest import lofi
from lofi_tal.data import content_hash
from lofi_tal.errors import LofiError
from lofi_tal.recipes.writing import save_recipe
from lofi_tal.run import Run
from lofi_tal.run.curve import learning_curve
from lofi_tal.run.whole_curve import whole_curve
from lofi_tal.runtime.training import InterruptedRunError


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


def test_all_stages_are_trained_on_the_drawn_videos_and_go_on(finished_run, tiny_recipe, tmp_path):
    run, _ = finished_run
    output = shutil.copytree(run.output, tmp_path / "run")
    (tmp_path / "recipe.yaml").write_text(save_recipe(tiny_recipe))
    command = ("curve", tmp_path / "recipe.yaml", "-o", output, "-q", "--shares", "50,100", "--draws", "1")
    first = lofi(*command, "--all-stages", "--json")
    assert first.exit_code == 0, first.stderr
    folders = sorted((output / "arms/lofi/whole_curve").iterdir())
    encoders = {(output / "lofi/encoder.safetensors").read_bytes()}
    for folder in folders:
        count = int(folder.name.split("-")[0])
        point = json.loads((folder / f"arms/lofi/curve/{folder.name}/stage.json").read_text())
        drawn = set(point["inputs"]["videos"])
        assert len(drawn) == count
        seen = [video for video in run.data().train if video.video_id in drawn]  # as in a run, none of the selection
        assert json.loads((folder / "lofi/stage.json").read_text())["inputs"]["data"] == content_hash(seen)
        encoders.add((folder / "lofi/encoder.safetensors").read_bytes())
        assert not (folder / "pretrain").exists()  # stage 1 is the run's
    assert len(folders) == 2
    assert len(encoders) == 2  # with all videos, the first draw trains what the run has trained
    made = {path: path.stat().st_mtime_ns for path in (output / "arms/lofi/whole_curve").rglob("stage.json")}
    again = lofi(*command, "--all-stages", "--json")
    assert json.loads(again.stdout) == json.loads(first.stdout)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    refused = lofi("curve", tmp_path / "recipe.yaml", "-o", output, "-q", "--all-stages", "--arm", "baseline")
    assert "does not learn from these videos" in refused.stderr


def test_a_curve_of_all_stages_that_was_stopped_goes_on_in_the_middle_of_a_training(
    finished_run, tiny_recipe, tmp_path, monkeypatch
):
    run, _ = finished_run
    folders = [shutil.copytree(run.output, tmp_path / name) / "arms/lofi/whole_curve" for name in ("cut", "whole")]

    def curve(name):
        started = Run(tiny_recipe, tmp_path / name, device="cpu", quiet=True, resume=True)
        with started.open():
            return whole_curve(started, "lofi", [1.0], 1)

    class Asked:
        left = 2

        def is_set(self):
            self.left -= 1
            return self.left < 0

    with monkeypatch.context() as patched:
        patched.setattr(lofi_tal.runtime.training, "_stop_requests", lambda: contextlib.nullcontext(Asked()))
        with pytest.raises(InterruptedRunError):
            curve("cut")
    (checkpoint,) = folders[0].glob("*/lofi/checkpoint.pt")
    started = checkpoint.with_name("started.json").stat().st_mtime_ns
    assert curve("cut") == curve("whole")
    assert checkpoint.with_name("started.json").stat().st_mtime_ns == started
    encoders = [next(folder.glob("*/lofi/encoder.safetensors")).read_bytes() for folder in folders]
    assert encoders[0] == encoders[1]
