"""Class-score files in the layouts of published systems."""

import json

import numpy as np
import pytest

from lofi_tal.errors import DataError, LofiError
from lofi_tal.postprocess import (
    ClassScores,
    label_proposals,
    read_cuhk_scores,
    read_hacs_scores,
    write_cuhk_scores,
    write_hacs_scores,
)


@pytest.fixture
def scores():
    return ClassScores(("run", "jump", "wave"), {"a": np.array([0.2, 0.5, 0.3]), "b": np.array([1.0, 0.0, 0.0])})


def test_cuhk_layout_round_trip(scores, tmp_path):
    write_cuhk_scores(tmp_path / "s.json", scores)
    assert json.loads((tmp_path / "s.json").read_text()) == {
        "results": {"a": [0.2, 0.5, 0.3], "b": [1.0, 0.0, 0.0]},
        "class": ["run", "jump", "wave"],
    }
    again = read_cuhk_scores(tmp_path / "s.json")
    assert again.labels == scores.labels
    np.testing.assert_array_equal(again.of("a"), scores.of("a"))


def test_hacs_layout_keeps_the_better_class_with_weight_max_over_sum(tmp_path):
    # as Frostinassiky/gtad, branch hacs, weighs it
    content = {"0": [{"label": 2, "score": 3.0}, {"label": 1, "score": 9.0}], "1": [{"label": 0, "score": 4.0}]}
    (tmp_path / "s.json").write_text(json.dumps(content))
    found = read_hacs_scores(tmp_path / "s.json", ["run", "jump", "wave"], ["x", "y"])
    assert found.of("x").tolist() == [0, 0.75, 0]
    assert found.of("y").tolist() == [1, 0, 0]


def test_hacs_layout_writes_two_classes_by_position(scores, tmp_path):
    write_hacs_scores(tmp_path / "s.json", scores, ["b", "a"])
    content = json.loads((tmp_path / "s.json").read_text())
    assert content["1"] == [{"label": 1, "score": 0.5}, {"label": 2, "score": 0.3}]
    assert read_hacs_scores(tmp_path / "s.json", scores.labels, ["b", "a"]).of("a").argmax() == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "CUHK layout"),
        ({"results": {}}, "CUHK layout"),
        ({"results": {"a": ["x"]}, "class": ["run"]}, r"results\['a'\]"),
        ({"results": {"a": [1, 2]}, "class": ["run"]}, "2 numbers for 1 classes"),
        ({"results": {"a": [-1]}, "class": ["run"]}, "negative"),
        ({"results": {"a": [float("nan")]}, "class": ["run"]}, "not finite"),
        ({"results": {}, "class": ["run", "run"]}, "more than once"),
    ],
)
def test_malformed_cuhk_files_are_refused_with_place(tmp_path, content, message):
    (tmp_path / "s.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_cuhk_scores(tmp_path / "s.json")


@pytest.mark.parametrize(
    "content",
    [[], {"7": []}, {"0": [{"label": 9, "score": 1}]}, {"0": [{"score": 1}]}, {"0": []}, {"x": []}, {"-1": []}],
)
def test_malformed_hacs_files_are_refused(tmp_path, content):
    (tmp_path / "s.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="expected"):
        read_hacs_scores(tmp_path / "s.json", ["run"], ["x"])


def test_a_video_without_scores_is_named(scores):
    with pytest.raises(DataError, match="'zzz'"):
        scores.of("zzz")


def test_proposals_are_emitted_once_for_each_of_the_best_classes():
    proposal, kind, fused = label_proposals([0.9, 0.5], [0.1, 0.6, 0.3], classes=2)
    assert list(zip(proposal.tolist(), kind.tolist(), strict=True)) == [(0, 1), (1, 1), (0, 2), (1, 2)]
    np.testing.assert_allclose(fused, [0.54, 0.30, 0.27, 0.15])


def test_each_proposal_may_have_its_own_classes_and_impossible_ones_are_left_out():
    proposal, kind, fused = label_proposals([0.9, 0.5], [[0, 1.0], [0.5, 0]], classes=2)
    assert proposal.tolist() == [0, 1]
    assert kind.tolist() == [1, 0]
    assert fused.tolist() == [0.9, 0.25]
    assert len(label_proposals([], [0.5, 0.5])[0]) == 0


def test_impossible_requests_are_errors():
    with pytest.raises(LofiError, match="at least 1"):
        label_proposals([0.5], [1.0], classes=0)
    with pytest.raises(DataError, match="shape"):
        label_proposals([0.5], [[1.0], [1.0]])
