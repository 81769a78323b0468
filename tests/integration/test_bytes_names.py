"""Folders and files whose names are no UTF-8: Linux allows any bytes, and old archives and cameras leave them."""

import os
import shutil

import pytest

from conftest import lofi
from lofi_tal import Localizer
from lofi_tal.files import read_json


@pytest.fixture
def here(finished_run, tmp_path):
    """A finished run, a video and its annotations under names that are no UTF-8."""
    run, _ = finished_run
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(run.output, folder / os.fsdecode(b"run\xff"))
    video = next(iter(run.data().evaluation)).file.path
    (folder / "videos").mkdir()
    shutil.copy(video, folder / "videos" / os.fsdecode(b"\xfe.mp4"))
    shutil.copy(video, folder / "videos" / video.name)
    return folder


def test_a_run_is_read_and_reported_there(here, finished_run):
    (run,) = here.glob("run*")
    recipe = here / "recipe.yaml"
    shutil.copy(run / "recipe.yaml", recipe)
    before = (run / "report.html").read_bytes()
    done = lofi("run", recipe, "-o", run, "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    assert "run\\udcff" in done.stderr
    assert len((run / "report.html").read_bytes()) > 0.9 * len(before)
    assert Localizer.from_pretrained(run).labels == finished_run[0].data().labels


def test_videos_are_checked_and_detected_there(here):
    (run,) = here.glob("run*")
    done = lofi("detect", here / "videos", "--model", run, "-o", here / os.fsdecode(b"out\xe9"), "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    found = {name for path in (here / os.fsdecode(b"out\xe9")).glob("*.json") for name in read_json(path)["results"]}
    assert len(found) == 2  # an id is text: the byte that is none is shown as one that stands for it
    for path in (here / os.fsdecode(b"out\xe9")).glob("*.html"):
        path.read_bytes().decode()


def test_commands_on_data_work_there(here, finished_run):
    annotations = here / os.fsdecode(b"labels\xe9.json")
    shutil.copy(finished_run[0].recipe.data.annotations, annotations)
    table, manifest = here / os.fsdecode(b"t\xe9.csv"), here / os.fsdecode(b"m\xe9.jsonl")
    assert lofi("data", "convert", annotations, "--to", "csv", "-o", table).exit_code == 0
    assert table.read_text(encoding="utf-8").startswith("video,start,end,label")
    videos = finished_run[0].recipe.data.videos
    checked = lofi("data", "check", annotations, "--videos", videos, "--manifest", manifest, "--json")
    assert checked.exit_code == 0, checked.stderr
    assert manifest.exists()
