"""Exports for labelling tools: what they write is what the importers of the same tools read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from lofi_tal.annotations import Annotations, VideoAnnotation, load_annotations
from lofi_tal.annotations.formats import ImportOptions, VideoFolder, import_annotations
from lofi_tal.annotations.formats.export import FOLDERS, WRITERS
from lofi_tal.annotations.formats.export_projects import CONFIGURATION, lanes
from lofi_tal.cli.app import app
from lofi_tal.errors import DataError
from lofi_tal.segments import Segments
from lofi_tal.video import write_video

FPS = 10
NAMES = {"via": "out.json", "boris": "out.boris", "label-studio": "out.json"}
EXACT = {"via": 0.0, "boris": 0.0, "audacity": 1e-6, "elan": 5.1e-4, "label-studio": 0.5 / FPS, "cvat": 0.5 / FPS}
TOOLS = tuple(EXACT)

ROWS = {
    "-a": [(0.1, 1.0, "zip, zap"), (0.5, 1.5, "apple"), (1.0, 2.0, "zip, zap"), (0.2, 1.3, "zip, zap")],
    "take.2": [(1 / 3, 2 / 3, 'Öffnen & "schließen" <x>'), (0.0, 3.5, "开门")],
    "c": [],
}
LENGTHS = {"-a": 20, "take.2": 35, "c": 10}


def some() -> Annotations:
    videos = {}
    for name, rows in ROWS.items():
        start, end, label = ([row[i] for row in rows] for i in range(3))
        duration = LENGTHS[name] / FPS
        segments = Segments(name, start, end, tuple(label), np.ones(len(rows)), duration)
        videos[name] = VideoAnnotation(name, duration, "training", segments)
    return Annotations(videos)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name, frames in LENGTHS.items():
        write_video(folder / f"{name}.mp4", np.zeros((frames, 16, 32, 3), np.uint8), fps=FPS)
    return folder


def export(tool: str, annotations: Annotations, at: Path, videos: VideoFolder | None) -> list[Path]:
    path = at / NAMES.get(tool, "out")
    WRITERS[tool](path, annotations, videos)
    return sorted(path.iterdir()) if tool in FOLDERS else [path]


def spans(annotations: Annotations) -> dict[str, list[tuple[str, float, float]]]:
    return {video.video_id: sorted(zip(video.segments.label, video.segments.start, video.segments.end, strict=True))
            for video in annotations}  # fmt: skip


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("tool", TOOLS)
def test_what_is_exported_for_a_tool_is_imported_again(tool, given, folder, tmp_path):
    videos = VideoFolder(folder) if given else None
    if tool in ("label-studio", "cvat") and not given:
        with pytest.raises(DataError, match=r"counts frames: give the folder of the videos with --videos"):
            export(tool, some(), tmp_path, videos)
        assert not any(tmp_path.iterdir())
        return
    files = export(tool, some(), tmp_path, videos)
    told = "audacity" if tool == "audacity" else None  # an empty text file may be of anything
    again = import_annotations(files, told, ImportOptions(videos=videos)).annotations
    before, after = spans(some()), spans(again)
    assert after.keys() == before.keys()
    for video_id, expected in before.items():
        assert [row[0] for row in after[video_id]] == [row[0] for row in expected]
        for (_, start, end), (_, first, last) in zip(expected, after[video_id], strict=True):
            assert (first, last) == pytest.approx((start, end), abs=EXACT[tool] + 1e-12)
    if given:
        assert {video.video_id: video.duration for video in again} == {"-a": 2.0, "take.2": 3.5, "c": 1.0}


def test_lanes_are_as_few_as_overlap_at_once():
    assert lanes([(0, 2), (1, 3), (2, 4), (5, 6)]) == [[0, 2, 3], [1]]
    assert lanes([]) == []


def test_an_action_shorter_than_a_frame_keeps_a_frame(folder, tmp_path):
    video = some()["c"]
    short = Segments("c", [0.93], [0.94], ("blink",), np.ones(1), 1.0)
    videos = VideoFolder(folder)
    for tool in ("label-studio", "cvat"):
        files = export(tool, Annotations({"c": replace(video, segments=short)}), tmp_path / tool, videos)
        again = import_annotations(files, None, ImportOptions(videos=videos)).annotations
        assert spans(again) == {"c": [("blink", pytest.approx(0.9), pytest.approx(1.0))]}


def test_cvat_counts_from_the_first_picture(folder, tmp_path, monkeypatch):
    videos = VideoFolder(folder)
    facts = replace(videos.facts("c"), start=5.0, duration=6.0)
    monkeypatch.setattr(videos, "facts", lambda video_id: facts)
    late = Segments("c", [5.2], [5.8], ("wave",), np.ones(1), 6.0)
    (path,) = export("cvat", Annotations({"c": replace(some()["c"], segments=late)}), tmp_path, videos)
    assert [box.get("frame") for box in ElementTree.parse(path).iter("box")] == ["2", "8"]
    again = import_annotations([path], None, ImportOptions(videos=videos)).annotations
    assert spans(again) == {"c": [("wave", pytest.approx(5.2), pytest.approx(5.8))]}


def test_label_studio_gets_the_rate_and_a_configuration_with_the_classes(folder, tmp_path):
    (path,) = export("label-studio", some(), tmp_path, VideoFolder(folder))
    assert [task["data"]["fps"] for task in json.loads(path.read_text())] == [10.0, 10.0, 10.0]
    view = ElementTree.parse(tmp_path / CONFIGURATION).getroot()
    assert [label.get("value") for label in view.iter("Label")] == list(some().labels)
    assert view.find("Video").get("frameRate") == "$fps"
    names = {(result["from_name"], result["to_name"])
             for task in json.loads(path.read_text()) for result in task["annotations"][0]["result"]}  # fmt: skip
    assert names == {(view.find("TimelineLabels").get("name"), view.find("Video").get("name"))}


@pytest.mark.parametrize("tool", ["elan", "cvat"])
def test_a_label_that_xml_cannot_hold_is_named(tool, folder, tmp_path):
    odd = Segments("c", [0.2], [0.8], ("a\x01b",), np.ones(1), 1.0)
    with pytest.raises(DataError, match=r"'c': XML cannot hold the character '\\x01' of 'a\\x01b'"):
        export(tool, Annotations({"c": replace(some()["c"], segments=odd)}), tmp_path, VideoFolder(folder))


def test_ids_reach_no_other_folder(tmp_path):
    video = replace(some()["c"], video_id="../../evil")
    (path,) = export("audacity", Annotations({"../../evil": video}), tmp_path / "in", None)
    assert path.parent == tmp_path / "in/out"


def test_the_command_writes_a_folder_and_refuses_a_file(folder, tmp_path):
    labels, back = tmp_path / "labels.json", tmp_path / "back.json"
    WRITERS["activitynet"](labels, some(), None)
    assert convert(labels, "--to", "elan", "-o", tmp_path / "elan").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "elan").iterdir()) == ["-a.eaf", "c.eaf", "take.2.eaf"]
    inputs = [tmp_path / "elan" / name for name in ("c.eaf", "take.2.eaf")]
    assert convert(*inputs, "--videos", folder, "-o", back).exit_code == 0
    assert list(load_annotations(back).videos) == ["c", "take.2"]
    refused = convert(labels, "--to", "elan", "-o", labels)
    assert isinstance(refused.exception, DataError)
    assert "needs a folder" in str(refused.exception)


def convert(*arguments):
    return CliRunner().invoke(app, ["data", "convert", *map(str, arguments)])
