"""A mistake in a call of the public functions ends in one message that says what is allowed."""

from pathlib import Path

import pytest
import torch

import lofi_tal as lofi
from lofi_tal.data import TruthVideo, VideoFile
from lofi_tal.errors import LofiError

FULL = lofi.full_fidelity(8, 32)
SCHEDULE = lofi.create_schedule("full", FULL)


def video(label=0):
    file = VideoFile(Path("none.mp4"), "", 10.0, 100)
    return TruthVideo("v", file, torch.tensor([[0.1, 0.4]]), torch.tensor([label]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch": 0}, "batch=0 must be at least 1"),
        ({"epochs": -1}, "epochs=-1 must be at least 1"),
        ({"start": -1}, "start=-1"),
        ({"workers": -1}, "workers=-1"),
    ],
)
def test_batches_of_impossible_settings_are_refused(settings, words):
    with pytest.raises(LofiError, match=words):
        next(lofi.batches([video()], SCHEDULE, **settings))


def test_batches_of_no_videos_are_refused():
    with pytest.raises(LofiError, match="0 videos"):
        next(lofi.batches([], SCHEDULE))


@pytest.mark.parametrize(
    ("shape", "labels", "words"),
    [
        ((16, 8), ["a"], "the videos have class 3"),
        ((16, 8), "abcd", "give the labels of load_videos"),
        ((16, 7), ["a"] * 4, r"shape \(16, 7\); this encoder and full 8×32px give \(16, 8\)"),
    ],
)
def test_what_does_not_belong_together_makes_no_localiser(shape, labels, words):
    features = lofi.FeatureSet([video(3)], [torch.zeros(shape)])
    with pytest.raises(LofiError, match=words):
        lofi.fit_head(features, labels, fidelity=FULL, device="cpu")
    with pytest.raises(LofiError, match="epochs=0 must be at least 1"):
        lofi.fit_head(features, labels, fidelity=FULL, epochs=0, device="cpu")


def test_detections_that_are_none_are_refused(tmp_path):
    one = lofi.Segments("v", [1.0], [2.0], ("a",), [0.5])
    truth = {"database": {"v": {"subset": "validation", "annotations": [{"segment": [1, 2], "label": "a"}]}}}
    assert lofi.evaluate(truth, one).average_mAP == lofi.evaluate(truth, [one]).average_mAP == 1.0
    for wrong in (([one], {}), list(one)):
        with pytest.raises(LofiError, match="detections must be Segments, one for each video"):
            lofi.evaluate(truth, wrong)


def test_labels_that_the_subset_does_not_have_are_refused(tmp_path):
    (tmp_path / "labels.json").write_text(
        '{"database": {"v": {"subset": "training", "duration": 9, "annotations": [{"segment": [1, 2], "label": "a"}]}}}'
    )
    for labels in (["x"], [], "a"):
        with pytest.raises(LofiError, match="none of the classes of 'training': a"):
            lofi.load_videos(tmp_path / "labels.json", tmp_path, labels=labels)


def test_text_is_as_good_as_a_path(tmp_path):
    recipe = lofi.load_recipe("demo", needs_data=False)
    assert str(lofi.Run(recipe, str(tmp_path / "run"), device="cpu").output) == str(tmp_path / "run")
