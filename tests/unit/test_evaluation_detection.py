"""Detection mAP against a slow, literal reading of the official evaluator, and what it says about odd input."""

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lofi_tal.errors import DataError, LofiError
from lofi_tal.evaluation import evaluate_detections, read_video_ids
from tests.documents import draw_database, draw_results, tiou

LABELS = ("run", "jump", "wave")
THRESHOLDS = (0.3, 0.5, 0.75)


def reference_ap(truth, detections, threshold):
    """One class: activitynet/ActivityNet, Evaluation/eval_detection.py, one detection at a time."""
    instances = [(v, tuple(s)) for v, segments in truth.items() for s in segments]
    ranked = sorted(detections, key=lambda d: -d[2])
    taken, hits = set(), []
    for video, segment, _ in ranked:
        candidates = [(tiou(segment, s), i) for i, (v, s) in enumerate(instances) if v == video]
        hit = False
        for overlap, i in sorted(candidates, reverse=True):
            if overlap < threshold:
                break
            if i not in taken:
                taken.add(i)
                hit = True
                break
        hits.append(hit)
    precision, recall = [0.0], [0.0]
    for n in range(1, len(hits) + 1):
        precision.append(sum(hits[:n]) / n)
        recall.append(sum(hits[:n]) / len(instances))
    precision.append(0.0)
    recall.append(1.0)
    for i in reversed(range(len(precision) - 1)):
        precision[i] = max(precision[i], precision[i + 1])
    return sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)))


def reference_map(database, results, threshold):
    labels = {a["label"] for v in database.values() for a in v["annotations"]}
    aps = []
    for label in labels:
        truth = {n: [a["segment"] for a in v["annotations"] if a["label"] == label] for n, v in database.items()}
        found = [
            (n, d["segment"], d["score"]) for n, records in results.items() for d in records if d["label"] == label
        ]
        aps.append(reference_ap(truth, found, threshold))
    return sum(aps) / len(aps)


@st.composite
def cases(draw):
    database = draw_database(draw, LABELS)
    return database, draw_results(draw, database)


@given(case=cases())
@settings(max_examples=150, deadline=None)
def test_map_equals_the_literal_evaluator(case):
    database, results = case
    got = evaluate_detections({"database": database}, {"results": results}, tiou_thresholds=THRESHOLDS)
    expected = [reference_map(database, results, t) for t in THRESHOLDS]
    np.testing.assert_allclose(got.mAP, expected, atol=1e-12)
    assert got.average_mAP == pytest.approx(float(np.mean(expected)))


def truth(*segments, label="run"):
    return {
        "database": {
            "a": {
                "subset": "validation",
                "duration": 10,
                "annotations": [{"label": label, "segment": list(s)} for s in segments],
            },
            "b": {"subset": "validation", "duration": 10, "annotations": []},
            "c": {"subset": "training", "duration": 10, "annotations": [{"label": "jump", "segment": [0, 1]}]},
        }
    }


def found(*records, video="a"):
    return {"results": {video: [{"label": "run", "score": 0.5, "segment": [0, 4], **r} for r in records]}}


def test_a_second_best_instance_may_be_taken():
    # both detections overlap the first instance most; PASCAL VOC would call the second a duplicate
    result = evaluate_detections(truth([0, 4], [0, 5]), found({"score": 0.9}, {"score": 0.8}), tiou_thresholds=[0.5])
    assert result.average_mAP == 1.0


def test_a_tiou_equal_to_the_threshold_passes():
    result = evaluate_detections(truth([0, 4]), found({"segment": [0, 2]}), tiou_thresholds=[0.5, 0.51])
    assert result.mAP == (1.0, 0.0)


def test_thresholds_are_those_of_linspace_to_the_bit():
    # 9/10 as a quotient is above linspace's 0.8999999999999999
    assert evaluate_detections(truth([0, 10]), found({"segment": [0, 9]})).mAP[8] == 1.0


def test_duplicates_count_once_and_every_annotation_counts():
    twice = evaluate_detections(truth([0, 4]), found({"score": 0.9}, {"score": 0.8}), tiou_thresholds=[0.5])
    assert twice.average_mAP == 1.0
    doubled = evaluate_detections(truth([0, 4], [0, 4]), found({}), tiou_thresholds=[0.5])
    assert doubled.average_mAP == 0.5


def test_empty_and_reversed_instances_count_as_missed_and_never_match():
    result = evaluate_detections(truth([0, 4], [5, 5], [8, 7]), found({}, {"segment": [5, 5], "score": 0.4}))
    assert result.instances == 3
    assert result.mAP[0] == pytest.approx(1 / 3)


def test_videos_and_classes_that_do_not_fit_are_counted_and_named():
    document = truth([0, 4])
    detections = {
        "results": {
            "zz": [{"label": "run", "score": 0.9, "segment": [0, 4]}],
            "b": [{"label": "jump", "score": 0.8, "segment": [0, 4]}],
        }
    }
    result = evaluate_detections(document, detections)
    assert result.videos == 2
    assert result.missing_videos == ("a",)
    assert result.extra_videos == ("zz",)
    assert result.ignored_labels == {"jump": 1}
    assert result.detections == 1
    assert result.average_mAP == 0
    # a false positive in a video outside the subset costs precision, as in the official evaluator
    detections["results"]["a"] = [{"label": "run", "score": 0.5, "segment": [0, 4]}]
    assert evaluate_detections(document, detections).average_mAP == 0.5
    json.dumps(result.to_json(), allow_nan=False)


