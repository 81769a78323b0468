"""Two versions of labels: matched, compared and merged; the figures are worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from lofi_tal.annotations import Annotations, VideoAnnotation, load_annotations, save_annotations
from lofi_tal.cli.app import app
from lofi_tal.errors import LofiError
from lofi_tal.evaluation.agreement import agreement, label_changes, match_segments
from lofi_tal.evaluation.merging import merge_annotations
from lofi_tal.segments import Segments


def segments(*rows, video_id="a", duration=20.0) -> Segments:
    start, end, label = ([row[i] for row in rows] for i in range(3))
    return Segments(video_id, start, end, tuple(label), np.ones(len(rows)), duration)


def labels(subset="training", duration=20.0, **videos) -> Annotations:
    return Annotations({
        name: VideoAnnotation(name, duration, subset, segments(*rows, video_id=name, duration=duration))
        for name, rows in videos.items()
    })  # fmt: skip


FIRST = labels(a=[(0, 4, "run"), (6, 8, "jump"), (10, 12, "run")], only=[(1, 2, "run")])
SECOND = labels(a=[(1, 5, "run"), (6, 8, "hop"), (15, 16, "run")], new=[])


def test_pairs_of_one_label_go_first_and_each_segment_matches_once():
    one = segments((0, 10, "run"), (0, 10, "jump"), (12, 14, "run"))
    other = segments((0, 9, "jump"), (0, 10, "hop"), (11.9, 14, "run"), (12, 14, "run"))
    found = match_segments(one, other)
    assert [(i, j) for i, j, _ in found.pairs] == [(0, 1), (1, 0), (2, 3)]
    assert [tiou for *_, tiou in found.pairs] == pytest.approx([1.0, 0.9, 1.0])
    assert (found.first, found.second) == ((), (2,))
    assert match_segments(segments(), other).second == (0, 1, 2, 3)
    with pytest.raises(LofiError, match=r"tiou=0: expected more than 0"):
        match_segments(one, other, 0.0)


def test_changes_are_named_with_what_they_are_now():
    told = [(change.video_id, change.kind, change.text) for change in label_changes(FIRST, SECOND)]
    assert told == [
        ("only", "video removed", "the video is gone, with 1 segment"),
        ("a", "moved", "run [0, 4] s is [1, 5] s now (tIoU 0.60)"),
        ("a", "relabelled", "jump [6, 8] s is hop now"),
        ("a", "removed", "run [10, 12] s"),
        ("a", "added", "run [15, 16] s"),
        ("new", "video added", "a new video, with 0 segments"),
    ]
    assert not list(label_changes(FIRST, FIRST))
    moved = [change.text for change in label_changes(labels(a=[]), labels("validation", a=[]))]
    assert moved == ["from training to validation"]


def test_agreement_is_what_is_counted_by_hand():
    found = agreement(FIRST, SECOND)
    assert (found.videos, found.confused) == (1, (("jump", "hop", 1),))
    run = found.classes["run"]
    assert (run.first, run.second, run.matched, run.f1) == (2, 2, 1, 0.5)
    # of 20 s: run for the first 6 s, for the second 5 s, for both 3 s; neither 12 s
    assert run.kappa == pytest.approx(((3 + 12) / 20 - (6 * 5 + 14 * 15) / 400) / (1 - (6 * 5 + 14 * 15) / 400))
    assert found.classes["jump"].kappa == pytest.approx(0.0)  # 2 s for the first, none for the second
    assert found.f1 == pytest.approx(2 * 1 / 6)
    assert found.boundary == pytest.approx(0.5)  # 1, 1, 0, 0
    same = agreement(FIRST, FIRST)
    assert same.f1 == 1.0
    assert {one.kappa for one in same.classes.values()} == {1.0}


def test_overlapping_segments_of_a_class_count_their_time_once():
    twice = labels(a=[(0, 6, "run"), (4, 10, "run")])
    assert agreement(twice, labels(a=[(0, 10, "run")])).classes["run"].kappa == pytest.approx(1.0)
    always = labels(a=[(0, 20, "run")])
    assert agreement(always, always).classes["run"].kappa is None


def test_point_events_match_near_their_time():
    one = labels(a=[(5, 5, "hit"), (9, 9, "hit"), (15, 15, "pass")])
    other = labels(a=[(5.5, 5.5, "hit"), (9, 9, "hit"), (17, 17, "pass")])
    assert not list(label_changes(one, one))
    assert agreement(one, one).f1 == 1.0
    assert [change.text for change in label_changes(one, other)] == [
        "hit at 5 s is at 5.5 s now (tIoU 0.60)",
        "pass at 15 s",
        "pass at 17 s",
    ]
    merged = merge_annotations(one, other).annotations["a"].segments
    assert list(zip(merged.start, merged.end, merged.label, strict=True)) == [
        (5.25, 5.25, "hit"), (9, 9, "hit"), (15, 15, "pass"), (17, 17, "pass"),
    ]  # fmt: skip


def test_durations_and_ambiguous_parts_are_compared_and_merged():
    one, other = (
        Annotations({"a": replace(FIRST["a"], duration=length, ignored=np.array(parts, dtype=float).reshape(-1, 2))})
        for length, parts in ((20.0, [[6, 7]]), (30.0, [[8, 9]]))
    )
    assert [(change.kind, change.text) for change in label_changes(one, other)] == [
        ("duration", "from 20 s to 30 s"),
        ("ambiguous parts", "they differ, which `--ignore-ambiguous` leaves out"),
    ]
    merged = merge_annotations(one, other)
    assert merged.annotations["a"].ignored.tolist() == [[6, 7], [8, 9]]
    assert "a: ambiguous parts differ; those of both are kept." in merged.notes
    same = merge_annotations(one, one)
    assert (same.annotations["a"].ignored.tolist(), same.notes) == ([[6, 7]], ())


def test_nothing_in_common_is_said():
    with pytest.raises(LofiError, match="no video in common"):
        agreement(labels(a=[]), labels(b=[]))


@pytest.mark.parametrize(
    ("matched", "unmatched", "expected"),
    [
        ("mean", "keep", [(0.5, 4.5, "run"), (6, 8, "jump"), (10, 12, "run"), (15, 16, "run")]),
        ("first", "drop", [(0, 4, "run"), (6, 8, "jump")]),
        ("second", "drop", [(1, 5, "run"), (6, 8, "hop")]),
    ],
)
def test_labels_are_merged_by_the_rules(matched, unmatched, expected):
    merged = merge_annotations(FIRST, SECOND, matched=matched, unmatched=unmatched)
    found = merged.annotations["a"].segments
    assert list(zip(found.start, found.end, found.label, strict=True)) == expected
    assert list(merged.annotations.videos) == ["a", "only", "new"]
    assert len(merged.notes) == 1
    assert ("hop, not jump" if matched == "second" else "jump, not hop") in merged.notes[0]


def test_contradictions_of_subset_and_length_are_noted():
    other = Annotations({"a": replace(SECOND["a"], subset="validation", duration=25.0)})
    merged = merge_annotations(FIRST, other)
    assert merged.notes[:2] == ("a: subset training, not validation.", "a: duration 20 s, not 25 s.")
    assert (merged.annotations["a"].subset, merged.annotations["a"].duration) == ("training", 20.0)
    with pytest.raises(LofiError, match=r"matched 'frist' is unknown; allowed: first, second, mean. Did you mean"):
        merge_annotations(FIRST, other, matched="frist")


def test_the_commands_print_tables_and_json(tmp_path):
    paths = [tmp_path / "first.json", tmp_path / "second.json"]
    for path, content in zip(paths, (FIRST, SECOND), strict=True):
        save_annotations(path, content)
    run = lambda *arguments: CliRunner().invoke(app, ["data", *map(str, arguments)])  # noqa: E731
    said = run("diff", *paths).output
    assert "jump [6, 8] s is hop now" in said
    assert "3 of 3 videos differ: 1 video removed, 1 moved, 1 relabelled, 1 removed, 1 added, 1 video added." in said
    assert "Confused: jump with hop, 1 time." in said
    assert run("diff", paths[0], paths[0]).output.strip() == "No difference."
    found = json.loads(run("diff", *paths, "--json").stdout)
    assert len(found["changes"]) == 6
    assert found["agreement"]["classes"]["run"]["f1"] == 0.5
    result = run("merge", *paths, "-o", tmp_path / "both.json", "--unmatched", "drop")
    assert "3 videos, 3 segments, 1 contradiction" in result.output
    assert load_annotations(tmp_path / "both.json")["a"].segments.label == ("run", "jump")
