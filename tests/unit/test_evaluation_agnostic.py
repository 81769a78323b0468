"""Class-agnostic figures: every distinct segment once, whoever counts and however many labels it is written for."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from lofi_tal.cli.app import app
from lofi_tal.errors import DataError
from lofi_tal.evaluation import (
    as_one_class,
    bootstrap_detections,
    detections_of,
    evaluate_detections,
    evaluate_proposals,
    ground_truth_of,
    score_detections,
    score_proposals,
)
from lofi_tal.segments import Segments, detections_to_activitynet

DURATION = 30.0


def case(seed=0, videos=6, proposals=20, classes=3):
    """Return truth and proposals of some videos, and the proposals as detections of one and of several labels."""
    random = np.random.default_rng(seed)
    truth, once, several = [], [], []
    for number in range(videos):
        start = np.sort(random.uniform(0, 20, 3))
        truth.append(Segments(f"v{number}", start, start + 4, ("a", "b", "c"), np.ones(3), DURATION))
        near = np.repeat(start, proposals // 3) + random.normal(0, 1, proposals // 3 * 3)
        score, share = random.uniform(size=len(near)), random.dirichlet(np.ones(classes), len(near))
        once.append(Segments(f"v{number}", near, near + 4, ("a",) * len(near), score, DURATION))
        fused = (score[:, None] * share).ravel()
        spans = np.repeat(near, classes)
        labels = tuple("abc"[:classes]) * len(near)
        confidence = np.repeat(score, classes)
        several.append(Segments(f"v{number}", spans, spans + 4, labels, fused, DURATION, confidence).sorted())
    return truth, once, several


def document(truth):
    return {
        "database": {
            one.video_id: {"subset": "validation", "duration": one.duration, "annotations": one.to_activitynet()}
            for one in truth
        }
    }


@pytest.mark.parametrize("seed", range(3))
def test_labels_change_nothing_whether_from_segments_or_from_a_file(seed):
    truth, once, several = case(seed)
    one_class = as_one_class(ground_truth_of(truth, "validation"))
    expected = score_detections(one_class, detections_of(once, one_class))
    written = json.loads(json.dumps(detections_to_activitynet(several)))
    found = score_detections(one_class, detections_of(several, one_class))
    read = evaluate_detections(document(truth), written, class_agnostic=True)
    assert found.mAP == read.mAP == expected.mAP
    assert found.repeated == read.repeated == len(several[0]) * 6 * 2 // 3
    assert read.ranked_by == "proposal_score"
    assert expected.repeated == 0
    recall = score_proposals(one_class, detections_of(once, one_class))
    assert evaluate_proposals(document(truth), written).average_recall == recall.average_recall


def test_without_proposal_scores_a_segment_has_its_best_score():
    truth, _, several = case(1)
    records = detections_to_activitynet(several)
    best = {}
    for video_id, results in records["results"].items():
        by_segment = {}
        for record in results:
            del record["proposal_score"]
            segment = tuple(record["segment"])
            by_segment[segment] = max(by_segment.get(segment, 0.0), record["score"])
        best[video_id] = [{"label": "any", "score": p, "segment": list(s)} for s, p in by_segment.items()]
    found = evaluate_detections(document(truth), records, class_agnostic=True)
    assert found.mAP == evaluate_detections(document(truth), {"results": best}, class_agnostic=True).mAP
    assert found.ranked_by == "score"
    assert found.detections == sum(map(len, best.values()))


def test_intervals_and_the_command_give_the_same_figure(tmp_path):
    truth, once, several = case(2)
    expected = evaluate_detections(document(truth), detections_to_activitynet(once), class_agnostic=True).average_mAP
    intervals = bootstrap_detections(
        document(truth), detections_to_activitynet(several), class_agnostic=True, replicates=10
    )
    assert intervals.average_mAP.value == pytest.approx(expected)
    (tmp_path / "truth.json").write_text(json.dumps(document(truth)))
    (tmp_path / "found.json").write_text(json.dumps(detections_to_activitynet(several)))
    command = ["evaluate", str(tmp_path / "truth.json"), str(tmp_path / "found.json"), "--class-agnostic"]
    printed = CliRunner().invoke(app, [*command, "--json"])
    assert json.loads(printed.stdout)["average_mAP"] == expected
    assert "ranked by its proposal score" in CliRunner().invoke(app, command).stderr


def test_with_classes_every_label_still_counts():
    truth, _, several = case(0)
    found = evaluate_detections(document(truth), detections_to_activitynet(several))
    assert (found.detections, found.repeated) == (sum(map(len, several)), 0)


def test_proposals_without_labels_are_taken_as_they_are():
    truth, once, _ = case(0)
    records = detections_to_activitynet(once)
    for results in records["results"].values():
        results += [dict(record) for record in results]
        for record in results:
            del record["label"]
    assert evaluate_proposals(document(truth), records).proposals == 2 * sum(map(len, once))


@pytest.mark.parametrize("value", ["0.5", None, float("nan")])
def test_a_proposal_score_that_is_no_number_is_refused(value):
    truth, once, _ = case(0)
    records = detections_to_activitynet(once)
    for results in records["results"].values():
        for record in results:
            record["proposal_score"] = value
    with pytest.raises(DataError, match="proposal_score"):
        evaluate_detections(document(truth), records, class_agnostic=True)


def test_segments_keep_proposal_scores_through_selection_and_files():
    _, _, several = case(0)
    kept = several[0].above(0.2)
    again = Segments.from_activitynet("v0", kept.to_activitynet())
    assert again.proposal_score.tolist() == kept.proposal_score.tolist()
    assert len(kept.proposal_score) == len(kept) > 0
    assert Segments.from_activitynet("v0", [{"label": "a", "segment": [0, 1]}]).proposal_score is None
    with pytest.raises(DataError, match="differ in length"):
        Segments("v", [0], [1], ("a",), [1], proposal_score=[1, 2])
