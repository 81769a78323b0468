"""Comparisons: against figures worked out by hand, against independent draws, and mirrored."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lofi_tal.errors import LofiError
from lofi_tal.evaluation import Thresholds, ground_truth_of
from lofi_tal.evaluation.arrays import as_one_class, detections_of, restricted
from lofi_tal.evaluation.bootstrap import replicated_map
from lofi_tal.evaluation.changes import FOUND
from lofi_tal.evaluation.comparison import Candidate, compare
from lofi_tal.evaluation.ways import match_ways, with_true_classes
from lofi_tal.runtime.differences import differing
from lofi_tal.segments import Segments


def segments(name, rows) -> Segments:
    rows = [(*row, 1.0)[:4] for row in rows]
    start, end, label, score = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Segments(name, start, end, label, score, duration=100.0)


def system(name, threshold=0.5, **videos) -> Candidate:
    return Candidate(name, [segments(*one) for one in videos.items()], Thresholds(threshold))


TRUTH = ground_truth_of(
    [
        segments("a", [(0, 10, "run"), (20, 30, "jump")]),
        segments("b", [(0, 10, "run")]),
        segments("c", [(50, 60, "jump")]),
        segments("d", []),
    ],
    "validation",
)
FIRST = system("first", a=[(0, 10, "run", 0.9), (20, 24, "jump", 0.8)], b=[(0, 10, "jump", 0.9)], c=[], d=[])
SECOND = system(
    "second",
    a=[(0, 4, "run", 0.9), (20, 30, "jump", 0.8)],
    b=[(0, 10, "run", 0.9)],
    c=[(50, 60, "jump", 0.4)],  # right, but below the threshold: nobody sees it
    d=[(0, 10, "run", 0.7)],
)


def test_differences_are_those_worked_out_by_hand():
    got = compare(TRUTH, [FIRST, SECOND], [0.5], replicates=50)
    (part,) = got.differences
    # run: one of two instances with the first detection (AP 1/2), then one of two behind a false positive (1/2 * 1/2);
    # jump: nothing, then both by the first two detections (1). The equal scores of b and a: by video.
    first, second = (one.scores["fused"] for one in got.systems)
    assert {label: one.average for label, one in first.per_class.items()} == {"run": 0.5, "jump": 0.0}
    assert {label: one.average for label, one in second.per_class.items()} == {"run": 0.25, "jump": 1.0}
    assert part.ways["fused"].average_mAP.value == pytest.approx(0.375)
    assert {label: one.value for label, one in part.classes.items()} == {"run": -0.25, "jump": 1.0}
    # shown: 3 with 1 right, and 4 with 2 right, of 4 instances
    assert part.rates["precision"].value == pytest.approx(2 / 4 - 1 / 3)
    assert part.rates["recall"].value == pytest.approx(2 / 4 - 1 / 4)
    assert part.rates["F1"].value == pytest.approx(4 / 8 - 2 / 7)
    assert {kind: one.value for kind, one in part.errors.items()} == {
        "wrong label": -1, "boundaries": 0, "missed": 0, "false alarm": 1, "double": 0,
    }  # fmt: skip


def test_fixed_and_broken_name_the_actions_and_what_became_of_them():
    (part,) = compare(TRUTH, [FIRST, SECOND], [0.5], replicates=10).differences
    assert (part.fixed, part.broken) == (2, 1)
    assert [(one.video_id, one.size, one.false_alarms) for one in part.videos] == [
        ("a", 2, (0, 0)), ("b", 1, (0, 0)), ("d", 0, (0, 1)),
    ]  # fmt: skip
    fixed, broken = part.videos[0].fixed[0], part.videos[0].broken[0]
    assert (fixed.label, fixed.start, fixed.before, fixed.after) == ("jump", 20, "boundaries", FOUND)
    assert (broken.label, broken.start, broken.before, broken.after) == ("run", 0, FOUND, "boundaries")
    assert part.videos[1].fixed[0].before == "wrong label"


def test_what_counts_as_found_follows_the_overlap_that_is_asked_for():
    half = system("half", a=[(0, 6, "run", 0.9)], b=[], c=[])
    nothing = system("nothing", a=[], b=[], c=[])
    assert compare(TRUTH, [nothing, half], [0.5], tiou=0.6, replicates=2).differences[0].fixed == 1
    assert compare(TRUTH, [nothing, half], [0.5], tiou=0.7, replicates=2).differences[0].fixed == 0


def test_a_system_compared_with_itself_differs_in_nothing():
    (part,) = compare(TRUTH, [FIRST, FIRST], replicates=50).differences
    assert (part.fixed, part.broken, part.videos) == (0, 0, ())
    for one in (*part.classes.values(), *part.rates.values(), *part.errors.values(),
                *(way.average_mAP for way in part.ways.values())):  # fmt: skip
        assert (one.value, one.low, one.high, one.deviation) == (0, 0, 0, 0)


def draw(seed, noise, videos=60):
    """Return a truth, and detections near it: the better, the less noise."""
    generator, truth, found = np.random.default_rng(0), [], []
    for number in range(videos):
        begin, label = 10 + 60 * generator.random(), ("run", "jump")[number % 2]
        hard = generator.random() * 3  # the same for both systems
        shift = np.random.default_rng((seed, number)).normal(size=2) * noise * hard
        truth.append(segments(f"v{number}", [(begin, begin + 20, label)]))
        low, high = sorted((begin + shift[0], begin + 20 + shift[1]))
        found.append(segments(f"v{number}", [(low, high, label, 1 / (1 + hard)), (0, 5, label, 0.3)]))
    return ground_truth_of(truth, "validation"), found


def test_exchanging_two_systems_changes_the_sign_of_everything():
    truth, better = draw(1, 2.0)
    _, worse = draw(2, 5.0)
    ours, theirs = Candidate("better", better, Thresholds(0.4)), Candidate("worse", worse, Thresholds(0.4))
    (there,) = compare(truth, [theirs, ours], replicates=200).differences
    (back,) = compare(truth, [ours, theirs], replicates=200).differences
    assert (there.fixed, there.broken) == (back.broken, back.fixed)
    assert there.fixed > there.broken
    for name in ("classes", "rates", "errors"):
        for key, one in getattr(there, name).items():
            other = getattr(back, name)[key]
            assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low), abs=1e-12)
    for way, one in there.ways.items():
        interval, other = one.average_mAP, back.ways[way].average_mAP
        assert (interval.value, interval.low) == pytest.approx((-other.value, -other.high), abs=1e-12)
        assert one.positive > 0.5 > back.ways[way].positive
    assert [one.video_id for one in there.videos] == [one.video_id for one in back.videos]


def test_a_paired_interval_is_narrower_than_that_of_independent_draws():
    truth, better = draw(1, 3.0)
    worse = [Segments(one.video_id, one.start + 0.5, one.end + 0.5, one.label, one.score, 100.0) for one in better]
    got = compare(truth, [Candidate("worse", worse), Candidate("better", better)], replicates=400)
    paired = got.differences[0].ways["fused"].average_mAP.deviation
    apart = [
        replicated_map(match_ways(truth, found)["fused"], 400, seed).mean(axis=1)
        for seed, found in enumerate((better, worse))
    ]
    assert paired < 0.6 * float((apart[0] - apart[1]).std(ddof=1))


def test_several_systems_are_each_compared_with_the_first():
    got = compare(TRUTH, [FIRST, SECOND, FIRST], replicates=10)
    assert [(one.first, one.second) for one in got.differences] == [("first", "second"), ("first", "first")]
    assert got.differences[1].fixed == 0
    json.dumps(got.to_json(), allow_nan=False)


def test_the_true_classes_are_those_of_the_video_and_each_segment_counts_once():
    found = [
        Segments("a", [0, 0, 40], [10, 10, 50], ("run", "jump", "run"), [0.2, 0.1, 0.3], 100, [0.6, 0.6, 0.5]),
        Segments("d", [0], [10], ("jump",), [0.9], 100, [0.4]),
    ]
    once = detections_of(found, as_one_class(TRUTH))
    got = with_true_classes(TRUTH, once)
    rows = [
        (got.videos[video], TRUTH.labels[label], *segment, score)
        for video, label, segment, score in zip(got.video_id, got.label, got.segment.tolist(), got.score, strict=True)
    ]
    assert rows == [
        ("a", "run", 0, 10, 0.6), ("a", "jump", 0, 10, 0.6),
        ("a", "run", 40, 50, 0.5), ("a", "jump", 40, 50, 0.5),
        ("d", "run", 0, 10, 0.4),
    ]  # fmt: skip


def test_only_common_videos_and_classes_are_kept():
    part = restricted(TRUTH, {"a", "c", "other"}, {"jump"})
    assert (part.videos, part.labels) == (("a", "c"), ("jump",))
    assert part.video.tolist() == [0, 1]
    assert part.segment.tolist() == [[20, 30], [50, 60]]
    assert part.duration.tolist() == [100, 100]


@pytest.mark.parametrize("options", [{"tiou": 0.0}, {"replicates": 1}, {"confidence": 1.0}])
def test_impossible_options_are_errors(options):
    with pytest.raises(LofiError, match=next(iter(options))):
        compare(TRUTH, [FIRST, SECOND], **options)
    with pytest.raises(LofiError, match="two or more"):
        compare(TRUTH, [FIRST])


def test_settings_that_differ_are_found_in_sections_that_are_off_too():
    one = {"seed": 0, "lofi": {"lr": 0.1, "epochs": 3}, "second": None, "options": {}}
    other = {"seed": 0, "lofi": {"lr": 0.2, "epochs": 3}, "second": {"lr": 1}, "options": {"width": 8}}
    assert differing([one, other]) == {
        "lofi.lr": (0.1, 0.2), "second.lr": (None, 1), "options.width": (None, 8),
    }  # fmt: skip
    assert differing([one, one]) == {}
    assert differing([one, {}]) == {}, "what is not known differs from nothing"
