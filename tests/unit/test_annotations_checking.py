"""Each fault that is planted is found, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from lofi_tal.annotations import Annotations, check_annotations, load_annotations
from lofi_tal.video import VideoError, VideoManifest, write_video

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def load(tmp_path: Path, **videos):
    database = {}
    for video_id, (subset, duration, segments) in videos.items():
        records = [{"segment": list(span), "label": label} for *span, label in segments]
        database[video_id] = {"subset": subset, "annotations": records}
        if duration is not None:
            database[video_id]["duration"] = duration
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"database": database}))
    return load_annotations(path)


SMALL = ("missing-subset", "single-instance")  # what a file of a few videos is told anyway


def kinds(report, without=SMALL) -> list[tuple[str, str, str]]:
    found = [finding for finding in report.findings if finding.kind not in without]
    return [(finding.severity, finding.kind, finding.video_id) for finding in found]


def make_video(path: Path, frames: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    own = sum(path.stem.encode()) % 100  # different videos have different content
    write_video(path, [np.full((32, 32, 3), own + i, np.uint8) for i in range(frames)], fps=10, gop=5)


def spoil_second_half(path: Path) -> None:
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for place in places[len(places) // 2 :]:
        data[place : place + 4] = b"\xff\xff\xff\xff"  # a length that no packet has
    path.write_bytes(data)


def test_sound_annotations_have_no_findings(tmp_path):
    annotations = load(
        tmp_path,
        a=("training", 2.0, [(0, 1, "x"), (1, 2.05, "x")]),
        b=("validation", 2.0, [(0, 1, "x")]),
        c=("testing", 2.0, []),
    )
    for video_id in ("a", "v_b", "klass/c"):
        make_video(tmp_path / "videos" / f"{video_id}.mp4")
    report = check_annotations(annotations, tmp_path / "videos")
    assert report.findings == ()
    assert report.ok
    assert report.verdict == "No errors."
    assert report.summary["training"]["videos"] == 1
    assert report.summary["training"]["instances"] == 2
    assert report.summary["training"]["classes"] == 1
    assert report.summary["training"]["segment_seconds"]["p50"] == pytest.approx(1.0)
    assert report.summary["testing"]["segment_seconds"] == {}


def test_a_class_that_is_trained_but_never_evaluated_is_named(tmp_path):
    annotations = load(
        tmp_path,
        a=("training", 10.0, [(0, 1, "run"), (2, 3, "run"), (4, 5, "throw"), (6, 7, "throw")]),
        b=("validation", 10.0, [(0, 1, "run")]),
    )
    (finding,) = check_annotations(annotations, None).findings
    assert (finding.severity, finding.kind) == ("warning", "unmeasured-class")
    assert finding.detail == "class 'throw' is in training, but not in validation: mAP says nothing about it."


def test_faults_of_the_annotations(tmp_path):
    annotations = load(
        tmp_path,
        a=("training", 10.0, [(0, 1, "x"), (9, 10.2, "x"), (3, 3, "x"), (5, 4, "x"), (-0.5, 1, "x")]),
        b=("validation", None, [(0, 1, "x"), (0, 1, "new")]),
        c=("val", 10.0, []),
    )
    report = check_annotations(annotations, None)
    assert kinds(report) == [
        ("warning", "unknown-subset", ""),
        ("error", "subset-without-truth", ""),
        ("warning", "unseen-class", ""),
        ("warning", "segment-outside", "a"),
        ("warning", "empty-segment", "a"),
        ("warning", "empty-segment", "a"),
        ("warning", "segment-outside", "a"),
        ("warning", "no-duration", "b"),
    ]
    assert report.counts == {
        "segment-outside": 2, "empty-segment": 2, "unseen-class": 1, "unknown-subset": 1, "subset-without-truth": 1,
        "no-duration": 1,
    }  # fmt: skip
    assert not report.ok
    assert any("'new'" in finding.detail for finding in report.findings)
    assert report.verdict == "1 error, 7 warnings: `lofi run` would stop, or lose data."


def test_faults_of_the_videos(tmp_path):
    videos = tmp_path / "videos"
    ids = ("fine", "long", "random", "damaged", "gone", "v_twin", "twin")
    annotations = load(tmp_path, **{name: ("training", 2.0, [(0, 1, "x")]) for name in ids})
    make_video(videos / "fine.mp4")
    make_video(videos / "long.mp4", 40)
    make_video(videos / "damaged.mp4")
    make_video(videos / "v_twin.mp4")
    make_video(videos / "fine.avi")
    (videos / "random.mp4").write_bytes(bytes(range(256)) * 8)
    spoil_second_half(videos / "damaged.mp4")
    report = check_annotations(annotations, videos, manifest=VideoManifest(None, workers=3))
    assert set(kinds(report)) == {
        ("warning", "duration-differs", "long"),
        ("error", "undecodable-video", "random"),
        ("warning", "damaged-video", "damaged"),
        ("error", "missing-video", "gone"),
        ("warning", "shared-file", "v_twin"),
        ("warning", "several-files", "fine"),
    }
    assert json.loads(json.dumps(report.to_json(), allow_nan=False)) == report.to_json()


def test_a_copy_of_a_training_video_in_validation_is_an_error(tmp_path):
    annotations = load(tmp_path, a=("training", 2.0, [(0, 1, "x")]), b=("validation", 2.0, [(0, 1, "x")]))
    make_video(tmp_path / "videos" / "a.mp4")
    (tmp_path / "videos" / "b.mp4").write_bytes((tmp_path / "videos" / "a.mp4").read_bytes())
    assert kinds(check_annotations(annotations, tmp_path / "videos")) == [("error", "copied-file", "a")]


def test_video_in_two_subsets_is_a_leak(tmp_path):
    annotations = load(tmp_path, v_a=("training", 2.0, [(0, 1, "x")]), a=("validation", 2.0, [(0, 1, "x")]))
    make_video(tmp_path / "videos" / "a.mp4")
    report = check_annotations(annotations, tmp_path / "videos")
    assert kinds(report) == [("error", "shared-file", "v_a")]


def test_what_a_lenient_reader_left_out_is_found(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"database": {"a": [], "b": {"subset": "testing", "duration": 3}}}))
    report = check_annotations(load_annotations(tmp_path / "a.json", strict=False), None)
    assert kinds(report) == [("warning", "left-out", "")]


def test_faults_of_ignored_parts_are_those_of_segments(tmp_path):
    annotations = load(tmp_path, a=("training", 10.0, [(0, 1, "x")]))
    odd = replace(annotations["a"], ignored=np.array([[2.0, 3.0], [5.0, 4.0], [9.0, 12.0]]))
    report = check_annotations(Annotations({"a": odd}), None)
    assert kinds(report) == [("warning", "empty-segment", "a"), ("warning", "segment-outside", "a")]
    assert [finding.detail for finding in report.findings if finding.kind == "empty-segment"] == [
        "Ignored part 1 [5, 4] s does not end after its start."
    ]


def test_mistakes_are_said(tmp_path):
    annotations = load(tmp_path, a=("training", 2.0, [(0, 1, "x")]))
    with pytest.raises(VideoError, match="cannot be read"):
        check_annotations(annotations, tmp_path / "none")


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the data folder is absent")
def test_activitynet_has_its_known_faults_and_no_other():
    report = check_annotations(load_annotations(SHARED / "activitynet_v1-3.json"), None)
    assert report.ok
    assert report.counts == {"duplicate-segment": 26, "empty-segment": 12, "segment-outside": 3}


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the data folder is absent")
@pytest.mark.parametrize("name", ["weizmann", "gmdcsa24"])
def test_real_videos_agree_with_their_annotations(name):
    annotations = load_annotations(SHARED / name / "annotations.json")
    some = Annotations({video.video_id: video for video in [*annotations.subset("training")][:4]})
    assert kinds(check_annotations(some, SHARED / name / "videos"), (*SMALL, "similar-labels")) == []
