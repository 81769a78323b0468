"""Diagnosis: error kinds on cases made by hand, normalised precision, bins."""

import json

import numpy as np
import pytest

from lofi_tal.errors import LofiError
from lofi_tal.evaluation import diagnose_detections, evaluate_detections


def document(*videos):
    """Videos as lists of (label, start, end); each 100 s long."""
    return {
        "database": {
            f"v{i}": {
                "subset": "validation",
                "duration": 100,
                "annotations": [{"label": label, "segment": [s, e]} for label, s, e in annotations],
            }
            for i, annotations in enumerate(videos)
        }
    }


def results(*videos):
    """Detections as lists of (label, start, end, score)."""
    return {
        "results": {
            f"v{i}": [{"label": label, "segment": [s, e], "score": p} for label, s, e, p in records]
            for i, records in enumerate(videos)
        }
    }


def test_every_kind_of_false_positive_is_told_apart():
    truth = document([("run", 0, 10), ("run", 30, 40), ("run", 50, 60), ("jump", 70, 80)])
    found = results(
        [
            ("run", 0, 10, 0.9),  # true positive
            ("run", 0, 9, 0.8),  # double detection
            ("run", 70, 80, 0.7),  # wrong label
            ("run", 35, 50, 0.6),  # localisation: tIoU 0.25
            ("run", 75, 90, 0.5),  # confusion: overlaps the jump by 0.25
            ("run", 90, 95, 0.4),  # background
        ]
    )
    result = diagnose_detections(truth, found, tiou_thresholds=[0.5])
    (rows,) = result.profile
    assert rows[1] == pytest.approx(dict.fromkeys(rows[1], 1 / 6))  # six detections: 2 · G of "run"
    assert rows[0]["true positive"] == pytest.approx(1 / 3)
    assert rows[0]["localisation"] == 0
    assert result.missed == (pytest.approx(0.75),)


def test_removing_what_stands_before_a_hit_gains_map():
    truth = document([("run", 0, 10), ("jump", 30, 40)])
    found = results([("run", 80, 90, 0.9), ("run", 0, 10, 0.8), ("jump", 30, 40, 0.7)])
    result = diagnose_detections(truth, found, tiou_thresholds=[0.5])
    assert result.average_mAP == pytest.approx(0.75)
    assert result.gain["background"] == pytest.approx(0.25)
    assert result.gain["confusion"] == 0


def test_normalised_map_equals_map_where_all_classes_are_of_one_size():
    generator = np.random.default_rng(0)
    videos, records = [], []
    for _ in range(12):
        s = generator.random() * 50
        videos.append([("run", s, s + 20), ("jump", s + 5, s + 30)])
        records.append(
            [
                (label, s + generator.normal() * 4, s + 25 + generator.normal() * 4, generator.random())
                for label in ("run", "jump")
                for _ in range(3)
            ]
        )
    result = diagnose_detections(document(*videos), results(*records))
    assert result.average_mAP_N == pytest.approx(result.average_mAP)
    assert result.average_mAP == evaluate_detections(document(*videos), results(*records)).average_mAP


def test_bins_hold_each_instance_once_and_judge_it_alone():
    truth = document([("run", 0, 10), ("run", 20, 95)], [("run", 0, 50)])
    found = results([("run", 0, 10, 0.9)], [("run", 0, 50, 0.8)])
    result = diagnose_detections(truth, found, tiou_thresholds=[0.5])
    coverage = {b.name: b for b in result.sensitivity["coverage"]}
    assert [b.instances for b in coverage.values()] == [1, 0, 1, 1, 0]
    assert coverage["XS"].average_mAP_N == 1
    assert coverage["M"].average_mAP_N == 1
    assert coverage["L"].missed == (1.0,)
    lengths = {b.name: b.instances for b in result.sensitivity["length"]}
    assert lengths == {"XS": 1, "S": 1, "M": 1, "L": 0, "XL": 0}
    counts = {b.name: b.instances for b in result.sensitivity["instances"]}
    assert counts == {"XS": 1, "S": 2, "M": 0, "L": 0}
    json.dumps(result.to_json(), allow_nan=False)


def test_unknown_durations_leave_coverage_empty_and_no_detections_are_survived():
    truth = document([("run", 0, 10)])
    del truth["database"]["v0"]["duration"]
    result = diagnose_detections(truth, {"results": {}})
    assert sum(b.instances for b in result.sensitivity["coverage"]) == 0
    assert result.average_mAP == 0
    assert set(result.missed) == {1.0}


@pytest.mark.parametrize("options", [{"tiou_thresholds": [0.1]}, {"multiples": 0}])
def test_impossible_options_are_errors(options):
    with pytest.raises(LofiError, match=next(iter(options))):
        diagnose_detections(document([("run", 0, 10)]), results([]), **options)
