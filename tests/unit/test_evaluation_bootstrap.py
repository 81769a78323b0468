"""Bootstrap: weights against documents in which videos really are repeated."""

import json

import numpy as np
import pytest

from lofi_tal.errors import LofiError
from lofi_tal.evaluation import bootstrap_detections, evaluate_detections
from lofi_tal.evaluation.bootstrap import few_videos_warning, weighted_map
from lofi_tal.evaluation.detection import match_detections
from lofi_tal.evaluation.documents import load_detections, load_ground_truth


def make_case(seed, videos=14, noise=3.0):
    generator = np.random.default_rng(seed)
    database, results = {}, {}
    for i in range(videos):
        annotations, records = [], []
        for label in generator.choice(["run", "jump", "wave"], size=generator.integers(0, 3)):
            s = generator.random() * 60
            annotations.append({"label": str(label), "segment": [s, s + 20]})
            for _ in range(3):
                a, b = np.sort([s, s + 20] + generator.normal(size=2) * noise)
                records.append({"label": str(label), "segment": [a, b], "score": float(generator.random())})
        database[f"v{i}"] = {"subset": "validation", "duration": 100, "annotations": annotations}
        results[f"v{i}"] = records
    return {"database": database}, {"results": results}


@pytest.mark.parametrize("seed", range(4))
def test_weighing_videos_equals_repeating_them(seed):
    truth, found = make_case(seed)
    loaded = load_ground_truth(truth, "validation")
    matched = match_detections(loaded, load_detections(found, loaded), [0.5, 0.8])
    weights = np.random.default_rng(seed).multinomial(14, np.full(14, 1 / 14), size=5)
    for row, got in zip(weights, weighted_map(matched, weights), strict=True):
        repeated = {"database": {}}, {"results": {}}
        for i, times in enumerate(row):
            for copy in range(times):
                repeated[0]["database"][f"v{i}.{copy}"] = truth["database"][f"v{i}"]
                repeated[1]["results"][f"v{i}.{copy}"] = found["results"][f"v{i}"]
        # classes that only other videos hold are no longer evaluated
        labels = {a["label"] for v in repeated[0]["database"].values() for a in v["annotations"]}
        for video, records in repeated[1]["results"].items():
            repeated[1]["results"][video] = [r for r in records if r["label"] in labels]
        expected = evaluate_detections(*repeated, tiou_thresholds=[0.5, 0.8])
        np.testing.assert_allclose(got, expected.mAP, atol=1e-12)


def test_interval_holds_the_figure_and_depends_on_the_seed_alone():
    truth, found = make_case(0, videos=60)
    first, second = (bootstrap_detections(truth, found, replicates=200, seed=5) for _ in range(2))
    assert first == second
    interval = first.average_mAP
    assert interval.value == evaluate_detections(truth, found).average_mAP
    assert interval.low < interval.value < interval.high
    assert interval.deviation > 0
    narrow = bootstrap_detections(truth, found, replicates=200, seed=5, confidence=0.5).average_mAP
    assert narrow.high - narrow.low < interval.high - interval.low
    json.dumps(first.to_json(), allow_nan=False)


def test_comparing_a_system_with_itself_gives_nothing_and_with_a_worse_one_a_gain():
    truth, found = make_case(0, videos=60)
    _, worse = make_case(0, videos=60, noise=9.0)
    same = bootstrap_detections(truth, found, baseline=found, replicates=50)
    assert (same.average_mAP.low, same.average_mAP.high, same.positive) == (0, 0, 0)
    better = bootstrap_detections(truth, found, baseline=worse, replicates=100)
    assert better.average_mAP.low > 0
    assert better.positive == 1


@pytest.mark.parametrize("options", [{"replicates": 1}, {"confidence": 1.0}])
def test_impossible_options_are_errors(options):
    truth, found = make_case(0)
    with pytest.raises(LofiError, match=next(iter(options))):
        bootstrap_detections(truth, found, **options)


def test_no_interval_of_map_goes_below_zero_but_that_of_a_difference_may():
    """One of three videos has the only detection: draws that are shifted to the figure reach below 0."""
    database = {
        f"v{i}": {"subset": "validation", "annotations": [{"label": label, "segment": [0, 10]}]}
        for i, label in enumerate(["run", "run", "jump"])
    }
    found = {"results": {"v0": [{"label": "run", "segment": [0, 10], "score": 1.0}]}}
    result = bootstrap_detections({"database": database}, found, replicates=200)
    assert [one.low for one in (*result.mAP, result.average_mAP)] == [0.0] * 11
    assert bootstrap_detections({"database": database}, found, baseline=found, replicates=200).average_mAP.low == 0
    worse = bootstrap_detections({"database": database}, {"results": {}}, baseline=found, replicates=200)
    assert worse.average_mAP.low < -0.5


def test_no_interval_of_map_goes_above_one():
    """The figure is 0.9, and the mean of draws, of which some lack the video with all that is found, is less."""
    rows = [{"label": "run", "segment": [20 * i, 20 * i + 10]} for i in range(9)]
    database = {"v0": {"subset": "validation", "annotations": rows}}
    database["v1"] = {"subset": "validation", "annotations": rows[:1]}
    found = {"results": {"v0": [{**one, "score": 0.9} for one in rows]}}
    result = bootstrap_detections({"database": database}, found, replicates=200)
    assert result.average_mAP.value == pytest.approx(0.9)
    assert [one.high for one in (*result.mAP, result.average_mAP)] == [1.0] * 11


def test_intervals_over_few_videos_say_that_they_are_not_to_be_trusted():
    few, enough = (bootstrap_detections(*make_case(0, videos=videos), replicates=10) for videos in (9, 10))
    assert "over 9 videos, and with fewer than 10" in few.to_json()["warning"]
    assert enough.warning is enough.to_json()["warning"] is None
    assert "over 1 video," in few_videos_warning(1)
