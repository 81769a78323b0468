"""Ambiguous parts against a plain, one-by-one reading of the THUMOS14 challenge's rule.

The rule, as ``TH14eventdetpr.m`` of the challenge's evaluation kit (https://www.crcv.ucf.edu/THUMOS14/download.html)
has it: for each class, video and threshold, detections that match no instance and share any time with an ambiguous part
of the video are taken off the false positives. Matching and average precision are those of ActivityNet's evaluator.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lofi_tal.errors import DataError
from lofi_tal.evaluation import bootstrap_detections, diagnose_detections, evaluate_detections
from tests.documents import SPANS, draw_database, draw_results, tiou

LABELS = ("run", "jump")
THRESHOLDS = (0.3, 0.5, 0.75)


def shared(a, b):
    return max(0, min(a[1], b[1]) - max(a[0], b[0]))


def judge(database, results, label, threshold):
    """Return (video, record, whether it matches, whether it counts) of a class's detections, the best score first."""
    ranked = [(v, r) for v, records in results.items() for r in records if r["label"] == label]
    ranked.sort(key=lambda one: -one[1]["score"])
    taken, verdicts = set(), []
    for video, record in ranked:
        entry = database.get(video, {"annotations": [], "ignored": []})
        instances = [(v, i) for v, i in enumerate(entry["annotations"]) if i["label"] == label]
        good = [
            (tiou(record["segment"], i["segment"]), place)
            for place, i in instances
            if tiou(record["segment"], i["segment"]) >= threshold and (video, place) not in taken
        ]
        if good:
            taken.add((video, max(good)[1]))
        unsure = any(shared(record["segment"], part["segment"]) > 0 for part in entry.get("ignored", []))
        verdicts.append((video, record, bool(good), bool(good) or not unsure))
    return verdicts


def precision_area(hits, instances):
    points = [(sum(hits[: n + 1]) / instances, sum(hits[: n + 1]) / (n + 1)) for n in range(len(hits))]
    area, before = 0.0, 0.0
    for recall, _ in points:
        area += (recall - before) * max((p for r, p in points if r >= recall), default=0.0)
        before = recall
    return area


def reference(database, results, threshold):
    """Return mAP and the number of detections that do not count."""
    areas, removed = [], 0
    for label in {i["label"] for entry in database.values() for i in entry["annotations"]}:
        instances = sum(i["label"] == label for entry in database.values() for i in entry["annotations"])
        verdicts = judge(database, results, label, threshold)
        areas.append(precision_area([hit for _, _, hit, counts in verdicts if counts], instances))
        removed += sum(not counts for _, _, _, counts in verdicts)
    return sum(areas) / len(areas), removed


@st.composite
def cases(draw):
    """Detections overlap an instance, an ambiguous part, both, or only touch."""
    part = st.fixed_dictionaries({"segment": SPANS})
    database = draw_database(draw, LABELS, duration=st.just(8), ignored=st.lists(part, max_size=3))
    database["a"]["ignored"].append({"segment": [3, 5]})
    return database, draw_results(draw, database)


@given(case=cases())
@settings(max_examples=150, deadline=None)
def test_map_equals_the_rule_read_literally(case):
    database, results = case
    truth, found = {"database": database}, {"results": results}
    got = evaluate_detections(truth, found, tiou_thresholds=THRESHOLDS, ignore_ambiguous=True)
    expected = [reference(database, results, threshold) for threshold in THRESHOLDS]
    np.testing.assert_allclose(got.mAP, [area for area, _ in expected], atol=1e-12)
    assert got.ambiguous_detections == tuple(removed for _, removed in expected)
    assert got.ambiguous_parts == sum(len(entry["ignored"]) for entry in database.values())
    plain = {v: {**entry, "ignored": []} for v, entry in database.items()}
    blind = evaluate_detections(truth, found, tiou_thresholds=THRESHOLDS)
    np.testing.assert_allclose(blind.mAP, [reference(plain, results, t)[0] for t in THRESHOLDS], atol=1e-12)


