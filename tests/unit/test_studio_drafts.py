"""Drafts from files: detections and events, in every layout that is read; what cannot be used is refused by place."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lofi_tal.errors import DataError
from lofi_tal.segments import Segments, detections_to_activitynet
from lofi_tal.showing import Shown
from lofi_tal.studio.contents import Content, with_drafts
from lofi_tal.studio.drafts import MOST, drafts_of, read_drafts
from lofi_tal.video import Clock


def plain(found):
    return {name: [(d["start"], d["end"], d["label"], d["score"]) for d in drafts] for name, drafts in found.items()}


def test_detections_become_drafts_each_span_once_in_the_order_of_time():
    segments = Segments("a", [5, 5, 1], [9, 9, 2], ("run", "jump", "run"), [0.4, 0.9, 0.2])
    found = read_drafts(detections_to_activitynet([segments]), "found.json")
    assert plain(found) == {"a": [(1, 2, "run", 0.2), (5, 9, "jump", 0.9)]}
    assert found["a"][0] == {
        "id": "i0",
        "start": 1,
        "end": 2,
        "label": "run",
        "score": 0.2,
        "source": "import:found.json",
    }


def test_what_lofi_detect_says_of_the_scores_that_are_shown_holds():
    segments = Segments("a", [5, 1, 7], [9, 2, 8], ("run", "jump", "throw"), [0.4, 0.9, 0.9])
    shown = Shown(0.5, {"throw": np.inf})
    document = detections_to_activitynet([segments]) | {"shown": shown.to_json()}
    assert plain(read_drafts(document, "found.json")) == {"a": [(1, 2, "jump", 0.9)]}
    with pytest.raises(DataError, match="shown"):
        read_drafts(document | {"shown": {"limit": "x"}}, "found.json")


EVENTS = [
    {"start": 1, "end": "0:02.5", "label": "run"},
    {"start": "1:00", "end": "1:05", "label": "jump", "score": 0.5},
]
EXPECTED = [(1.0, 2.5, "run", 1.0), (60.0, 65.0, "jump", 0.5)]


@pytest.mark.parametrize(
    "document",
    [
        {"video": "a", "events": EVENTS},
        {"video_id": "a.mp4", "events": EVENTS},
        [{"video": "a", "events": EVENTS[:1]}, {"video": "a", "events": EVENTS[1:]}],
        {"a": {"events": EVENTS}},
        {"a": EVENTS},
    ],
)
def test_events_are_read_in_every_layout(document):
    assert plain(read_drafts(document, "answer.json", ["a", "b"])) == {"a": EXPECTED}


def test_events_without_a_video_are_of_the_file_s_name_or_of_the_only_video():
    assert plain(read_drafts({"events": EVENTS}, "b.json", ["a", "b"])) == {"b": EXPECTED}
    assert plain(read_drafts({"events": EVENTS}, "answer.json", ["a"])) == {"a": EXPECTED}
    with pytest.raises(DataError, match="names no video"):
        read_drafts({"events": EVENTS}, "answer.json", ["a", "b"])


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (5, "expected an object"),
        ({"results": [1]}, "no 'results'"),
        ({"results": {"a": [{"label": "run"}]}}, "results\\['a'\\]"),
        ({"results": {"a": [{"label": "run", "segment": [0, "x"]}]}}, "results\\['a'\\]"),
        ({"results": {"a": [{"label": "run", "segment": [0, 1e999]}]}}, "not a number"),
        ({"video": "a"}, "expected detections"),
        ({"video": "a", "events": [{"start": 1, "end": 2}]}, "event 0.*no label"),
        ({"video": "a", "events": [{"start": "x", "end": 2, "label": "run"}]}, "event 0, start"),
        ({"video": "a", "events": [{"start": 1, "end": 2, "label": ""}]}, "event 0, label"),
        ({"video": "a", "events": [{"start": 1, "end": 2, "label": "b", "score": "high"}]}, "event 0, score"),
        ({"video": 7, "events": []}, "video"),
    ],
)
def test_what_cannot_be_used_is_refused_by_place(document, said):
    with pytest.raises(DataError, match=said):
        read_drafts(document, "f.json", ["a", "b"])


def test_the_best_drafts_of_a_video_are_kept_and_spans_without_a_length_are_not():
    count = MOST + 50
    score = np.linspace(0, 1, count)
    segments = Segments("a", np.arange(count), np.arange(count) + 0.5, ("run",) * count, score)
    kept = drafts_of(segments, Shown(-np.inf), "model:m")
    assert len(kept) == MOST
    assert min(one["score"] for one in kept) == score[50]
    none = Segments("a", [1, 1, 1], [1, 2, 2], ("run", " ", "x" * 201), [0.9, 0.9, 0.8])
    assert drafts_of(none, Shown(0), "model:m") == []


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["results", "events", "video", "a", "start", "end", "label", "segment"]), inner
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(JSON)
def test_whatever_a_file_holds_it_is_read_or_refused(document):
    try:
        found = read_drafts(document, "f.json", ["a", "b"])
    except DataError:
        return
    json.dumps(found, allow_nan=False)
    for drafts in found.values():
        assert all(one["start"] < one["end"] for one in drafts)


def test_drafts_are_cut_at_the_ends_of_the_video_and_those_beyond_left_out():
    found = read_drafts({"a": [{"start": s, "end": e, "label": "run"} for s, e in ((7, 9), (1, 2), (9, 10))]}, "x.json")
    kept = with_drafts(Content(), found["a"], "import", Clock(0.0, 8.6)).drafts
    assert [(one.start, one.end) for one in kept] == [(1, 2), (7, 8.6)]


def test_the_desk_takes_them():
    found = read_drafts({"a": EVENTS}, "a name " * 60, ["a"])
    assert [one.label for one in with_drafts(Content(), found["a"], "import").drafts] == ["run", "jump"]
