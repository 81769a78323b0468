"""Statistics of a data set against counts by hand, and its page."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lofi_tal.annotations import Annotations, VideoAnnotation, describe
from lofi_tal.report import write_statistics
from lofi_tal.segments import Segments


def annotations(*videos: tuple[str, float | None, list[tuple[float, float, str]]]) -> Annotations:
    found = {}
    for name, duration, rows in videos:
        records = [{"segment": [start, end], "label": label} for start, end, label in rows]
        found[name] = VideoAnnotation(name, duration, "training", Segments.from_activitynet(name, records, duration))
    return Annotations(found)


SOME = annotations(
    ("a", 100.0, [(10, 20, "x"), (15, 30, "y"), (40, 40.5, "x"), (60, 50, "x"), (90, 120, "y")]),
    ("b", 50.0, []),
    ("c", None, [(0, 4, "x"), (2, 3, "x")]),
)


def test_counts_by_hand():
    """In ``a``: 10-30, 40-40.5 and 90-100 are covered; the reversed segment does not count."""
    found = describe(SOME)
    assert (found.videos, found.videos_with_truth, found.instances, found.left_out) == (3, 2, 6, 1)
    assert found.hours == pytest.approx(150 / 3600)
    assert found.known_durations == 2
    assert sorted(found.seconds) == [0.5, 1, 4, 10, 10, 15]
    assert found.share.tolist() == [0.1, 0.15, 0.005, 0.1]
    assert found.gaps.tolist() == [10, 49.5]
    assert found.background == pytest.approx(1 - 30.5 / 100)
    assert found.overlapping == pytest.approx(4 / 6)
    assert found.overlapping_same == pytest.approx(2 / 6)
    assert found.below_step == {100: 0.25, 50: 0.25, 25: 0.25}
    assert [(one.label, one.videos, one.instances, one.seconds, one.median_seconds) for one in found.classes] == [
        ("x", 2, 4, 15.5, 2.5),
        ("y", 1, 2, 25.0, 12.5),
    ]
    assert found.profile[[5, 9, 14, 16, 20, 21, 47]].tolist() == [1, 1, 1, 0, 0, 0, 1]


def test_json_is_plain_and_has_percentiles():
    document = json.loads(json.dumps(describe(SOME).to_json(), allow_nan=False))
    assert document["segment_seconds"]["p50"] == 7
    assert document["below_step"]["100"] == 0.25
    assert document["classes"][0]["label"] == "x"


def test_touching_segments_do_not_overlap():
    found = describe(annotations(("a", 10.0, [(0, 2, "x"), (2, 5, "x")])))
    assert (found.overlapping, found.gaps.tolist(), found.background) == (0, [0], pytest.approx(0.5))


spans = st.tuples(st.integers(0, 30), st.integers(1, 10), st.sampled_from("xy"))


@given(st.lists(spans, max_size=8))
def test_cover_and_overlap_equal_a_count_of_seconds(rows):
    found = describe(annotations(("a", 40.0, [(start, start + length, label) for start, length, label in rows])))
    seconds = np.zeros(40, int)
    for start, length, _ in rows:
        seconds[start : start + length] += 1
    shared = sum(bool((seconds[start : start + length] > 1).any()) for start, length, _ in rows)
    assert found.overlapping * max(1, len(rows)) == pytest.approx(shared)
    if rows:
        assert found.background == pytest.approx((seconds == 0).mean())


@pytest.mark.parametrize(
    "data",
    [
        SOME,
        annotations(("only", None, [])),
        annotations(("no duration", None, [(0, 1, "<b>x</b>")])),
        annotations(*((f"v{i}", 10.0, [(1, 2, f"class {i}")] * (i % 13)) for i in range(60))),
    ],
)
def test_page_is_written_for_any_data(tmp_path, data):
    figures = describe(data)
    write_statistics(tmp_path / "out" / "statistics.html", "A <title>", figures, facts={"command": "lofi & co"})
    page = (tmp_path / "out" / "statistics.html").read_text()
    assert "A &lt;title&gt;" in page
    assert "lofi &amp; co" in page
    assert "<b>x</b>" not in page
    assert page.count("<svg") == 5
    assert json.loads((tmp_path / "out" / "statistics.json").read_text()) == figures.to_json()
