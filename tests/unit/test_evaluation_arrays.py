"""Evaluation from segments gives what evaluation from documents gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lofi_tal.evaluation import (
    as_one_class,
    detections_of,
    evaluate_detections,
    evaluate_proposals,
    ground_truth_of,
    score_detections,
    score_proposals,
)
from lofi_tal.segments import Segments, detections_to_activitynet


def some(random, video_id, most, labels):
    count = int(random.integers(0, most + 1))
    start = random.random(count) * 10
    label = tuple(labels[i] for i in random.integers(0, len(labels), count))
    return Segments(video_id, start, start + 0.1 + random.random(count) * 3, label, random.random(count), 14.0)


def document_of(truth, unknown):
    rows = {
        segments.video_id: {
            "subset": "validation",
            "duration": segments.duration,
            "annotations": [{"segment": [s.start, s.end], "label": s.label} for s in segments],
        }
        for segments in truth
    }
    other = {"subset": "training", "duration": 9.0, "annotations": [{"segment": [0.0, 1.0], "label": unknown}]}
    return {"database": {**rows, "elsewhere": other}}


@given(st.integers(0, 10_000))
def test_segments_and_documents_give_the_same(seed):
    random = np.random.default_rng(seed)
    names = [f"v{number}" for number in range(5)]
    truth = [some(random, name, 4, ("a", "b")) for name in names]
    truth.append(Segments("sure", [1.0], [2.0], ("a",), [1.0], 5.0))
    found = [some(random, name, 9, ("a", "b", "z")) for name in [*names[1:], "extra"]]
    document, results = document_of(truth, "z"), detections_to_activitynet(found)
    ours = ground_truth_of(truth, "validation")
    expected = evaluate_detections(document, results)
    result = score_detections(ours, detections_of(found, ours))
    assert result.to_json() | {"ignored_labels": {}} == expected.to_json() | {"ignored_labels": {}}
    one = as_one_class(ours)
    expected = evaluate_detections(document, results, class_agnostic=True)
    assert score_detections(one, detections_of(found, one)) == expected
    recall = score_proposals(one, detections_of(found, one))
    assert recall == evaluate_proposals(document, results)


def test_nothing_found_is_no_precision():
    truth = ground_truth_of([Segments("v", [1.0], [2.0], ("a",), [1.0])], "validation")
    assert score_detections(truth, detections_of([], truth)).average_mAP == pytest.approx(0.0)
