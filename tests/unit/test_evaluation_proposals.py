"""AR@AN and AUC against a literal reading of the official evaluator."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lofi_tal.errors import DataError, LofiError
from lofi_tal.evaluation import evaluate_proposals


def tiou(a, b):
    inter = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - inter
    return inter / union if union > 0 else 0.0


def reference_curve(database, results, thresholds):
    """activitynet/ActivityNet, Evaluation/eval_proposal.py, video by video."""
    videos = [v for v, entry in database.items() if entry["annotations"]]
    ratio = 100 * len(videos) / sum(map(len, results.values()))
    kept = {}
    for video in videos:
        ranked = sorted(results.get(video, []), key=lambda r: -r["score"])
        kept[video] = ranked[: min(int(len(ranked) * ratio), len(ranked))]
    total = sum(map(len, kept.values()))
    shares = np.arange(1, 101) / 100.0 * (100 * float(len(videos)) / total)
    curve = []
    for share in shares:
        recalls = []
        for threshold in thresholds:
            matched = instances = 0
            for video in videos:
                best = kept[video][: min(int(len(kept[video]) * share), len(kept[video]))]
                for a in database[video]["annotations"]:
                    instances += 1
                    matched += any(tiou(r["segment"], a["segment"]) >= threshold for r in best)
            recalls.append(matched / instances)
        curve.append(np.mean(recalls))
    number = shares * (total / len(videos))
    return np.array(curve), np.trapezoid(curve, number) / number[-1]


@st.composite
def cases(draw):
    segment = st.tuples(st.integers(0, 8), st.integers(1, 8)).map(lambda p: [p[0], p[0] + p[1]])
    database = {
        v: {
            "subset": "validation",
            "annotations": [{"label": "x", "segment": s} for s in draw(st.lists(segment, max_size=3))],
        }
        for v in "abc"
    }
    database["a"]["annotations"].append({"label": "x", "segment": [0, 4]})
    results = {v: draw(st.lists(segment, max_size=30)) for v in "abz"}
    results["a"].append([0, 4])
    count = sum(map(len, results.values()))
    scores = iter(draw(st.permutations(range(count))))
    return database, {v: [{"segment": s, "score": next(scores)} for s in records] for v, records in results.items()}


@given(case=cases())
@settings(max_examples=40, deadline=None)
def test_curve_equals_the_literal_evaluator(case):
    database, results = case
    got = evaluate_proposals({"database": database}, {"results": results}, tiou_thresholds=[0.5, 0.8])
    curve, area = reference_curve(database, results, [0.5, 0.8])
    np.testing.assert_allclose(got.average_recall, curve, atol=1e-12)
    assert got.auc == pytest.approx(area)


def test_more_than_a_hundred_a_video_are_cut_by_the_same_share():
    database = {v: {"subset": "validation", "annotations": [{"label": "x", "segment": [0, 4]}]} for v in "ab"}
    generator = np.random.default_rng(0)

    def records(count):
        starts = generator.random(count) * 4
        return [
            {"segment": [s, s + 4], "score": p}
            for s, p in zip(starts.tolist(), generator.random(count).tolist(), strict=True)
        ]

    results = {"a": records(300), "b": records(120)}
    got = evaluate_proposals({"database": database}, {"results": results})
    curve, area = reference_curve(database, results, np.linspace(0.5, 0.95, 10))
    np.testing.assert_allclose(got.average_recall, curve, atol=1e-12)
    assert got.auc == pytest.approx(area)
    assert got.at(100) == got.average_recall[-1]


def test_labels_are_not_needed_and_missing_videos_cost_recall():
    database = {v: {"subset": "validation", "annotations": [{"label": "x", "segment": [0, 4]}]} for v in "ab"}
    result = evaluate_proposals({"database": database}, {"results": {"a": [{"segment": [0, 4], "score": 1}]}})
    assert result.at(100) == 0.5
    assert result.missing_videos == ("b",)
    assert result.to_json()["AR@100"] == 0.5
    json.dumps(result.to_json(), allow_nan=False)
    with pytest.raises(LofiError, match="AR@101"):
        result.at(101)


def test_no_proposals_at_all_give_zero():
    database = {"a": {"subset": "validation", "annotations": [{"label": "x", "segment": [0, 4]}]}}
    assert evaluate_proposals({"database": database}, {"results": {}}).auc == 0
    with pytest.raises(DataError, match="has no 'score'"):
        evaluate_proposals({"database": database}, {"results": {"a": [{"segment": [0, 1]}]}})
