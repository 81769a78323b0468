"""Thresholds, what they get, and how sure that is: on detections whose answers are worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lofi_tal.errors import LofiError
from lofi_tal.evaluation import (
    Thresholds,
    Verdicts,
    choose_thresholds,
    judge,
    judge_documents,
    measure,
    operating_point,
)
from lofi_tal.evaluation.arrays import ground_truth_of
from lofi_tal.evaluation.operating import wilson
from lofi_tal.segments import Segments
from lofi_tal.showing import EVERYTHING, Shown

# By falling score: right, right, wrong, right, wrong; 4 instances.
#   shown   1     2     3     4     5
#   right   1     2     2     3     3
#   precision 1   1     2/3   3/4   3/5
#   F1      2/5   4/6   4/7   6/8   6/9
SCORES, RIGHT = (0.9, 0.8, 0.7, 0.6, 0.5), (True, True, False, True, False)


def verdicts(
    scores=SCORES,
    right=RIGHT,
    *,
    label=None,
    video=None,
    instances=((0, 0), (0, 1), (0, 2), (0, 3)),
    labels=("a",),
    videos=5,
) -> Verdicts:
    """Return verdicts; instances are ``(label, video)``."""
    count = len(scores)
    return Verdicts(
        labels=labels,
        videos=videos,
        score=np.array(scores, dtype=float),
        label=np.zeros(count, int) if label is None else np.array(label),
        video=np.arange(count) % videos if video is None else np.array(video),
        right=np.array(right, dtype=bool),
        instance_label=np.array([one[0] for one in instances]),
        instance_video=np.array([one[1] for one in instances]),
    )


def test_best_f1_is_that_of_the_worked_example():
    assert choose_thresholds(verdicts()).pooled == 0.6
    rates = measure(verdicts(), Thresholds(0.6)).rates
    assert (rates.shown, rates.right, rates.instances) == (4, 3, 4)
    assert (rates.precision.value, rates.recall.value, rates.f1.value) == (0.75, 0.75, 0.75)


@pytest.mark.parametrize(("wanted", "threshold"), [(1.0, 0.8), (0.76, 0.8), (0.75, 0.6), (0.6, 0.5), (0.1, 0.5)])
def test_a_wanted_precision_takes_the_lowest_threshold_that_has_it(wanted, threshold):
    assert choose_thresholds(verdicts(), wanted).pooled == threshold


def test_equal_scores_are_shown_together_or_not_at_all():
    tied = verdicts(scores=(0.9, 0.8, 0.8), right=(True, True, False), instances=((0, 0), (0, 1)))
    # 0.9 alone: precision 1, F1 2/3; 0.8 and up: precision 2/3, F1 4/5. There is no place between the two of 0.8.
    assert choose_thresholds(tied, 1.0).pooled == 0.9
    assert choose_thresholds(tied).pooled == 0.8


def test_a_precision_that_no_score_reaches_shows_nothing():
    wrong_first = verdicts(scores=(0.9, 0.8), right=(False, True), instances=((0, 1),))
    point = operating_point(wrong_first, 0.8)
    assert point.thresholds.pooled == np.inf
    assert (point.rates.shown, point.rates.precision.value, point.rates.recall.value) == (0, 1.0, 0.0)
    assert point.to_json()["thresholds"]["pooled"] is None


def test_a_precision_out_of_range_is_refused():
    with pytest.raises(LofiError, match=r"precision 80 is out of range; allowed: above 0 and at most 1"):
        choose_thresholds(verdicts(), 80)


def test_only_classes_with_enough_detections_have_their_own_threshold():
    # Class a: 20 right at 0.9, 20 wrong at 0.2. Class b: 1 right at 0.3 only. Together, the best F1 is at 0.3:
    # 21 right of 21 shown.
    scores = (0.9,) * 20 + (0.3,) + (0.2,) * 20
    label, right = (0,) * 20 + (1,) + (0,) * 20, (True,) * 21 + (False,) * 20
    both = verdicts(
        scores, right, label=label, labels=("a", "b"), videos=41, instances=[*((0, i) for i in range(20)), (1, 20)]
    )
    found = choose_thresholds(both)
    assert found == Thresholds(0.3, {"a": 0.9})
    assert (found.of("a"), found.of("b")) == (0.9, 0.3)
    point = measure(both, found)
    assert (point.rates.right, point.rates.shown) == (21, 21)
    assert (point.classes["a"].shown, point.classes["b"].shown) == (20, 1)


def test_intervals_are_never_narrower_than_so_few_cases_allow():
    sure = verdicts(right=(True,) * 5, instances=tuple((0, i) for i in range(5)))
    one = measure(sure, Thresholds(0.0)).rates.precision
    # Wilson, 5 of 5: 1 / (1 + 1.96^2 / 5) = 0.566; the bootstrap by itself would say 1 to 1.
    assert (one.low, one.value, one.high) == (pytest.approx(0.566, abs=1e-3), 1.0, 1.0)
    assert wilson(0.5, 0) == (0.0, 1.0)


def test_intervals_of_many_cases_have_the_width_of_their_standard_error():
    # 400 detections, each in a video of its own, half of them right: the standard error is sqrt(.25 / 400) = 0.025.
    half = verdicts(np.full(400, 0.5), np.arange(400) % 2 == 0, video=np.arange(400), videos=400,
                    instances=[(0, i) for i in range(400)])  # fmt: skip
    one = measure(half, Thresholds(0.5), replicates=2000).rates.precision
    assert one.value == 0.5
    assert one.deviation == pytest.approx(0.025, abs=0.002)
    assert (one.low, one.high) == pytest.approx((0.451, 0.549), abs=0.006)


def test_what_was_chosen_on_the_same_videos_is_judged_with_less_hope():
    generator = np.random.default_rng(0)
    noise = verdicts(np.sort(generator.random(60))[::-1], generator.random(60) < 0.5, video=np.arange(60) % 12,
                     videos=12, instances=[(0, i % 12) for i in range(40)])  # fmt: skip
    chosen = choose_thresholds(noise, 0.7)
    there, hoped = measure(noise, chosen).rates.precision, operating_point(noise, 0.7).rates.precision
    assert there.value >= 0.7  # on the videos that it was chosen on
    assert hoped.value < there.value - 0.03  # the scores say nothing: half of any choice is right elsewhere
    assert hoped.low < 0.5 < hoped.high


def test_draws_repeat():
    assert operating_point(verdicts(), seed=3) == operating_point(verdicts(), seed=3)


def test_verdicts_see_one_label_a_span_and_classes_without_truth_are_wrong():
    truth = ground_truth_of([Segments("v", [0, 10], [5, 15], ("run", "jump"), [1, 1], duration=20)])
    found = Segments(
        "v",
        start=[0, 0, 10, 0.2, 16],
        end=[5, 5, 15, 5, 18],
        label=("run", "jump", "jump", "run", "fly"),
        score=[0.9, 0.6, 0.8, 0.7, 0.5],
    )
    got = judge([found], truth, ["run", "jump", "fly"])
    # (0, 5) as jump repeats the span of run at 0.9; (0.2, 5) is a double; fly is nowhere.
    assert got.labels == ("run", "jump", "fly")
    assert got.score.tolist() == [0.9, 0.8, 0.7, 0.5]
    assert got.right.tolist() == [True, True, False, False]
    document = {"results": {"v": found.to_activitynet()}}
    known = {"database": {
        "v": {"subset": "validation", "duration": 20, "annotations": [
            {"segment": [0, 5], "label": "run"}, {"segment": [10, 15], "label": "jump"}]},
        "other": {"subset": "training", "duration": 9, "annotations": [{"segment": [0, 1], "label": "fly"}]},
    }}  # fmt: skip
    from_files = judge_documents(known, document)
    assert from_files.right.tolist() == got.right.tolist()
    assert from_files.score.tolist() == got.score.tolist()


def test_what_is_shown_follows_limits_of_classes_and_one_label_a_span():
    found = Segments("v", [0, 0, 10], [5, 5, 15], ("run", "jump", "jump"), [0.9, 0.6, 0.5])
    assert Shown(0.4, {"jump": 0.5}).of(found).score.tolist() == [0.9, 0.5]
    assert Shown(0.4, {"run": 0.95}).of(found).score.tolist() == [0.5]  # the better label of the span does not show
    assert len(EVERYTHING.of(found)) == 3
    assert str(Shown(np.inf)) == "more than any score"
    assert EVERYTHING.to_json() == {"everything": True, "limit": None, "limits": {}, "one_label": False}
    assert Shown(0.5, {"run": np.inf}).to_json()["limits"] == {"run": None}
