"""Segments one by one, in a terminal, in a notebook, in pandas and in a figure."""

from __future__ import annotations

import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from lofi_tal.errors import LofiError
from lofi_tal.segments import Segment, Segments

HOSTILE = "<script>alert('$x$ & \"y\"')</script>\x1b[31m\n\ud800"
THREE = Segments("match", [2, 12, 5], [5, 15, 6], ("jump", "throw", "jump"), [0.4, 0.9, 0.1], 20)
texts = st.text(st.characters(exclude_categories=()), max_size=8) | st.just(HOSTILE)
numbers = st.floats(-1e6, 1e6)
durations = st.none() | st.sampled_from([0.0, -1.0, float("inf"), float("nan")]) | st.floats(1e-3, 1e6)


def many(count: int, duration: float | None = 1000.0) -> Segments:
    start = np.arange(count, dtype=float)
    return Segments("long", start, start + 0.5, [f"class {i % 7}" for i in range(count)], start / count, duration)


@pytest.fixture
def axes():
    return Figure().subplots()


def test_a_loop_goes_through_records_of_plain_python_values():
    assert list(THREE) == [(2.0, 5.0, "jump", 0.4), (12.0, 15.0, "throw", 0.9), (5.0, 6.0, "jump", 0.1)]
    for segment in THREE:
        assert isinstance(segment, Segment)
        assert [type(value) for value in segment] == [float, float, str, float]
    assert THREE[0] in THREE
    assert list(Segments.empty("v")) == []
    with pytest.raises(AttributeError):
        THREE[0].start = 1.0


@pytest.mark.parametrize("index", [1, -2, np.int64(1), np.uint8(1), np.intp(-2)])
def test_an_index_gives_one_segment(index):
    assert THREE[index] == Segment(12.0, 15.0, "throw", 0.9)
    assert type(THREE[index].score) is float
    assert THREE[THREE.score.argmax()].label == "throw"


@pytest.mark.parametrize("index", [3, -4, np.int64(3), [3], np.array([True, False])])
def test_an_index_out_of_range_and_a_mask_of_another_length_are_refused(index):
    with pytest.raises(IndexError):
        THREE[index]


@pytest.mark.parametrize("index", [True, np.True_, None, np.array(1), np.zeros((1, 1), int), "jump", 1.0])
def test_what_is_no_index_is_refused(index):
    with pytest.raises(IndexError):
        THREE[index]


@pytest.mark.parametrize("index", [(2, 0), [2, 0], np.array([2, 0]), range(2, -1, -2), slice(None, None, -2)])
def test_indices_select_in_their_order(index):
    assert THREE[index].start.tolist() == [5, 2]
    assert (THREE[index].video_id, THREE[index].duration) == ("match", 20)


def test_selecting_none_gives_no_segments():
    for index in ([], (), np.zeros(3, bool), slice(0, 0), np.zeros(0, int)):
        assert len(THREE[index]) == 0
    assert len(Segments.empty("v")[[]]) == len(Segments.empty("v")[np.zeros(0, bool)]) == 0


def test_the_text_is_short_and_names_the_best():
    assert repr(many(1000)).splitlines() == [
        "Segments('long': 1000 segments of 7 classes in 1000.00 s)",
        "  999.00 to 999.50 s  0.999  class 5",
        "  998.00 to 998.50 s  0.998  class 4",
        "  997.00 to 997.50 s  0.997  class 3",
        "  ... and 997 more",
    ]
    assert repr(Segments.empty("v")) == "Segments('v': 0 segments)"
    assert repr(Segments("v", [0], [1], ("a",), [1])).startswith("Segments('v': 1 segment of 1 class)")
    assert len(repr(Segments("v" * 999, [0], [1], ("a" * 999,), [1]))) < 250


