"""Exports: what other programs find in the files, and that nothing is lost on the way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lofi_tal.annotations import Annotations, VideoAnnotation
from lofi_tal.annotations.formats import VideoFolder, import_annotations
from lofi_tal.annotations.formats.export import WRITERS
from lofi_tal.errors import DataError
from lofi_tal.segments import Segments
from lofi_tal.video import write_video


def video(video_id: str, duration: float | None, subset: str, *rows: tuple[float, float, str]) -> VideoAnnotation:
    start, end, label = ([row[i] for row in rows] for i in range(3))
    return VideoAnnotation(
        video_id, duration, subset, Segments(video_id, start, end, tuple(label), np.ones(len(rows)), duration)
    )


def collection(*videos: VideoAnnotation) -> Annotations:
    return Annotations({one.video_id: one for one in videos})


SOME = collection(  # the last with a part that is neither action nor background
    video("-a", 2.0, "training", (0.1, 1.0, "zip, zap"), (0.5, 1.5, "apple")),
    video("b", 3.5, "validation", (1 / 3, 2 / 3, "apple")),
    replace(video("c", 1.0, "testing"), ignored=np.array([[0.25, 1 / 3]])),
)


@pytest.mark.parametrize("name", ["activitynet", "csv", "opentad", "actionformer"])
def test_every_export_can_be_imported_again(tmp_path, name):
    path = tmp_path / ("out.csv" if name == "csv" else "out.json")
    WRITERS[name](path, SOME, None)
    again = import_annotations([path]).annotations
    assert list(again.videos) == list(SOME.videos)
    for before, after in zip(SOME, again, strict=True):
        assert (after.duration, after.subset) == (before.duration, before.subset)
        assert after.segments.label == before.segments.label
        np.testing.assert_array_equal(after.segments.start, before.segments.start)
        np.testing.assert_array_equal(after.segments.end, before.segments.end)
        np.testing.assert_array_equal(after.ignored, before.ignored[:0] if name == "csv" else before.ignored)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> VideoFolder:
    folder: Path = tmp_path_factory.mktemp("videos")
    for name, frames in (("v_-a", 20), ("b", 35), ("c", 10)):
        write_video(folder / f"{name}.mp4", np.zeros((frames, 16, 16, 3), np.uint8), fps=10)
    return VideoFolder(folder)


def test_opentad_finds_frames_and_its_class_list(tmp_path, videos):
    """Its ``get_class_index`` sorts the names; its sliding windows read ``frame`` and divide by ``duration``."""
    WRITERS["opentad"](tmp_path / "anno.json", SOME, videos)
    assert (tmp_path / "category_idx.txt").read_text() == "apple\nzip, zap\n"
    database = json.loads((tmp_path / "anno.json").read_text())["database"]
    assert database["-a"] == {
        "subset": "training",
        "duration": 2.0,
        "frame": 20,
        "annotations": [
            {"segment": [0.1, 1.0], "label": "zip, zap"},
            {"segment": [0.5, 1.5], "label": "apple"},
        ],
    }
    assert database["c"]["annotations"] == []


def test_actionformer_finds_rates_and_numbers_of_classes(tmp_path, videos):
    """Its loader maps each ``label`` to its ``label_id`` and needs ``duration`` and ``fps``."""
    WRITERS["actionformer"](tmp_path / "anno.json", SOME, videos)
    database = json.loads((tmp_path / "anno.json").read_text())["database"]
    assert [one["label_id"] for one in database["-a"]["annotations"]] == [1, 0]
    assert database["b"]["fps"] == pytest.approx(10)
    WRITERS["actionformer"](tmp_path / "anno.json", SOME, None)
    assert "fps" not in json.loads((tmp_path / "anno.json").read_text())["database"]["b"]


@pytest.mark.parametrize("name", ["opentad", "actionformer"])
def test_a_video_without_duration_is_refused(tmp_path, name):
    with pytest.raises(DataError, match=r"Video 'a' has no duration.*--videos"):
        WRITERS[name](tmp_path / "anno.json", collection(video("a", None, "training", (0, 1, "x"))), None)
    assert list(tmp_path.iterdir()) == []
