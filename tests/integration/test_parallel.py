"""Several processes of one run: the same losses and weights, files and figures as one process gives."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from conftest import STAGES, assert_same_training, files_of
from lofi_tal.recipes.writing import save_recipe
from lofi_tal.run import Run
from tests.processes import run


def run_with(processes, recipe, folder, *arguments, check=True):
    """Run a recipe with torchrun."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.parent / f"{folder.name}.yaml"
    path.write_text(save_recipe(recipe))
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [sys.executable, *launcher, "-m", "lofi_tal.cli", "run", str(path), "-o", str(folder)]
    command += ["--device", "cpu", "--precision", "fp32"]  # a trial chooses bf16 on some CPUs, which is too coarse
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # as torchrun sets it
    return subprocess.run(
        [*command, "-q", *arguments], capture_output=True, text=True, check=check, timeout=500, env=environment
    )


@pytest.fixture(scope="module")
def both(parallel_recipe, one_process, tmp_path_factory):
    two = tmp_path_factory.mktemp("parallel") / "2"
    result = run_with(2, parallel_recipe, two, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return one_process, two


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_give_the_losses_and_weights_of_one(both, stage):
    one, two = both
    assert_same_training(two, one, stage)


def test_the_figures_are_those_of_one_process(both):
    one, two = (json.loads((folder / "report.json").read_text()) for folder in both)
    for way in ("fused", "agnostic", "oracle"):
        ours, theirs = (report["arms"][0]["scores"][way]["average_mAP"] for report in (two, one))
        assert ours == pytest.approx(theirs, abs=0.02)
    accuracies = [json.loads((folder / "pretrain/stage.json").read_text())["result"] for folder in both]
    assert accuracies[0]["validation_clips"] == accuracies[1]["validation_clips"]


def test_extraction_by_several_processes_gives_identical_files_and_goes_on_after_a_loss(
    finished_run, tiny_recipe, tmp_path
):
    """Three, among whom the videos cannot be shared evenly; the run of two processes above shares them evenly."""
    pipeline, _ = finished_run
    copy = shutil.copytree(pipeline.output, tmp_path / "run")
    folder = copy / "arms/lofi/features"
    before = files_of(folder)
    kept = sorted(folder.glob("*.safetensors"))[:2]
    for path in folder.glob("*.safetensors"):
        if path not in kept:
            path.unlink()
    times = {path: path.stat().st_mtime_ns for path in kept}
    (tmp_path / "recipe.yaml").write_text(save_recipe(tiny_recipe))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=3"]
    command = [*launcher, "-m", "lofi_tal.cli", "extract", str(tmp_path / "recipe.yaml"), "-o", str(copy), "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    assert files_of(folder) == before
    assert {path: path.stat().st_mtime_ns for path in kept} == times


def test_a_mistake_ends_every_process_with_one_message(parallel_recipe, tmp_path):
    broken = parallel_recipe.model_copy(
        update={"data": parallel_recipe.data.model_copy(update={"eval_subset": "none"})}
    )
    result = run_with(2, broken, tmp_path / "run", check=False)
    assert result.returncode != 0
    assert result.stderr.count("has no video") + result.stderr.count("'none'") >= 1


def test_a_batch_too_small_for_the_processes_is_refused(parallel_recipe, tmp_path):
    tiny = parallel_recipe.lofi.model_copy(update={"batch": 1})
    recipe = parallel_recipe.model_copy(update={"lofi": tiny, "pretrain": None})  # stage 2 comes first
    result = run_with(2, recipe, tmp_path / "run", check=False)
    assert result.returncode != 0
    assert "cannot be spread over 2 processes" in result.stderr


def test_detection_is_shared_between_processes(finished_run, tmp_path, monkeypatch):
    pipeline, results = finished_run
    videos = pipeline.recipe.data.videos
    found = []
    for rank in range(2):
        out = tmp_path / str(rank)
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        done = run("lofi_tal.cli", "detect", videos, "-m", results[-1].model, "-o", out, "-q")
        assert done.returncode == 0, done.stderr
        found.append({path.stem for path in out.glob("*.json")})
    assert not found[0] & found[1]
    assert len(found[0] | found[1]) == len(list(videos.iterdir()))
    assert isinstance(pipeline, Run)
