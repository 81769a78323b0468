"""The examples do what they say, on the tiny benchmark."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lofi_tal as lofi
from lofi_tal.config import make_recipe
from lofi_tal.recipes.writing import save_recipe
from lofi_tal.run import Run

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_loop_of_ones_own_trains_and_leaves_a_localiser(benchmark_set, tmp_path):
    command = [
        sys.executable,
        EXAMPLES / "own_loop.py",
        benchmark_set.annotations,
        benchmark_set.videos,
        tmp_path / "m",
    ]
    command += ["--encoder=tsm_resnet18_narrow", "--snippets=8", "--size=32", "--epochs=3"]
    result = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines if "'total'" in line] == ["S", "S", "T", "T", "ST", "ST"]
    assert any(line.startswith("average mAP") for line in lines)
    video = min(benchmark_set.videos.iterdir())
    localizer = lofi.Localizer.from_pretrained(tmp_path / "m", device="cpu", precision="fp32")
    assert localizer.predict(video).video_id == video.stem
    assert localizer.features(video).shape == (128, 8)
    found, failed = localizer.predict_many([video, tmp_path / "none.mp4"])
    assert [segments.video_id for segments in found] == [video.stem]
    assert list(failed) == [str(tmp_path / "none.mp4")]


def test_a_tracker_of_ones_own_is_named_by_its_path(tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    content = {**tiny_recipe.model_dump(mode="json"), "tracking": {"own_tracker:LossFile": {"every": 2}, "csv": {}}}
    run = Run(make_recipe(content), tmp_path / "run", device="cpu", quiet=True)
    with run.open():
        folder = run.ensure("pretrain")
    *lines, last = (folder / "losses.txt").read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [["pretrain", str(step)] for step in range(2, 2 * len(lines) + 1, 2)]
    assert last == "success"
    assert (folder / "csv/from-step-0/metrics.csv").exists()
    assert not (folder / "tensorboard").exists()  # what is named is all there is
    assert "own_tracker:LossFile" in (tmp_path / "run/recipe.yaml").read_text()


def test_the_public_functions_go_from_videos_to_scores(benchmark_set, tmp_path):
    videos = lofi.load_videos(benchmark_set.annotations, benchmark_set.videos, "training")
    assert len(videos) > 3
    assert len(videos.labels) > 1
    assert videos.failed == {}
    assert str(len(videos)) in repr(videos)
    full = lofi.full_fidelity(6, 32)
    schedule = lofi.create_schedule("short", full, r_t=2, r_s=1.5, c_s=1)
    seen = list(lofi.batches(videos, schedule, batch=4, epochs=2, frames=2, stride=2, seed=3))
    again = list(lofi.batches(videos, schedule, batch=4, epochs=2, frames=2, stride=2, seed=3, start=2))
    assert [batch.fidelity.name for batch in seen[:3]] == ["S", "T", "ST"]
    assert [batch.indices for batch in seen[2:]] == [batch.indices for batch in again]
    assert all((one.frames == other.frames).all() for one, other in zip(seen[2:], again, strict=True))
    assert sum(map(len, seen)) == 2 * len(videos)

    kept = list(lofi.batches(videos, schedule, batch=4, frames=2, stride=2, seed=3, workers=1))
    assert all((one.frames == other.frames).all() for one, other in zip(seen, kept, strict=False))

    encoder = lofi.create_encoder("tsm_resnet18_narrow", width=8).train()
    features, failed = lofi.extract(encoder, videos[:3], full, frames=2, stride=2, device="cpu", precision="fp32")
    assert [one.shape for one in features.features] == [(64, 6)] * 3
    assert failed == {}
    assert encoder.training
    small = {"hidden_1d": 16, "hidden_2d": 8, "hidden_3d": 16}
    ways = {"encoder": encoder, "fidelity": full, "options": small, "device": "cpu"}
    localizer = lofi.fit_head(features, videos.labels, frames=2, stride=2, epochs=1, **ways)
    localizer.save_pretrained(tmp_path / "model")
    paths = [video.file.path for video in videos[:2]]
    found, failed = lofi.detect(paths, tmp_path / "model", device="cpu", precision="fp32")
    assert failed == {}
    result = lofi.evaluate(benchmark_set.annotations, found, "training", tiou=[0.5])
    assert 0 <= result.average_mAP <= 1
    with pytest.raises(lofi.LofiError, match="tiou 'anet' is unknown; known: activitynet, thumos"):
        lofi.evaluate(benchmark_set.annotations, found, "training", tiou="anet")
    encoder.name = None
    with pytest.raises(lofi.LofiError, match="no name by which"):
        lofi.fit_head(features, videos.labels, **ways)


def test_a_plan_of_a_recipe_or_its_file(tiny_recipe, tmp_path):
    (tmp_path / "recipe.yaml").write_text(save_recipe(tiny_recipe))
    plan = lofi.plan(tmp_path / "recipe.yaml", "24GiB", precision="fp32")
    assert plan.recommended is not None
    assert plan.recommended.precision == "fp32"
    assert lofi.plan(tiny_recipe, "24GiB", precision="fp32").recommended == plan.recommended
