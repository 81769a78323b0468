"""Scores as probabilities: curves whose answers are known, their file, and what it may not hold."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lofi_tal.errors import DataError
from lofi_tal.evaluation import (
    Calibration,
    Curve,
    ScoreSheet,
    fit_calibration,
    load_sheet,
    make_sheet,
    reliability,
    save_sheet,
)
from lofi_tal.evaluation.calibration import fit_curve
from lofi_tal.evaluation.verdicts import Verdicts
from lofi_tal.segments import Segments


def logistic(x):
    return 1 / (1 + np.exp(-x))


def drawn(slope: float, offset: float, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Return scores, and verdicts that are right with the probability of a known curve."""
    generator = np.random.default_rng(0)
    logits = np.sort(generator.normal(-1, 2, count))[::-1]
    return logistic(logits), generator.random(count) < logistic(slope * logits + offset)


def verdicts_of(score, right, label=None, labels=("a",)) -> Verdicts:
    numbers = np.zeros(len(score), int) if label is None else label
    places = np.arange(len(score)) % 10
    return Verdicts(labels, 10, score, numbers, places, right, numbers[right], places[right])


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.5, -1.0), (2.0, 1.5), (1.2, -4.0)])
def test_the_curve_that_made_the_verdicts_is_found(slope, offset):
    score = np.array([0.05, 0.2, 0.5, 0.8, 0.95])
    true = logistic(slope * np.log(score / (1 - score)) + offset)
    assert fit_curve(*drawn(slope, offset))(score) == pytest.approx(true, abs=0.04)


def test_a_score_of_a_half_is_what_the_offset_says():
    assert Curve(2.0, 2.0, 0.0)(0.5).item() == 0.5
    assert Curve(3.0, 3.0, -np.log(3))(0.5).item() == pytest.approx(0.25)  # odds 1 : 3
    assert Curve(2.0, 2.0, 0.0)(0.8).item() == pytest.approx(16 / 17)  # odds 4 : 1, squared
    assert Curve(1.0, 2.0, 0.0)(0.8).item() == pytest.approx(20 / 21)  # odds 0.8 / 0.2^2 = 20 : 1


def test_order_stays_down_to_the_smallest_scores():
    score = np.concatenate([10.0 ** np.arange(-11, 0), [0.5, 0.9, 0.99, 1 - 1e-9]])
    for curve in (Curve(0.3, 2.0, -5.0), Curve(5.0, 0.5, 2.0)):
        assert (np.diff(curve(score)) > 0).all()


def test_few_detections_give_no_certainty():
    curve = fit_curve(np.array([0.9, 0.8, 0.7, 0.2, 0.1]), np.array([True, True, True, False, False]))
    assert 0.6 < curve(0.9).item() < 0.97
    assert 0.03 < curve(0.1).item() < 0.5


def test_expected_calibration_error_of_the_worked_example():
    # Bin 0.8 to 0.9: mean score 0.85, 1 of 2 right; bin 0.1 to 0.2: mean 0.1, 0 of 2 right.
    # (2 · 0.35 + 2 · 0.1) / 4 = 0.225
    found = reliability([0.8, 0.9 - 1e-9, 0.1, 0.1], [True, False, False, False])
    assert found.error == pytest.approx(0.225)
    assert found.count == (0, 2, 0, 0, 0, 0, 0, 0, 2, 0)
    assert found.right[8] == 0.5
    assert found.to_json()["score"][0] is None
    assert reliability([1.0, 1.2], [True, True]).count[9] == 2


def test_calibration_takes_most_of_the_error_away():
    score, right = drawn(0.6, -2.5)
    half = np.arange(len(score)) % 2 == 0
    calibration = fit_calibration(verdicts_of(score[half], right[half]))
    after = reliability(calibration.probability(score[~half], ["a"] * int((~half).sum())), right[~half]).error
    assert after < 0.1 * reliability(score[~half], right[~half]).error


