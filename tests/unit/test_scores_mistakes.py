"""Mistakes, advice, floors and what cannot be judged: on a few segments whose answers are worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lofi_tal.evaluation import (
    Thresholds,
    assess,
    detections_of,
    find_mistakes,
    floor_scores,
    floors_json,
    ground_truth_of,
)
from lofi_tal.evaluation.advice import advise
from lofi_tal.evaluation.bootstrap import class_intervals
from lofi_tal.evaluation.detection import match_detections
from lofi_tal.evaluation.diagnosis import length_bins
from lofi_tal.evaluation.mistakes import MISTAKES, VideoMistakes
from lofi_tal.report.assessment_plots import precision_recall_curves
from lofi_tal.run.report import examples
from lofi_tal.segments import Segments


def truth_of(**videos):
    """Return the truth of videos: lists of ``(start, end, label)``, 100 s each."""
    return ground_truth_of([segments(name, rows) for name, rows in videos.items()], "validation")


def segments(name, rows) -> Segments:
    rows = [(*row, 1.0)[:4] for row in rows]
    start, end, label, score = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Segments(name, start, end, label, score, duration=100.0)


def found_in(truth, **videos):
    return detections_of([segments(name, rows) for name, rows in videos.items()], truth)


@pytest.fixture
def truth():
    return truth_of(
        a=[(0, 10, "run"), (20, 30, "jump"), (40, 50, "run"), (60, 70, "jump")],
        b=[(0, 10, "run")],
        c=[(0, 10, "jump")],
    )


@pytest.fixture
def found(truth):
    return found_in(
        truth,
        a=[
            (0, 10, "run", 0.9),  # right
            (0, 10, "jump", 0.8),  # another label of the same span: not shown
            (1, 10, "run", 0.7),  # double: tIoU 0.9 with what is found
            (20, 30, "run", 0.9),  # wrong label
            (44, 56, "run", 0.9),  # boundaries: 6 of 16 s
            (80, 90, "jump", 0.9),  # false alarm; (60, 70) is missed
            (60, 70, "jump", 0.1),  # below the threshold
        ],
        b=[(0, 10, "run", 0.9)],
        c=[],
    )


def test_every_kind_of_mistake_is_counted_once(truth, found):
    got = find_mistakes(truth, found, Thresholds(0.5))
    assert got.counts == {"wrong label": 1, "boundaries": 1, "missed": 2, "false alarm": 1, "double": 1}
    assert got.labels == ("run", "jump")
    #                                  run  jump  nothing
    assert got.confusion.tolist() == [[3, 0, 0], [1, 0, 2], [0, 1, 0]]
    assert got.confused() == [("jump", "run", 1)]
    assert got.state.tolist() == [-1, 0, 1, 2, -1, 2]
    assert got.shown == 6
    assert got.below == 1  # (60, 70) in a, at 0.1


def test_videos_come_worst_first_and_say_which_classes_are_concerned(truth, found):
    worst, second = find_mistakes(truth, found, Thresholds(0.5)).videos
    assert (worst.video_id, worst.total, worst.instances) == ("a", 5, 4)
    some = {
        label: {kind: n for kind, n in counts.items() if n} for label, counts in worst.classes.items()
    }  # the wrong label concerns both
    assert some == {
        "run": {"wrong label": 1, "boundaries": 1, "double": 1},
        "jump": {"wrong label": 1, "missed": 1, "false alarm": 1},
    }
    assert (second.video_id, second.counts["missed"], list(second.classes)) == ("c", 1, ["jump"])


def test_videos_beside_the_worst_show_what_these_do_not():
    def video(name, classes, **counts):
        return VideoMistakes(name, dict.fromkeys(MISTAKES, 0) | counts, {label: {} for label in classes}, 1)

    worst = [
        video("a", ["run"], missed=9),
        video("b", ["run"], missed=8),
        video("c", ["jump"], missed=7),  # another class
        video("d", ["jump"], missed=6),
        video("e", ["run"], boundaries=1),  # another kind
        video("f", ["wave"], double=1),
    ]
    assert examples(worst, {"a", "b"}) == ["c", "e", "f"]
    assert examples(worst, {"f"}) == ["a", "c", "e"]
    assert examples([], set()) == []


def test_a_right_label_is_never_taken_for_a_wrong_one_of_a_better_score(truth):
    both = found_in(truth, b=[(0, 9, "jump", 0.9), (0, 10, "run", 0.6)])
    got = find_mistakes(truth, both, Thresholds(0.5))
    assert (got.counts["wrong label"], got.counts["double"], got.confusion[0, 0]) == (0, 1, 1)


def test_thresholds_of_classes_decide_what_is_shown(truth, found):
    got = find_mistakes(truth, found, Thresholds(0.5, {"jump": 0.95}))
    assert got.counts["false alarm"] == 0
    nothing = find_mistakes(truth, found, Thresholds(np.inf))
    assert nothing.counts == {"wrong label": 0, "boundaries": 0, "missed": 6, "false alarm": 0, "double": 0}
    (only,) = advise(truth, nothing)
    assert only.kind == "nothing shown"


@pytest.mark.parametrize(
    ("rows", "kind", "words", "action"),
    [
        ([(0, 10, "jump", 1), (20, 30, "run", 1)], "wrong label", "run is taken for jump (1 times)", "lofi.class_loss"),
        ([(4, 16, "run", 1), (24, 36, "jump", 1)], "boundaries", "2 of 2 actions", "snippets.count"),
        ([(70, 80, "run", 1), (0, 10, "run", 1), (20, 30, "jump", 1), (85, 90, "run", 1)], "false alarm",
         "most of run (2)", "data.background"),
        ([(0, 10, "run", 1), (0, 9, "run", 0.9), (0, 8, "run", 0.8), (20, 30, "jump", 1)], "double", "2 of 4",
         "detect.sigma"),
    ],
)  # fmt: skip
def test_the_dominant_error_comes_first_with_what_helps(rows, kind, words, action):
    truth = truth_of(a=[(0, 10, "run"), (20, 30, "jump")])
    first = advise(truth, find_mistakes(truth, found_in(truth, a=rows), Thresholds(0.5)))[0]
    assert first.kind == kind
    assert words in first.error
    assert action in first.action


def test_missed_short_actions_are_told_from_missed_ones():
    long = [(200 * i, 200 * i + 100, "run") for i in range(6)]
    short = [(200 * i + 150, 200 * i + 152, "run") for i in range(3)]
    truth = truth_of(a=[*long, *short])
    first = advise(truth, find_mistakes(truth, found_in(truth, a=[(*row, 0.9) for row in long]), Thresholds(0.5)))[0]
    assert "3 of 9 actions are missed, short ones above all: 100 % of those up to" in first.error
    assert "lofi.r_t" in first.action
    first = advise(truth, find_mistakes(truth, found_in(truth, a=[(*row, 0.9) for row in short]), Thresholds(0.5)))[0]
    assert "short" not in first.error


def test_nothing_stands_out_where_all_is_right():
    truth = truth_of(a=[(0, 10, "run")])
    (only,) = advise(truth, find_mistakes(truth, found_in(truth, a=[(0, 10, "run", 1)]), Thresholds(0.5)))
    assert only.kind == "none"


def test_curves_of_classes_say_where_nothing_is_right_and_each_column_has_its_recall(truth):
    found = found_in(truth, a=[(0, 10, "run", 0.9)], b=[(50, 60, "jump", 0.9)])
    assessment = assess(truth, found, threshold=0.5, replicates=20)
    figure = precision_recall_curves(assessment)
    titles = {axis.get_title(): [text.get_text() for text in axis.texts] for axis in figure.axes}
    assert titles == {"run": [], "jump": ["none is right"]}
    many = {f"v{i}": [(0, 10, f"class {i}")] for i in range(5)}
    figure = precision_recall_curves(assess(truth_of(**many), found_in(truth_of(**many), **many), replicates=20))
    shown = [axis.xaxis.get_tick_params()["labelbottom"] for axis in figure.axes if axis.get_visible()]
    assert shown == [False, True, True, True, True]  # four in the first row, one in the second


def averages(ways):
    """Return the average mAP by way."""
    return {way: one.average_mAP for way, one in ways.items()}


def test_the_whole_video_is_a_perfect_floor_where_actions_fill_their_videos():
    truth = truth_of(a=[(0, 100, "run")], b=[(0, 100, "run")])
    floors = floor_scores(truth, [segments("t", [(0, 100, "run")])])
    assert averages(floors["whole video"]) == {"fused": 1.0, "agnostic": 1.0, "oracle": 1.0}
    found = floors_json(floors)["whole video"]["fused"]
    assert (found["mAP"], found["average_mAP"], len(found["tiou_thresholds"])) == ([1.0] * 10, 1.0, 10)


def test_a_grid_of_the_right_length_finds_actions_that_lie_on_it():
    truth = truth_of(a=[(20, 40, "run")], b=[(30, 50, "jump")])
    floors = floor_scores(truth, [segments("t", [(0, 20, "run"), (5, 25, "run"), (50, 70, "jump")])])
    assert averages(floors["whole video"])["oracle"] == 0.0  # tIoU 0.2 at most
    grid = averages(floors["grid"])
    # Grid 0-20, 10-30, 20-40, 30-50 ...: the third is run's, after two that are wrong; jump's is the fourth.
    assert grid["oracle"] == pytest.approx((1 / 3 + 1 / 4) / 2)
    assert grid["fused"] < grid["oracle"]


def test_floors_need_known_lengths():
    truth = ground_truth_of([Segments("a", [0], [1], ("run",), [1])])
    assert floor_scores(truth, [segments("t", [(0, 20, "run")])]) == {}


def test_bins_of_length_hold_a_fifth_each():
    truth = truth_of(a=[(0, length, "run") for length in range(1, 11)])
    assert length_bins(truth) == (("XS", 2.8), ("S", 4.6), ("M", 6.4), ("L", 8.2), ("XL", np.inf))
    equal = truth_of(a=[(0, 5, "run")] * 4)
    assert length_bins(equal) == (("S", 5.0), ("L", np.inf))


def test_classes_with_few_or_unsure_instances_are_named():
    # often: 60 videos, always found. half: 20 videos, every other found (standard error 11 points). rare: 2 videos.
    videos = {f"o{i}": [(0, 10, "often")] for i in range(60)}
    videos |= {f"h{i}": [(0, 10, "half")] for i in range(20)} | {f"r{i}": [(0, 10, "rare")] for i in range(2)}
    truth = truth_of(**videos)
    found = found_in(truth, **{
        name: [(*row, 0.9) for row in rows] for name, rows in videos.items() if name[0] != "h" or int(name[1:]) % 2
    })  # fmt: skip
    got = assess(truth, found, threshold=0.5, replicates=200)
    assert got.unjudged == ("half", "rare")
    assert got.classes["often"].low == got.classes["often"].high == 1.0
    assert got.classes["half"].value == 0.5
    assert got.point.rates.precision.value == 1.0
    assert got.point.rates.recall.value == pytest.approx(72 / 82)
    assert got.curves["half"] == ([i / 20 for i in range(1, 11)], [1.0] * 10)
    assert not got.chosen_here
    assert assess(truth, found, replicates=20).chosen_here


def test_class_intervals_have_the_width_of_their_videos():
    videos = {f"v{i}": [(0, 10, "run")] for i in range(100)}
    truth = truth_of(**videos)
    half = found_in(truth, **{name: [(*rows[0], 0.9)] for name, rows in list(videos.items())[:50]})
    (one,) = class_intervals(match_detections(truth, half, [0.5]), replicates=1000).values()
    assert one.value == 0.5
    assert one.deviation == pytest.approx(0.05, abs=0.006)  # sqrt(0.25 / 100)
