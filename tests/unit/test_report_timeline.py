"""The timeline page: one file, honest about its video, with labels that stay text."""

import base64
import html.parser
import json
import os
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lofi_tal.errors import DataError, LofiError
from lofi_tal.report import write_timeline
from lofi_tal.report.timeline import EMBED_LIMIT_BYTES, default_threshold, make_viewer, relative_url
from lofi_tal.segments import Segments

NASTY = "</script><script>alert(1)</script><!-- & \"quoted\" 'label' {{ 7 * 7 }}"


class Page(html.parser.HTMLParser):
    """What a browser would make of the page: tags with attributes, and the text of each script and heading."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data):
        self.texts.append((self.tags[-1][0] if self.tags else "", data))

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def data(self):
        """Return the JSON of each viewer."""
        return [json.loads(text) for tag, text in self.texts if tag == "script" and text.startswith('{"duration"')]


def segments(labels=("jump", "bend"), duration=10.0, video_id="clip"):
    count = len(labels)
    return Segments(video_id, np.arange(count), np.arange(count) + 1.5, labels, np.linspace(0.9, 0.1, count), duration)


def written(path: Path, **options) -> Page:
    write_timeline(path, **options)
    return Page(path.read_text(encoding="utf-8"))


def test_page_refers_to_nothing_outside_but_the_video(tmp_path):
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"not looked at")
    page = written(tmp_path / "clip.html", detections=segments(), truth=segments(), video=video)
    references = [(tag, a[key]) for tag, a in page.tags for key in ("src", "href", "data", "poster") if key in a]
    assert references == [("link", "data:,"), ("video", "clip.mp4")]
    assert "http" not in re.sub(r"http-equiv", "", (tmp_path / "clip.html").read_text())
    assert "@import" not in (tmp_path / "clip.html").read_text()


@pytest.mark.parametrize(
    ("page", "video", "expected"),
    [
        ("out/clip.html", "videos/clip.mp4", "../videos/clip.mp4"),
        ("clip.html", "clip.mp4", "clip.mp4"),
        ("a/b/clip.html", "a/clip with space #1 100%?.mp4", "../clip%20with%20space%20%231%20100%25%3F.mp4"),
        ("clip.html", "vidéo.mp4", "vid%C3%A9o.mp4"),
    ],
)
def test_video_url_is_relative_to_the_page_and_quoted(tmp_path, page, video, expected):
    (tmp_path / video).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / video).touch()
    shown = written(tmp_path / page, detections=segments(), video=tmp_path / video)
    assert shown.all("video")[0]["src"] == expected
    assert ((tmp_path / page).parent / unquote(expected)).resolve() == (tmp_path / video).resolve()


def test_relative_paths_of_the_caller_give_the_same_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert relative_url(Path("videos/a.mp4"), Path("out/a.html")) == "../videos/a.mp4"
    assert relative_url(tmp_path / "videos/a.mp4", Path("out/a.html")) == "../videos/a.mp4"


@pytest.mark.skipif(os.name != "posix", reason="file names are text elsewhere")
def test_file_name_that_is_not_text_still_gives_a_page(tmp_path):
    name = os.fsdecode(b"clip-\xff.mp4")
    (tmp_path / name).touch()
    page = written(tmp_path / "clip.html", detections=segments(video_id=name), video=tmp_path / name)
    assert page.all("video")[0]["src"] == "clip-%FF.mp4"


def test_labels_and_title_stay_text(tmp_path):
    page = written(tmp_path / "x.html", detections=segments((NASTY, "b")), truth=segments((NASTY,)), title=NASTY)
    assert page.data()[0]["labels"] == [NASTY, "b"]
    assert len(page.all("script")) == 2  # the data and the viewer's program
    assert ("h1", NASTY) in page.texts
    assert "innerHTML" not in (tmp_path / "x.html").read_text()


@given(label=st.text(max_size=30), name=st.text(max_size=30))
def test_any_label_survives_the_way_into_the_page(tmp_path_factory, label, name):
    path = tmp_path_factory.mktemp("any") / "x.html"
    page = written(path, detections=segments((label,), video_id=name))
    assert page.data()[0]["labels"] == [label]


def test_numbers_arrive_as_they_are(tmp_path):
    truth = Segments("v", [1.0], [2.5], ("a",), [1.0], 20.0)
    found = Segments("v", [0.5, 3.0], [2.25, 4.0], ("a", "b"), [0.75, 0.125], 20.0)
    data = written(tmp_path / "x.html", detections=found, truth=truth, threshold=0.5).data()[0]
    assert data["duration"] == 20.0
    assert data["threshold"] == 0.5
    assert [source["name"] for source in data["sources"]] == ["truth", "detections"]
    assert data["sources"][0]["segments"] == [[1.0, 2.5, 0, 1.0]]
    assert data["sources"][1]["segments"] == [[0.5, 2.25, 0, 0.75], [3.0, 4.0, 1, 0.125]]


def test_without_a_video_the_lanes_remain(tmp_path):
    page = written(tmp_path / "x.html", detections=segments())
    assert not page.all("video")
    assert len(page.data()[0]["sources"][0]["segments"]) == 2


def test_missing_video_is_named_and_not_referred_to(tmp_path):
    page = written(tmp_path / "x.html", detections=segments(), video=tmp_path / "gone<b>.mp4")
    assert not page.all("video")
    assert any("gone<b>.mp4 was not there" in text for _, text in page.texts)


def test_page_with_a_video_has_a_hint_for_formats_that_do_not_play(tmp_path):
    (tmp_path / "a.avi").touch()
    write_timeline(tmp_path / "x.html", detections=segments(), video=tmp_path / "a.avi")
    assert "libx264" in (tmp_path / "x.html").read_text()


def test_zero_detections_of_unknown_length(tmp_path):
    data = written(tmp_path / "x.html", detections=Segments.empty("v")).data()[0]
    assert data == {
        "duration": 1.0,
        "threshold": 0.0,
        "labels": [],
        "sources": [{"name": "detections", "truth": False, "colour": "c0", "segments": []}],
    }


@pytest.mark.parametrize("duration", [None, 0.0, float("nan")])
def test_unknown_duration_is_the_end_of_the_last_segment(tmp_path, duration):
    assert written(tmp_path / "x.html", detections=segments(duration=duration)).data()[0]["duration"] == 2.5


def test_without_a_threshold_the_ten_best_are_shown():
    many = Segments("v", np.zeros(30), np.ones(30), ("a",) * 30, np.linspace(0.01, 0.3, 30))
    assert len(many.above(default_threshold({"x": many}))) == 10
    assert default_threshold({"x": Segments.empty("v")}) == 0.0


@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=30))
def test_detection_at_the_threshold_is_shown_after_rounding(scores):
    found = Segments("v", np.zeros(len(scores)), np.ones(len(scores)), ("a",) * len(scores), scores)
    data = make_viewer(Path("x.html"), video=None, truth=None, detections={"x": found}, threshold=scores[0])["data"]
    assert data["sources"][0]["segments"][0][3] >= data["threshold"]


def test_embedded_video_is_in_the_page(tmp_path):
    video = tmp_path / "videos" / "a.webm"
    video.parent.mkdir()
    video.write_bytes(b"\x00\x01video")
    source = written(tmp_path / "x.html", detections=segments(), video=video, embed=True).all("video")[0]["src"]
    head, content = source.split(",", 1)
    assert head == "data:video/webm;base64"
    assert base64.b64decode(content) == b"\x00\x01video"


def test_embedding_is_refused_where_it_cannot_work(tmp_path):
    large = tmp_path / "large.mp4"
    with large.open("wb") as handle:
        handle.truncate(EMBED_LIMIT_BYTES + 1)
    with pytest.raises(LofiError, match="at most 64 MiB can be embedded"):
        write_timeline(tmp_path / "x.html", detections=segments(), video=large, embed=True)
    with pytest.raises(LofiError, match="embed=True needs a video"):
        write_timeline(tmp_path / "x.html", detections=segments(), embed=True)
    with pytest.raises(DataError, match="cannot be embedded"):
        write_timeline(tmp_path / "x.html", detections=segments(), video=tmp_path / "gone.mp4", embed=True)
    assert not (tmp_path / "x.html").exists()


def test_same_input_gives_the_same_bytes(tmp_path):
    for name in ("a.html", "b.html"):
        write_timeline(tmp_path / name, detections=segments(), truth=segments())
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