def test_classes_with_enough_have_their_own_curve_and_the_others_share_one():
    score, right = drawn(1.0, -1.0, 200)
    label = np.zeros(200, int)
    label[::50] = 1  # four detections
    found = fit_calibration(verdicts_of(score, right, label, ("often", "rare")))
    assert list(found.classes) == ["often"]
    together = found.probability([0.5, 0.5], ["often", "rare"])
    assert together[0] == found.classes["often"](0.5)
    assert together[1] == found.pooled(0.5)


def test_nothing_is_calibrated_on_almost_nothing():
    assert fit_calibration(verdicts_of(np.array([0.9, 0.1]), np.array([True, False]))) is None
    assert make_sheet(verdicts_of(np.array([0.9, 0.1]), np.array([False, False]))) is None


def test_segments_keep_their_raw_scores_and_their_order_within_a_class():
    found = Segments("v", [0, 1, 2], [1, 2, 3], ("a", "b", "a"), [0.9, 0.8, 0.3], proposal_score=[1, 1, 1])
    got = Calibration(Curve(1.0, 1.0, -1.0), {"b": Curve(1.0, 1.0, 3.0)}).of(found)
    assert got.label == ("b", "a", "a")  # classes may change places
    assert got.raw_score.tolist() == [0.8, 0.9, 0.3]
    assert got.to_activitynet()[0].keys() == {"label", "score", "segment", "proposal_score", "raw_score"}
    again = Segments.from_activitynet("v", got.to_activitynet())
    assert again.raw_score.tolist() == got.raw_score.tolist()


@pytest.fixture
def sheet() -> ScoreSheet:
    score, right = drawn(1.0, -1.0, 300)
    return make_sheet(verdicts_of(score, right))


def test_a_sheet_comes_back_as_it_was(sheet, tmp_path):
    save_sheet(sheet, tmp_path)
    again = load_sheet(tmp_path)
    assert again.calibration == sheet.calibration
    assert again.shown(0.8) == sheet.shown(0.8)
    assert load_sheet(tmp_path / "none") is None


def test_limits_are_those_of_the_raw_scores_made_probabilities(sheet):
    raw, shown = sheet.thresholds(), sheet.shown()
    assert shown.limits["a"] == pytest.approx(sheet.calibration.classes["a"](raw.classes["a"]))
    limit = raw.classes["a"]
    segments = Segments("v", [0, 0, 1], [1, 2, 2], ("a", "a", "a"), [limit, limit - 1e-6, 0.99])
    assert shown.of(sheet.calibrated(segments)).raw_score.tolist() == [0.99, limit]  # what lies at the limit is shown


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("format",), 9, "format 9"),
        (("labels",), ["a", 3], "label 3 is no text"),
        (("selection", "label"), [5] * 300, "label goes from 5 to 5; allowed: 0 to 0"),
        (("selection", "video"), [0.5] * 300, "no list of whole numbers"),
        (("selection", "score"), [0.5], "differ in length"),
        (("selection", "score"), [None] * 300, "not a finite number"),
        (("selection", "score"), list(np.linspace(0, 1, 300)), "does not fall"),
        (("selection", "videos"), 10**12, "1 to 10,000,000"),
        (("selection", "right"), "x" * 300, "is str"),
        (("calibration", "pooled", "low"), -1, "slopes from 0.01 to 100"),
        (("calibration", "pooled", "high"), float("nan"), "slopes from 0.01 to 100"),
        (("calibration", "pooled"), {}, "no score sheet"),
        (("calibration", "classes"), {"z": {"low": 1, "high": 1, "offset": 0}}, "'z', which is no class"),
    ],
)
def test_a_sheet_out_of_bounds_is_refused(sheet, tmp_path, place, value, message):
    save_sheet(sheet, tmp_path)
    path = tmp_path / "scores.json"
    content = json.loads(path.read_text())
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message) as error:
        load_sheet(tmp_path)
    assert str(path) in str(error.value)