class _Reader(HTMLParser):
    """What elements, attributes and text a page has, and whether each element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.open, self.names, self.text = [], [], set(), []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.open.append(tag)
        self.names |= {name for name, _ in attributes}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@given(st.lists(st.tuples(numbers, numbers, texts, numbers), max_size=30), texts, durations)
@example([(0, 1, HOSTILE, 0.5)], HOSTILE, 10.0)
def test_whatever_names_hold_the_table_is_safe_and_the_text_printable(values, video_id, duration):
    segments = Segments(video_id, *([row[i] for row in values] for i in range(4)), duration)
    html = segments._repr_html_()
    page = _Reader(html)
    assert not page.open
    assert set(page.tags) <= {"div", "b", "table", "thead", "tbody", "tr", "th", "td", "svg", "rect", "title"}
    assert not any(name.startswith("on") or name in ("href", "src") for name in page.names)
    assert "url(" not in html
    for text in (html, repr(segments)):
        text.encode()
        assert "\x1b" not in text


def test_the_table_has_the_best_twenty_and_a_strip_where_the_length_is_known():
    html = many(50)._repr_html_()
    page = _Reader(html)
    assert page.tags.count("tr") == 21
    assert page.tags.count("rect") == 51
    assert "... and 30 more" in page.text
    assert page.text[page.text.index("score") + 1 :][:5] == ["49", "49.00", "49.50", "class 0", "0.980"]
    assert "svg" not in many(50, None)._repr_html_()
    assert len(many(20_000, 20_000)._repr_html_()) < 60_000
    assert _Reader(Segments.empty("v", 10.0)._repr_html_()).text == ["v", ": 0 segments in 10.00 s"]


def test_the_strip_shows_each_segment_at_its_place():
    html = Segments("v", [5, -3], [10, 99], ("a", "b"), [1, 1], 20)._repr_html_()
    assert 'x="25.00" y="1" width="25.00"' in html
    assert 'x="0.00" y="1" width="100.00"' in html


def test_pandas_gets_one_row_for_each_segment():
    table = THREE.to_dataframe()
    assert list(table.columns) == ["video", "start", "end", "label", "score"]
    assert [tuple(row) for row in table.itertuples(index=False)] == [("match", *segment) for segment in THREE]
    empty = Segments.empty("v").to_dataframe()
    assert (empty.dtypes == table.dtypes).all()
    assert len(pd.concat([empty, table])) == 3


def test_without_pandas_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(LofiError, match="pip install pandas"):
        THREE.to_dataframe()


def lanes(axes) -> list[str]:
    return [tick.get_text() for tick in axes.get_yticklabels()]


def bars(axes) -> set[tuple[float, float, int]]:
    """Start, end and lane of each bar."""
    boxes = [patch.get_bbox() for patch in axes.patches]
    return {(box.x0, box.x1, round((box.y0 + box.y1) / 2)) for box in boxes if box.width}


def test_a_plot_has_a_lane_for_each_class_and_a_bar_for_each_segment(axes):
    assert THREE.plot(axes) is axes
    assert lanes(axes) == ["jump", "throw"]
    assert bars(axes) == {(2, 5, 0), (5, 6, 0), (12, 15, 1)}
    assert axes.get_xlim() == (0, 20)
    assert axes.get_xlabel() == "time (s)"
    assert axes.get_legend() is None


def test_a_better_segment_is_drawn_stronger_and_later(axes):
    THREE.plot(axes)
    opacity = [patch.get_facecolor()[3] for patch in axes.patches if patch.get_width()]
    assert opacity == sorted(opacity)
    assert opacity[-1] == 1


def test_ground_truth_lies_beside_the_segments(axes):
    truth = Segments("match", [1], [4], ("fall",), [1], 30)
    Segments("match", [2], [5], ("jump",), [0.5]).plot(axes, truth=truth)
    assert lanes(axes) == ["fall", "jump"]
    assert bars(axes) == {(1, 4, 0), (2, 5, 1)}
    assert axes.get_xlim() == (0, 30)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["ground truth", "segments"]
    actual, found = (next(p for p in axes.patches if p.get_x() == x and p.get_width()) for x in (1, 2))
    assert actual.get_y() + actual.get_height() < 0 <= found.get_y() - 1  # not one above the other


@pytest.mark.parametrize("segments", [Segments.empty("v"), Segments("v", [0], [1], (HOSTILE,), [0.0], 2)])
def test_a_figure_is_drawn_whatever_is_in_it_and_never_shown(segments, monkeypatch, tmp_path):
    monkeypatch.setattr(plt, "show", lambda *_, **__: pytest.fail("shown"))
    try:
        for truth in (None, Segments.empty("v"), segments):
            drawn = segments.plot(truth=truth)
            drawn.figure.savefig(tmp_path / "figure.png")
            assert (tmp_path / "figure.png").stat().st_size
    finally:
        plt.close("all")
