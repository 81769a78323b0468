"""Runs on what people have: recordings whose pictures begin late, and training videos in which nothing happens."""

from __future__ import annotations

import json
from fractions import Fraction

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from lofi_tal.cli.app import app
from lofi_tal.detection import detect_files
from lofi_tal.run import Run
from lofi_tal.run.data import read_data
from lofi_tal.video import VideoManifest
from tests.videos import every, make


def three_seconds_late(source, target):
    """Copy a video as a cutter does: an edit list leaves three seconds without pictures."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                ticks = round(3 / Fraction(packet.time_base))
                packet.pts, packet.dts, packet.stream = packet.pts + ticks, packet.dts + ticks, stream
                new.mux(packet)


def test_what_is_detected_is_written_where_a_player_shows_it(finished_run, benchmark_set, tmp_path):
    run, _ = finished_run
    source = sorted(benchmark_set.videos.glob("*.mp4"))[0]
    for name in ("usual", "late"):
        (tmp_path / name).mkdir()
    (tmp_path / "usual" / "a.mp4").write_bytes(source.read_bytes())
    three_seconds_late(source, tmp_path / "late" / "a.mp4")
    found = {}
    for name in ("usual", "late"):
        out = tmp_path / name / "found"
        (found[name],), failed, _ = detect_files(
            [tmp_path / name / "a.mp4"], run.output, out=out, threshold=0.0, device="cpu", quiet=True
        )
        assert not failed
    usual, late = found["usual"], found["late"]
    np.testing.assert_allclose(late.start, usual.start + 3, atol=1e-6)
    np.testing.assert_allclose(late.end, usual.end + 3, atol=1e-6)
    assert late.label == usual.label
    assert late.score.tolist() == usual.score.tolist()  # the same pictures
    folder = tmp_path / "late" / "found"
    (records,) = json.loads((folder / "a.json").read_text())["results"].values()
    assert min(record["segment"][0] for record in records) >= 3
    assert all(float(line.split(",")[1]) >= 3 for line in (folder / "a.csv").read_text().splitlines()[1:])
    assert (folder / "a.srt").read_text().splitlines()[1] >= "00:00:03,000"
    page = (folder / "a.html").read_text()
    assert f'"duration": {round(late.duration, 3)}' in page or f'"duration":{round(late.duration, 3)}' in page
    assert late.duration == pytest.approx(usual.duration + 3)


RECIPE = """
data: {annotations: labels.json, videos: videos, workers: 0, selection_share: 0}
pretrain: null
baseline: false
encoder: {name: tsm_resnet18_narrow, options: {width: 8}}
snippets: {count: 8, frames: 2, stride: 1, size: 32}
lofi: {epochs: 1, batch: 1}
head: {options: {hidden_1d: 32, hidden_2d: 16, hidden_3d: 32}, epochs: 1, batch: 2, lrs: [2.0e-3]}
classifier: {epochs: 1}
"""


def test_labels_before_the_first_picture_are_lost_and_every_command_says_so(tmp_path):
    """One before the pictures, one after them, in training and evaluation: listed, counted, exit status 4."""
    records = [{"segment": span, "label": "jump"} for span in ([0.5, 1.5], [3.2, 4.4], [6, 7])]
    for number, name in enumerate(("a", "b", "c")):
        (tmp_path / "videos").mkdir(exist_ok=True)
        make(tmp_path / "videos" / f"{name}.mp4", every(100, 20, 3000), sound=0.0, first=number)
    subsets = {"a": "training", "b": "training", "c": "validation"}
    database = {name: {"subset": subset, "annotations": records} for name, subset in subsets.items()}
    (tmp_path / "labels.json").write_text(json.dumps({"database": database}))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    for command in ("train", "extract", "head"):
        arguments = [command, tmp_path / "recipe.yaml", "-o", tmp_path / "run", "--device", "cpu", "-q"]
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == 4, result.output
        assert "a, annotation 0 (jump) [0.5, 1.5] s dropped: the video has only [3, 5] s." in result.stderr
        assert "Not used: 6 annotations; data.json of the run folder lists all." in result.stderr
        assert "2 of them are in the evaluated subset and still count there as ground truth" in result.stderr
        assert len(json.loads((tmp_path / "run" / "data.json").read_text())["dropped"]) == 6
        (tmp_path / "run" / "data.json").unlink()


@pytest.fixture
def with_background(tiny_recipe, tmp_path):
    """A recipe of which one training video has lost its segments, and the id of that video."""
    document = json.loads(tiny_recipe.data.annotations.read_text())
    video_id = next(name for name, video in document["database"].items() if video["subset"] == "training")
    document["database"][video_id]["annotations"] = []
    (tmp_path / "labels.json").write_text(json.dumps(document))

    def recipe(**settings):
        data = tiny_recipe.data.model_copy(update={"annotations": tmp_path / "labels.json", **settings})
        return tiny_recipe.model_copy(update={"data": data})

    return recipe, video_id


def test_videos_without_segments_are_said_to_be_unused(with_background, caplog):
    recipe, video_id = with_background
    data = read_data(recipe(), VideoManifest(None))
    assert video_id not in {video.video_id for video in data.videos}
    assert "Not used: 1 training video without segments" in caplog.text
    assert "data.background=true" in caplog.text


def test_videos_without_segments_serve_as_negatives_if_they_are_told_to(with_background, tmp_path):
    recipe, video_id = with_background
    data = read_data(recipe(background=True), VideoManifest(None))
    (negative,) = [video for video in data.train if not len(video.labels)]
    assert negative.video_id == video_id
    assert all(len(video.labels) for video in data.selection)
    short = recipe(background=True).model_copy(
        update={"pretrain": None, "baseline": False, "lofi": recipe().lofi.model_copy(update={"epochs": 1})}
    )
    pipeline = Run(short, tmp_path / "run", device="cpu", quiet=True)
    with pipeline.open():
        (result,) = pipeline.run()
    assert 0 <= result.scores["agnostic"]["average_mAP"] <= 1


def test_a_video_whose_segments_lie_outside_is_no_background(with_background, tmp_path):
    """Its times are wrong, which says nothing about what happens in it."""
    recipe, video_id = with_background
    path = recipe().data.annotations
    document = json.loads(path.read_text())
    others = (
        entry for entry in document["database"].values() if entry["subset"] == "training" and entry["annotations"]
    )
    label = next(others)["annotations"][0]["label"]  # of a class that keeps others
    document["database"][video_id]["annotations"] = [{"segment": [5000, 6000], "label": label}]
    path.write_text(json.dumps(document))
    data = read_data(recipe(background=True), VideoManifest(None))
    assert video_id not in {video.video_id for video in data.videos}


def test_the_setting_changes_no_fingerprint_while_it_is_unset(tiny_recipe):
    assert "background" not in tiny_recipe.data.model_dump(mode="json")
    assert tiny_recipe.data.model_copy(update={"background": True}).model_dump(mode="json")["background"] is True
