"""Segments: selection, order and converters."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lofi_tal.cells import unguarded
from lofi_tal.errors import DataError
from lofi_tal.segments import Segments, detections_to_activitynet

finite = st.floats(-1e6, 1e6)
labels = st.text(st.characters(exclude_characters="\r"), max_size=6)
rows = st.lists(st.tuples(finite, finite, labels, st.floats(0, 1)), max_size=20)


def make(values, video_id="v") -> Segments:
    starts, ends, labels, scores = zip(*values, strict=True) if values else ((), (), (), ())
    return Segments(video_id, np.array(starts), np.array(ends), labels, np.array(scores), 10.0)


@given(rows)
def test_activitynet_records_come_back(values):
    segments = make(values)
    again = Segments.from_activitynet("v", segments.to_activitynet(), 10.0)
    assert again.label == segments.label
    for name in ("start", "end", "score"):
        np.testing.assert_array_equal(getattr(again, name), getattr(segments, name))


@given(rows)
def test_sorting_is_by_falling_score_and_stable(values):
    segments = make(values).sorted()
    expected = sorted(values, key=lambda row: -row[3])
    assert list(zip(segments.start, segments.end, segments.label, segments.score, strict=True)) == expected


@given(rows, st.floats(0, 1))
def test_threshold_keeps_equal_scores(values, threshold):
    assert len(make(values).above(threshold)) == sum(row[3] >= threshold for row in values)


def test_selection_by_slice_mask_and_positions():
    segments = make([(0, 1, "a", 0.1), (2, 3, "b", 0.2), (4, 5, "c", 0.3)])
    assert segments[1:].label == ("b", "c")
    assert segments[np.array([True, False, True])].label == ("a", "c")
    assert segments[[2, 0]].label == ("c", "a")
    assert (segments[[2]].video_id, segments[[2]].duration) == ("v", 10.0)
    assert len(segments[[]]) == len(Segments.empty("v")) == 0


def test_truth_without_scores_has_score_one():
    segments = Segments.from_activitynet("v", [{"segment": [1, 2], "label": "a"}])
    assert segments.score.tolist() == [1.0]
    assert segments.duration is None


def test_fields_of_different_length_and_numbers_that_are_none_are_refused():
    with pytest.raises(DataError, match="differ in length"):
        Segments("v", np.zeros(2), np.zeros(2), ("a",), np.zeros(2))
    with pytest.raises(DataError, match=r"'v': end\[1\] is nan"):
        Segments("v", np.zeros(2), np.array([1, np.nan]), ("a", "b"), np.zeros(2))


@given(rows)
def test_csv_has_one_line_for_each_segment(values):
    table = list(csv.DictReader(io.StringIO(make(values, 'a,b"c').to_csv(), newline="")))
    assert [unguarded(row["label"]) for row in table] == [row[2] for row in values]
    assert all(row["video"] == 'a,b"c' for row in table)
    np.testing.assert_allclose([float(row["start"]) for row in table], [row[0] for row in values], atol=6e-4)


def test_subtitles_are_in_the_order_of_time():
    text = make([(3661.5, 3662, "late", 0.5), (-1, 0.0015, "first", 0.25)]).to_srt()
    assert text == ("1\n00:00:00,000 --> 00:00:00,002\nfirst 0.25\n\n2\n01:01:01,500 --> 01:01:02,000\nlate 0.50\n")
    assert Segments.empty("v").to_srt() == ""


def test_detections_are_the_document_of_the_official_evaluator():
    document = detections_to_activitynet([make([(0, 1, "a", 0.5)], "x"), Segments.empty("y")])
    assert document == {
        "version": "VERSION 1.3",
        "results": {"x": [{"label": "a", "score": 0.5, "segment": [0.0, 1.0]}], "y": []},
        "external_data": {},
    }
