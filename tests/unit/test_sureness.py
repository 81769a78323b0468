"""Measures of doubt: each one on detections whose value is worked out by hand, and what they have in common."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lofi_tal.errors import LofiError
from lofi_tal.evaluation.sureness import BEST, MEASURES, measure_doubt, next_videos, require_measure
from lofi_tal.segments import Segments
from lofi_tal.showing import Shown

SHOWN = Shown(0.5)


def found(*rows) -> Segments:
    start, end, label, score = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Segments("v", start, end, label, score)


def value(name: str, *rows, shown: Shown = SHOWN) -> float:
    return measure_doubt(found(*rows), shown)[name]


def test_expected_mistakes_are_false_alarms_of_what_is_shown_and_misses_of_what_is_hidden():
    rows = [(0, 5, "run", 0.9), (10, 15, "run", 0.6), (20, 25, "run", 0.3), (0, 5, "jump", 0.4)]
    assert value("mistakes", *rows) == pytest.approx(0.1 + 0.4 + 0.3), "the second label of a span does not count"


def test_expected_mistakes_of_calibrated_scores_are_those_that_happen():
    """Oracle: draw which detections are right by their probabilities; hidden right ones are missed actions."""
    rng = np.random.default_rng(0)
    p = rng.random(200)
    rows = [(i, i + 0.5, "run", score) for i, score in enumerate(p)]
    right = rng.random((4000, 200)) < p
    mistakes = np.where(p >= 0.5, ~right, right).sum(axis=1)
    assert value("mistakes", *rows) == pytest.approx(mistakes.mean(), abs=4 * mistakes.std() / math.sqrt(4000))


def test_scores_near_the_threshold_of_their_class():
    rows = [(0, 5, "run", 0.5), (10, 15, "run", 0.72), (20, 25, "run", 0.75), (30, 35, "jump", 0.5)]
    shown = Shown(0.5, {"jump": 0.9})
    assert value("near", *rows, shown=shown) == 0.5, "0.72 is 0.94 logits from 0.5, 0.75 is 1.1; 0.5 is far from 0.9"
    assert value("near", (0, 5, "jump", 0.5), shown=Shown(math.inf)) == 1.0, "0.5, where nothing is ever shown"


def test_confidence_is_that_of_what_is_shown_or_of_the_best_span():
    assert value("confidence", (0, 5, "run", 0.9), (9, 12, "run", 0.7), (20, 25, "run", 0.1)) == pytest.approx(0.2)
    assert value("confidence", (0, 5, "run", 0.2), (9, 12, "run", 0.1)) == pytest.approx(0.8)


def test_entropy_and_margin_are_over_the_labels_of_a_span():
    even = [(0, 5, "run", 0.3), (0, 5, "jump", 0.3)]
    assert value("entropy", *even) == pytest.approx(math.log(2))
    assert value("margin", *even) == 1.0
    rows = [*even, (9, 12, "run", 0.6), (9, 12, "jump", 0.2), (20, 25, "run", 0.5)]
    share = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert value("entropy", *rows) == pytest.approx((math.log(2) + share + 0) / 3)
    assert value("margin", *rows) == pytest.approx((1 + 0.5 + 0) / 3)


def test_disagreement_is_that_of_overlapping_spans():
    one, inside, beside = (0, 10, "run", 0.8), (0, 5, "run", 0.5), (20, 30, "run", 0.9)
    assert value("overlap", one, beside) == 0.0
    assert value("overlap", one, inside, beside) == pytest.approx(0.5), "the same label: 1 - tIoU"
    other = (0, 10.001, "jump", 0.5)
    both = (0.8 * 0.5 * 0.5 + 0.8 * 0.5 * 1 + 0.5 * 0.5 * 1) / (0.8 * 0.5 + 0.8 * 0.5 + 0.5 * 0.5)
    assert value("overlap", one, inside, other) == pytest.approx(both)


def test_actions_are_counted():
    assert value("actions", (0, 5, "run", 0.9), (0, 5, "jump", 0.8), (9, 12, "run", 0.5), (20, 25, "run", 0.4)) == 2


def test_measures_of_doubt_look_at_the_best_spans_alone():
    best = [(i, i + 0.5, "run", 0.9) for i in range(BEST)]
    rest = [(0, 0.4 + i / 1000, label, 0.4) for i in range(50) for label in ("run", "jump")]
    for name in ("near", "confidence", "entropy", "margin", "overlap"):
        assert value(name, *best) == value(name, *best, *rest), name


SPAN = st.tuples(
    st.floats(0, 10), st.floats(0, 10), st.sampled_from(["run", "jump", "throw"]), st.floats(-2, 3)
)  # scores of a model without calibration may lie anywhere


@settings(max_examples=60, deadline=None)
@given(st.lists(SPAN, max_size=30), st.floats(-1, 2))
def test_every_measure_is_finite_not_negative_and_blind_to_the_order(rows, limit):
    one = measure_doubt(found(*rows), Shown(limit))
    other = measure_doubt(found(*sorted(rows, key=lambda row: -row[3])), Shown(limit))
    for name in MEASURES:
        assert math.isfinite(one[name]), name
        assert one[name] >= -1e-12, name
    ties = len({row[3] for row in rows}) < len(rows)
    assert ties or other == pytest.approx(one)


def test_videos_without_detections_come_last():
    assert next_videos({"a": 0.0, "b": None, "c": 0.5, "d": None}) == ["c", "a", "b", "d"]


def test_a_measure_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(LofiError, match="Did you mean 'entropy'"):
        require_measure("entropie")
