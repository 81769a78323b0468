"""From raw video to a report on the tiny benchmark: stages, skipping, resuming, and what a run leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from conftest import files_of
from lofi_tal.encoders import ENCODERS, create_encoder
from lofi_tal.errors import DataError, LofiError
from lofi_tal.evaluation import evaluate_detections
from lofi_tal.recipes import load_recipe
from lofi_tal.recipes.writing import save_recipe
from lofi_tal.run import Run
from lofi_tal.run.parts import check_parts


def run(recipe, folder, **options):
    pipeline = Run(recipe, folder, device="cpu", quiet=True, **options)
    with pipeline.open():
        return pipeline, pipeline.run()


def test_a_run_gives_both_arms_three_scores_each_and_a_report(finished_run):
    pipeline, results = finished_run
    assert [result.arm for result in results] == ["baseline", "lofi"]
    for result in results:
        assert set(result.scores) == {"fused", "agnostic", "oracle"}
        for score in result.scores.values():
            assert len(score["mAP"]) == 10
            assert 0 <= score["average_mAP"] <= 1
        # a perfect video classifier is never worse than ours on one-class videos
        assert result.scores["oracle"]["average_mAP"] >= result.scores["fused"]["average_mAP"] - 1e-9
    for name in ("recipe.yaml", "environment.json", "command.txt", "report.html", "report.json", "lofi/metrics.jsonl"):
        assert (pipeline.output / name).stat().st_size > 0, name


def test_written_detections_evaluate_to_the_reported_score(finished_run):
    pipeline, results = finished_run
    for result in results:
        detections = pipeline.output / "arms" / result.arm / "detections.json"
        found = evaluate_detections(pipeline.recipe.data.annotations, detections)
        assert found.average_mAP == result.scores["fused"]["average_mAP"]
        assert found.videos == 4


def test_the_cycle_visits_its_phases_and_full_fidelity_is_never_trained(finished_run):
    pipeline, _ = finished_run
    lines = [json.loads(line) for line in (pipeline.output / "lofi" / "metrics.jsonl").read_text().splitlines()]
    by_epoch = {line["epoch"]: (line["fidelity"], line["snippets"], line["size"]) for line in lines}
    assert by_epoch == {0: ("S", 12, 21), 1: ("T", 3, 32), 2: ("ST", 6, 26)}


def test_selection_videos_are_unseen_by_the_encoder(finished_run):
    pipeline, _ = finished_run
    data = pipeline.data()
    assert len(data.selection) == 2
    assert not {v.video_id for v in data.train} & {v.video_id for v in data.selection}
    assert json.loads((pipeline.output / "lofi" / "stage.json").read_text())["result"]["videos"] == len(data.train)


def test_an_up_to_date_run_does_nothing_and_a_changed_recipe_is_not_overwritten_unasked(
    finished_run, changed, tiny_recipe
):
    pipeline, results = finished_run
    before = {path: path.stat().st_mtime_ns for path in pipeline.output.rglob("*.safetensors")}
    again, repeated = run(tiny_recipe, pipeline.output)
    assert [r.scores for r in repeated] == [r.scores for r in results]
    assert {path: path.stat().st_mtime_ns for path in pipeline.output.rglob("*.safetensors")} == before
    assert {folder.name for folder in again.folder.skipped} == {"pretrain", "lofi", "evaluation"}
    noted = (pipeline.output / "recipe.yaml").read_text()
    with pytest.raises(LofiError, match=r"lofi\.lr: 0\.002 -> 0\.05.*--overwrite"):
        run(changed(lofi={"lr": 0.05}), pipeline.output)
    assert (pipeline.output / "recipe.yaml").read_text() == noted
    assert {path: path.stat().st_mtime_ns for path in pipeline.output.rglob("*.safetensors")} == before


def test_the_same_seed_gives_the_same_bytes_with_and_without_loader_processes(finished_run, changed, tmp_path):
    pipeline, _ = finished_run
    run(changed(data={"workers": 1}), tmp_path)
    first, second = files_of(pipeline.output), files_of(tmp_path)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


@pytest.mark.parametrize("stage", ["lofi", "arms/baseline/features"])
def test_kill_9_in_a_stage_and_resume_give_the_same_files(stage, finished_run, tiny_recipe, tmp_path):
    pipeline, _ = finished_run
    (tmp_path / "recipe.yaml").write_text(save_recipe(tiny_recipe))
    output = tmp_path / "run"
    command = [sys.executable, "-m", "lofi_tal.cli", "run", str(tmp_path / "recipe.yaml"), "-o", str(output), "-q"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(_threads())}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if (output / stage).exists() and any((output / stage).rglob("*")):
            time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    finished = subprocess.run([*command, "--resume"], env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    first, second = files_of(pipeline.output), files_of(output)
    assert [name for name in first if first[name] != second.get(name)] == []


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def test_two_runs_in_one_folder_are_kept_apart(tiny_recipe, tmp_path):
    first = Run(tiny_recipe, tmp_path / "run", device="cpu", quiet=True)
    second = Run(tiny_recipe, tmp_path / "run", device="cpu", quiet=True)
    with first.open(), pytest.raises(LofiError, match="Another run"), second.open():
        pass


def test_a_lost_video_is_listed_and_costs_only_itself(tiny_recipe, benchmark_set, changed, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    sources = sorted(benchmark_set.videos.iterdir())
    for path in sources:
        (videos / path.name).symlink_to(path)
    lost = next(path for path in sources if path.stem.startswith("validation"))
    (videos / lost.name).unlink()
    (videos / lost.name).write_text("this is not a video")
    pipeline, results = run(changed(data={"videos": str(videos)}, pretrain=None, lofi=None), tmp_path / "run")
    assert [result.arm for result in results] == ["baseline"]
    assert list(pipeline.data().failed) == [lost.stem]
    assert results[0].scores["fused"]["videos"] == 4  # its truth still counts
    assert results[0].scores["fused"]["missing_videos"] == [lost.stem]


def test_a_subset_without_truth_stops_before_any_training(changed, tmp_path):
    with pytest.raises(DataError, match="valid"):
        run(changed(data={"eval_subset": "valid"}), tmp_path / "run")
    assert not (tmp_path / "run" / "pretrain").exists()


def test_nothing_to_resume_is_an_error(tiny_recipe, tmp_path):
    with pytest.raises(LofiError, match="nothing to resume"):
        Run(tiny_recipe, tmp_path / "none", device="cpu", resume=True)


def test_the_recipe_in_a_run_folder_means_the_same_from_everywhere(tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny_recipe.data.annotations.parent)
    here = {key: Path(getattr(tiny_recipe.data, key)).name for key in ("annotations", "videos", "clips", "clips_root")}
    data = tiny_recipe.data.model_copy(update={key: Path(name) for key, name in here.items()})
    run = Run(tiny_recipe.model_copy(update={"data": data}), tmp_path / "run", device="cpu", quiet=True)
    with run.open():
        pass
    monkeypatch.chdir(tmp_path)
    assert load_recipe(tmp_path / "run/recipe.yaml").data.videos == tiny_recipe.data.videos.absolute()


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"head": {"options": {"hidden_4d": 1}}}, "hidden_4d"),
        ({"encoder": {"options": {"depht": 18}}}, "depht"),
        ({"head": {"weights": "none.pth.tar"}}, "does not exist"),
    ],
)
def test_head_and_encoder_are_tried_before_anything_is_trained(changed, tmp_path, section, words):
    run = Run(changed(**section), tmp_path / "run", device="cpu", quiet=True)
    with pytest.raises(LofiError, match=words), run.open():
        pass
    assert not (tmp_path / "run/pretrain").exists()


def computing(**options):
    """As vision transformers do, whose drop rates are items of a tensor."""
    return create_encoder("tsm_resnet18_narrow", width=int(torch.linspace(8, 8, 2)[0].item()), **options)


def test_an_encoder_that_computes_while_it_is_built_can_be_tried(changed, tmp_path, monkeypatch):
    monkeypatch.setitem(ENCODERS._registered, "computing_for_test", computing)
    run = Run(
        changed(encoder={"name": "computing_for_test", "options": {}}), tmp_path / "run", device="cpu", quiet=True
    )
    check_parts(run)


@pytest.mark.parametrize("arm", ["baseline", "lofi"])
def test_the_class_agnostic_figure_of_a_run_is_that_of_lofi_evaluate_on_its_detections(finished_run, tiny_recipe, arm):
    run, results = finished_run
    (result,) = [one for one in results if one.arm == arm]
    found = evaluate_detections(
        tiny_recipe.data.annotations, run.output / "arms" / arm / "detections.json", class_agnostic=True
    )
    assert found.mAP == tuple(result.scores["agnostic"]["mAP"])
    assert found.repeated > 0
    assert found.average_mAP > 0