@given(case=cases(), threshold=st.sampled_from(THRESHOLDS))
@settings(max_examples=50, deadline=None)
def test_all_figures_are_those_of_a_file_without_the_removed_detections(case, threshold):
    database, results = case
    labels = {i["label"] for entry in database.values() for i in entry["annotations"]}
    verdicts = [one for label in sorted(labels) for one in judge(database, results, label, threshold)]
    kept = {v: [r for video, r, _, counts in verdicts if counts and video == v] for v in results}
    every = {"tiou_thresholds": [threshold], "multiples": 50}
    full = diagnose_detections({"database": database}, {"results": results}, ignore_ambiguous=True, **every)
    less = diagnose_detections({"database": database}, {"results": kept}, **every)
    assert full.gain == pytest.approx(less.gain)
    assert full.average_mAP_N == pytest.approx(less.average_mAP_N)
    assert full.sensitivity == less.sensitivity
    assert full.missed == less.missed
    assert full.profile[0][-1] == pytest.approx(less.profile[0][-1])
    draws = {"tiou_thresholds": [threshold], "replicates": 20}
    full = bootstrap_detections({"database": database}, {"results": results}, ignore_ambiguous=True, **draws)
    less = bootstrap_detections({"database": database}, {"results": kept}, **draws)
    assert full.to_json()["average_mAP"] == pytest.approx(less.to_json()["average_mAP"])


def truth(*ignored, **more):
    entry = {"subset": "validation", "annotations": [{"label": "run", "segment": [10, 20]}], "ignored": list(ignored)}
    return {"database": {"a": {**entry, **more}, "b": {**entry, "ignored": []}}}


def found(*segments, video="a"):
    rows = [{"label": "run", "score": 1 - i / 100, "segment": list(span)} for i, span in enumerate(segments)]
    return {"results": {video: rows}}


@pytest.mark.parametrize(
    ("segments", "removed", "area"),
    [
        ([(18, 40), (10, 20)], 1, 1.0),  # overlaps the instance too little and the part: removed
        ([(10, 24), (10, 20)], 1, 1.0),  # overlaps both and is the match: it stays, and its double is removed
        ([(25, 30), (10, 20)], 1, 1.0),
        ([(30.5, 40), (10, 20)], 0, 0.5),  # beside the part: a false positive
        ([(30, 40), (10, 20)], 0, 0.5),  # touches it only
        ([(26, 26), (10, 20)], 0, 0.5),  # has no length, so shares no time
    ],
)
def test_what_is_removed(segments, removed, area):
    document = truth({"segment": [19, 30]})
    del document["database"]["b"]
    result = evaluate_detections(document, found(*segments), tiou_thresholds=[0.5], ignore_ambiguous=True)
    assert result.ambiguous_detections == (removed,)
    assert result.average_mAP == area
    assert result.detections == len(segments)


def test_parts_concern_their_own_video_and_every_class():
    document, wrong = truth({"segment": ["19", 30]}), found((20, 30), video="b")
    assert evaluate_detections(document, wrong, ignore_ambiguous=True).ambiguous_detections == (0,) * 10
    jump = {"label": "jump", "segment": [50, 60]}
    document["database"]["a"]["annotations"].append(jump)
    records = [{"label": label, "score": 0.9, "segment": [21, 30]} for label in ("run", "jump")]
    result = evaluate_detections(document, {"results": {"a": records}}, ignore_ambiguous=True)
    assert result.ambiguous_detections == (2,) * 10
    assert result.average_mAP == 0.0


def test_without_parts_or_with_odd_ones_the_wish_is_refused_and_otherwise_they_are_not_read():
    with pytest.raises(DataError, match=r"none of the 2 evaluated videos of subset 'validation' has an ambiguous part"):
        evaluate_detections(truth(), found(), ignore_ambiguous=True)
    with pytest.raises(DataError, match=r"none of the 1 evaluated videos"):
        evaluate_detections(truth({"segment": [1, 2]}), found(), exclude=["a"], ignore_ambiguous=True)
    for odd, said in (({"label": "x"}, "ignored part 0 is"), ({"segment": [1, float("nan")]}, "ignored part 0 is")):
        with pytest.raises(DataError, match=rf"database\['a'\], {said}"):
            evaluate_detections(truth(odd), found(), ignore_ambiguous=True)
        assert evaluate_detections(truth(odd), found()).ambiguous_parts is None
    with pytest.raises(DataError, match=r"database\['a'\], ignored is dict, not a list"):
        evaluate_detections(truth(ignored={}), found(), ignore_ambiguous=True)
