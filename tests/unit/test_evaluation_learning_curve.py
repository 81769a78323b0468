"""Learning curves: the model, what it foresees, and the order in which videos are taken."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lofi_tal.cli.curve import answer, parse_shares
from lofi_tal.errors import LofiError
from lofi_tal.evaluation.learning_curve import CurvePoint, foresee, means
from lofi_tal.run.curve import stratified

COUNTS = [16, 64, 256]


def law(count):
    return 0.6 - 0.8 / np.sqrt(count)


def other(count):
    return 0.1 + 0.05 * np.log2(count)


@pytest.mark.parametrize(("law", "model"), [(law, "c - a / sqrt(videos)"), (other, "c + a log2(videos)")])
def test_a_curve_of_a_models_own_form_is_continued_exactly(law, model):
    found = foresee(COUNTS, [[law(count)] * 3 for count in COUNTS], 1024)
    assert (found.value, found.gain) == pytest.approx((law(1024), law(1024) - law(256)))
    assert (found.low, found.high) == pytest.approx((found.gain, found.gain))
    assert found.error == pytest.approx(0.0)
    assert found.model == model


def test_the_error_is_what_the_model_misses_at_the_largest_number():
    values = [[law(16)], [law(64)], [law(256) - 0.1]]  # it stops growing, and the law that flattens misses less
    found = foresee(COUNTS, values, 512)
    assert (found.model, found.error) == ("c - a / sqrt(videos)", pytest.approx(0.1))
    assert foresee(COUNTS[1:], values[1:], 512).error is None


def test_a_falling_curve_is_not_continued_downwards_and_no_figure_passes_1():
    falling = foresee([10, 20], [[0.5], [0.4]], 40)
    assert falling.value == pytest.approx(0.45)
    assert (falling.gain, falling.low, falling.high) == (0.0, 0.0, 0.0)
    assert foresee([1, 2], [[0.0], [1.0]], 1000).value == 1.0


def test_the_interval_is_that_of_the_draws():
    values = [[0.2, 0.3, 0.25], [0.4, 0.5, 0.45]]
    found = foresee([10, 40], values, 160)
    assert found.low < found.gain < found.high
    assert found == foresee([10, 40], values, 160)  # the same every time


def test_one_number_of_videos_is_no_curve():
    with pytest.raises(LofiError, match=r"at least two numbers of videos; 1 was tried"):
        foresee([8], [[0.5]], 16)


def test_means_and_their_range():
    points = [CurvePoint(8, 9, draw, {"fused": value}, {}) for draw, value in enumerate((0.1, 0.4))]
    assert means(points) == {8: (pytest.approx(0.25), 0.1, 0.4)}


def test_every_class_comes_early_and_in_its_share():
    videos = [SimpleNamespace(name=n, labels=torch.tensor([0] if n < 40 else [1] if n < 48 else [])) for n in range(52)]
    for seed in range(5):
        order = stratified(videos, seed)
        assert sorted(video.name for video in order) == list(range(52))
        kinds = [tuple(video.labels.tolist()) for video in order]
        assert {*kinds[:3]} == {(0,), (1,), ()}
        half = kinds[:26]
        assert (half.count((0,)), half.count((1,)), half.count(())) == pytest.approx((20, 4, 2), abs=1)
    assert stratified(videos, 1) == stratified(videos, 1) != stratified(videos, 2)


def test_shares_are_percentages():
    assert parse_shares("12.5, 50,100") == (0.125, 0.5, 1.0)
    for text in ("", "0,50", "50,200", "nan", "half"):
        with pytest.raises(LofiError, match="expected percentages above 0 and at most 100"):
            parse_shares(text)


def test_the_answer_says_what_more_videos_give_and_to_which_classes():
    values = {"wave": [[0.1], [0.3], [0.5]], "sit": [[0.4], [0.4], [0.4]]}
    whole = foresee(COUNTS, [[0.25], [0.35], [0.45]], 512)
    lines = answer(whole, {label: foresee(COUNTS, every, 512) for label, every in values.items()}, 256, 2)
    assert lines[0].startswith("With 512 training videos instead of 256, expect about 5")
    assert "more videos like these may not help" not in lines[0]
    assert "fitted without the 256 videos, is off by" in lines[1]
    assert "wave (+" in lines[2]
    assert "sit" not in lines[2]
    flat = foresee(COUNTS, [[0.4], [0.4], [0.4]], 512)
    assert "more videos like these may not help" in answer(flat, {}, 256, 2)[0]
    two = answer(foresee(COUNTS[1:], [[0.2], [0.3]], 512), {}, 256, 1)
    assert "one draw tells no interval" in two[0]
    assert "is not tested: that takes three numbers of videos or more" in two[1]
    wild = answer(foresee(COUNTS, [[0.2], [0.21], [0.5]], 512), {}, 256, 2)
    assert "which is more than the gain: do not count on it." in wild[1]