def test_excluded_videos_leave_both_sides():
    document, detections = truth([0, 4]), found({})
    document["database"]["b"]["annotations"] = [{"label": "run", "segment": [0, 4]}]
    detections["results"]["b"] = [{"label": "run", "score": 0.9, "segment": [5, 6]}]
    assert evaluate_detections(document, detections).average_mAP == 0.25
    for options in ({"exclude": ["b"]}, {"only": ["a"]}):
        result = evaluate_detections(document, detections, **options)
        assert (result.average_mAP, result.videos, result.excluded_videos) == (1.0, 1, ("b",))


def test_class_agnostic_evaluation_reads_no_labels():
    result = evaluate_detections(truth([0, 4]), found({"label": "anything"}), class_agnostic=True)
    assert result.average_mAP == 1.0
    assert list(result.per_class) == ["action"]


def test_a_class_without_detections_has_ap_zero():
    document = truth([0, 4])
    document["database"]["b"]["annotations"] = [{"label": "wave", "segment": [0, 4]}]
    result = evaluate_detections(document, found({}))
    assert result.per_class["wave"].average == 0
    assert result.average_mAP == 0.5


def test_equal_scores_do_not_depend_on_the_order_of_the_file():
    generator = random.Random(0)
    document = {
        "database": {
            v: {"subset": "validation", "annotations": [{"label": "run", "segment": [0, 4]}]} for v in "abcdef"
        }
    }
    records = [
        (v, {"label": "run", "score": 0.5, "segment": [0, generator.choice([4, 9])]}) for v in "abcdef" for _ in "123"
    ]
    values = set()
    for _ in range(5):
        generator.shuffle(records)
        results = {}
        for video, record in records:
            results.setdefault(video, []).append(record)
        values.add(evaluate_detections(document, {"results": results}).average_mAP)
    assert len(values) == 1
    assert 0 < evaluate_detections(document, {"results": results}, ties="official").average_mAP <= 1


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"score": float("nan")}, "score is not a finite number"),
        ({"score": "0.5"}, "expected"),
        ({"score": None}, "expected"),
        ({"segment": [4, 0]}, "ends before it starts"),
        ({"segment": [0, float("inf")]}, "two finite numbers"),
        ({"segment": [0]}, "expected"),
        ({"segment": "04"}, "expected"),
        ({"label": "rum"}, "Did you mean 'run'"),
        ({"label": 3}, "label 3"),
    ],
)
def test_invalid_detections_are_refused_with_place_and_reason(record, message, tmp_path):
    (tmp_path / "found.json").write_text(json.dumps(found({}, record)))
    with pytest.raises(DataError, match=message) as error:
        evaluate_detections(truth([0, 4]), tmp_path / "found.json")
    assert "found.json: results['a'], detection 1" in str(error.value)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "'results'"),
        ({"results": []}, "'results'"),
        ({"results": {"a": None}}, "NoneType; expected a list"),
        ({"results": {"a": {"label": "run"}}}, "dict; expected a list"),
        ({"results": {"a": [3]}}, "detection 0 is 3"),
        ({"results": {"a": [{"label": "run", "score": 1}]}}, "has no 'segment'"),
    ],
)
def test_malformed_documents_are_refused(document, message):
    with pytest.raises(DataError, match=message):
        evaluate_detections(truth([0, 4]), document)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "'database'"),
        ({"database": {"a": 3}}, r"database\['a'\] is int"),
        (truth([0, float("nan")]), "annotation 0"),
        (truth([0]), "annotation 0"),
        (truth(), "no instance in subset 'validation'"),
    ],
)
def test_malformed_truth_is_refused(document, message):
    with pytest.raises(DataError, match=message):
        evaluate_detections(document, found({}))


def test_a_misspelt_subset_is_explained():
    with pytest.raises(DataError, match="Did you mean 'validation'"):
        evaluate_detections(truth([0, 4]), found({}), subset="validaton")


@pytest.mark.parametrize("options", [{"tiou_thresholds": []}, {"tiou_thresholds": [0]}, {"ties": "random"}])
def test_impossible_options_are_errors(options):
    with pytest.raises(LofiError, match=next(iter(options))):
        evaluate_detections(truth([0, 4]), found({}), **options)


def test_lists_of_videos_come_in_any_form(tmp_path):
    names = frozenset({"abcdefghijk", "v_x"})
    forms = {
        "list.json": json.dumps(["v_abcdefghijk", "v_x"]),
        "keys.json": json.dumps({"v_abcdefghijk": 1, "v_x": 2}),
        "annotations.json": json.dumps({"database": {"abcdefghijk": {}, "v_x": {}}}),
        "list.txt": "abcdefghijk\n\nv_x\n",
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        assert read_video_ids(tmp_path / name) == names
    for name, text in {"number.json": "3", "empty.txt": "\n"}.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError):
            read_video_ids(tmp_path / name)


def test_a_folder_is_told_from_a_file(tmp_path):
    with pytest.raises(DataError, match="is a folder: give a JSON file"):
        evaluate_detections(tmp_path, {"results": {}})
    with pytest.raises(DataError, match="is a folder: give a JSON file"):
        evaluate_detections(truth((0, 1)), tmp_path)
