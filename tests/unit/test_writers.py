"""Text formats of detections: what is written, where, and what cannot go together."""

import json

import pytest

from lofi_tal import writers
from lofi_tal.errors import LofiError
from lofi_tal.files import write_json
from lofi_tal.registry import Registry
from lofi_tal.segments import Segments, detections_to_activitynet
from lofi_tal.showing import Shown
from lofi_tal.writers import (
    DEFAULT_FORMATS,
    WRITERS,
    Writer,
    check_formats,
    detection_files,
    get_writer,
    list_writers,
    write_detections,
)

FOUND = Segments("a", [1.0, 2.5], [2.0, 4.0], ("jump", "run"), [0.9, 0.1], 5.0)


def test_json_has_all_segments_and_other_formats_those_above_the_threshold(tmp_path):
    write_detections(FOUND, tmp_path, Shown(0.5), DEFAULT_FORMATS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.json", "a.srt"]  # the page is not text
    assert (tmp_path / "a.csv").read_text() == FOUND[:1].to_csv()
    assert (tmp_path / "a.srt").read_text() == FOUND[:1].to_srt()
    write_json(tmp_path / "by_hand", detections_to_activitynet([FOUND]))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "by_hand").read_bytes()
    assert len(json.loads((tmp_path / "a.json").read_text())["results"]["a"]) == 2


def test_files_are_named_after_video_and_format(tmp_path):
    names = [path.name for path in detection_files(tmp_path, "a", DEFAULT_FORMATS)]
    assert names == ["a.json", "a.csv", "a.srt", "a.html"]
    assert list_writers()[:3] == ("json", "csv", "srt")
    assert WRITERS.package("json") == "lofi-tal"


def test_unknown_formats_and_formats_of_one_file_are_refused(monkeypatch):
    with pytest.raises(LofiError, match=r"format 'jsno' is unknown; known: json, csv, srt.*html\. Did you mean 'json'"):
        check_formats(["csv", "jsno"])
    assert check_formats(["srt", "html", "srt"]) == ("srt", "html")
    formats = Registry("format", "lofi_tal.no_writers")
    for name in ("srt", "sub"):
        formats.register(name)(Writer(Segments.to_srt, ".srt"))
    monkeypatch.setattr(writers, "WRITERS", formats)
    with pytest.raises(LofiError, match=r"'srt' and 'sub' both write \*\.srt"):
        check_formats(["srt", "sub"])


def test_a_plain_function_is_a_format_with_its_name_as_suffix(monkeypatch, tmp_path):
    formats = Registry("format", "lofi_tal.no_writers")
    formats.register("count")(lambda found: str(len(found)))
    formats.register("upper")(Writer(lambda found: found.to_csv().upper(), ".CSV"))
    monkeypatch.setattr(writers, "WRITERS", formats)
    assert get_writer("count").suffix == ".count"
    assert formats.outside() == dict.fromkeys(("count", "upper"), __name__.partition(".")[0])
    write_detections(FOUND, tmp_path, Shown(0), ["count"])
    assert (tmp_path / "a.count").read_text() == "2"
