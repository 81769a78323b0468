"""A run with sliding windows on the tiny benchmark: training, features, detection and the localiser agree."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open

import lofi_tal.planning.choosing
from conftest import own_scores
from lofi_tal.config import make_recipe
from lofi_tal.localizer import Localizer
from lofi_tal.planning import plan_recipe
from lofi_tal.run import Run, write_run_report

WINDOW = 6.0  # the videos take 7 to 10 s, their actions less than 6


@pytest.fixture(scope="module")
def windowed(tiny_recipe, tmp_path_factory):
    content = tiny_recipe.model_dump(mode="json")
    content["data"]["tiou"] = "thumos"
    content["snippets"] |= {"window": WINDOW, "overlap": 0.8}
    content["head"]["lrs"] = [1e-3]
    content |= {"pretrain": None, "baseline": False}
    recipe = make_recipe(content)
    pipeline = Run(recipe, tmp_path_factory.mktemp("runs") / "windows", device="cpu", quiet=True)
    with pipeline.open():
        results = pipeline.run()
        write_run_report(pipeline, results)
    return pipeline, results[0]


def features_of(pipeline, video):
    with safe_open(pipeline.output / f"arms/lofi/features/{video.video_id}.safetensors", framework="pt") as handle:
        return handle.get_tensor("features")


def test_stage_2_goes_over_the_windows_that_show_an_action(windowed):
    pipeline, _ = windowed
    result = json.loads((pipeline.output / "lofi/stage.json").read_text())["result"]
    assert result["videos"] == len(pipeline.data().train)
    assert result["windows"] > result["videos"]
    lines = [json.loads(line) for line in (pipeline.output / "lofi/metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 3 * -(-result["windows"] // 2)  # epochs, batches of 2


def test_every_snippet_of_a_video_is_encoded_once(windowed):
    pipeline, _ = windowed
    for video in pipeline.data().evaluation:
        assert len(features_of(pipeline, video)) == round(video.file.duration * 12 / WINDOW)


def test_the_run_is_evaluated_at_the_thresholds_asked_for(windowed):
    _, result = windowed
    for score in result.scores.values():
        assert score["tiou_thresholds"] == [0.3, 0.4, 0.5, 0.6, 0.7]
        assert 0 <= score["average_mAP"] <= 1


def test_the_localiser_finds_in_a_file_what_the_run_found(windowed):
    pipeline, result = windowed
    localizer = Localizer.from_pretrained(result.model, device="cpu")
    assert localizer.windows == pipeline.windows
    for video in pipeline.data().evaluation:
        alone = localizer.predict(video.file.path)
        together = pipeline.detections("lofi")[video.video_id]
        features = localizer.features(video.file.path)
        torch.testing.assert_close(features, features_of(pipeline, video).T, rtol=1e-3, atol=1e-4)
        assert own_scores(alone) == pytest.approx(own_scores(together), rel=1e-3)
        assert (alone.end <= video.file.duration).all()


def test_published_features_of_any_number_are_cut_into_windows(windowed, tmp_path):
    pipeline, _ = windowed
    random = np.random.default_rng(0)
    for video in [*pipeline.data().train, *pipeline.data().selection, *pipeline.data().evaluation]:
        np.save(tmp_path / f"{video.video_id}.npy", random.normal(size=(random.integers(20, 60), 8)).astype(np.float32))
    content = pipeline.recipe.model_dump(mode="json") | {"features": {"sources": [str(tmp_path)]}, "lofi": None}
    head = Run(make_recipe(content), tmp_path / "run", device="cpu", quiet=True)
    with head.open():
        (result,) = head.run()
    assert result.scores["agnostic"]["videos"] == len(head.data().evaluation)
    features, _, _ = head.features("features")
    lengths = [one.shape for one in features.features]
    assert lengths == [(8, round(video.duration * 12 / WINDOW)) for video in features.videos]


def test_another_overlap_cuts_otherwise_but_needs_no_other_features(windowed):
    pipeline, _ = windowed
    content = pipeline.recipe.model_dump(mode="json")
    content["snippets"]["overlap"] = 0.25
    other = make_recipe(content).snippets
    assert other.record() != pipeline.recipe.snippets.record()
    assert other.record(cut=False) == pipeline.recipe.snippets.record(cut=False)


def test_segments_are_measured_by_the_window_when_planning(windowed, monkeypatch):
    pipeline, _ = windowed
    monkeypatch.setattr(
        lofi_tal.planning.choosing,
        "make_plan",
        lambda *_, lengths, **__: SimpleNamespace(lengths=lengths, recommended=True),
    )
    lengths = []
    for window in (None, WINDOW):
        content = pipeline.recipe.model_dump(mode="json")
        content["snippets"]["window"] = window
        lengths.append(plan_recipe(make_recipe(content), 2**40, model=object()).lengths)
    truth = json.loads(pipeline.recipe.data.annotations.read_text())["database"]
    videos = [video for video in truth.values() if video["subset"] == "training"]
    seconds = [[a["segment"][1] - a["segment"][0] for a in video["annotations"]] for video in videos]
    assert lengths[0] == pytest.approx([s / v["duration"] for v, row in zip(videos, seconds, strict=True) for s in row])
    assert lengths[1] == pytest.approx([s / WINDOW for row in seconds for s in row])
