"""Whatever reads labels with their files drops the same segments, by the same clock, and lists them."""

import json

import pytest
from typer.testing import CliRunner

from lofi_tal import load_videos
from lofi_tal.annotations import check_annotations, load_annotations, parse_annotations
from lofi_tal.cli.app import app
from lofi_tal.errors import DataError
from lofi_tal.evaluation import load_ground_truth
from lofi_tal.run.data import check_subsets
from lofi_tal.video import VideoManifest, find_videos
from tests.videos import every, make

SPANS = {"before": [0.5, 1.5], "across": [2.0, 3.5], "inside": [3.0, 4.0], "beyond": [5.5, 6.0]}
LOST = {"before": "the video has only [3, 5] s", "beyond": "the video has only [3, 5] s"}


@pytest.fixture(scope="module")
def late(tmp_path_factory):
    """Two files with sound from 0 and pictures from 3 to 5 s, one class a segment; `ms` counts milliseconds."""
    folder = tmp_path_factory.mktemp("late")
    (folder / "videos").mkdir()
    make(folder / "videos" / "cut.mp4", every(100, 20, 3000), sound=0.0)
    make(folder / "videos" / "ms.mp4", every(100, 20, 3000), sound=0.0, first=7)
    records = [{"segment": span, "label": label} for label, span in SPANS.items()]
    milliseconds = [{"segment": [3000, 4500], "label": "inside"}]
    database = {
        "cut": {"subset": "training", "duration": 30.0, "annotations": records},
        "ms": {"subset": "training", "annotations": milliseconds},
    }
    (folder / "labels.json").write_text(json.dumps({"database": database}))
    return folder


def test_the_check_names_late_pictures_and_what_lies_before_and_beyond_them(late):
    report = check_annotations(load_annotations(late / "labels.json"), late / "videos")
    details = {finding.kind: finding.detail for finding in report.findings if finding.video_id == "cut"}
    outside = [finding.detail for finding in report.findings if finding.kind == "segment-outside"]
    assert "first picture appears at 3.00 s" in details["late-pictures"]
    assert len(outside) == 3
    assert "(before) [0.5, 1.5] s lies outside the pictures, [3, 5] s" in outside[0]
    assert "(across) [2, 3.5] s leaves the pictures" in outside[1]
    assert "(beyond) [5.5, 6] s lies outside the pictures" in outside[2]
    (lost,) = [finding.detail for finding in report.findings if finding.kind == "class-without-truth"]
    assert "'before', 'beyond'" in lost


def test_the_library_lists_what_it_drops(late, caplog):
    videos = load_videos(late / "labels.json", late / "videos")
    assert {change.label: change.outcome.removeprefix("dropped: ") for change in videos.dropped[:2]} == LOST
    (wrong_unit,) = videos.dropped[2:]
    assert (wrong_unit.video_id, wrong_unit.label) == ("ms", "inside")
    assert "milliseconds?" in wrong_unit.outcome
    assert "3 annotations that cannot be used" in repr(videos)
    assert [len(video.labels) for video in videos] == [2, 0]
    assert caplog.text.count("dropped") == 3


def test_statistics_go_by_the_files_and_list_what_they_do_not_count(late):
    arguments = ["data", "stats", str(late / "labels.json"), "--videos", str(late / "videos"), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 4
    found = json.loads(result.stdout)
    assert (found["instances"], found["left_out"], found["video_seconds"]["p50"]) == (2, 3, pytest.approx(5.0))
    assert {(one["video_id"], one["label"]) for one in found["dropped"]} == {
        ("cut", "before"), ("cut", "beyond"), ("ms", "inside")
    }  # fmt: skip
    assert "cannot be used: 3 annotations" in result.stderr
    assert "[3, 5] s" in result.stderr


def test_statistics_name_videos_that_cannot_be_read(late, tmp_path):
    (tmp_path / "cut.mp4").write_bytes(b"no video")
    result = CliRunner().invoke(app, ["data", "stats", str(late / "labels.json"), "--videos", str(tmp_path)])
    assert result.exit_code == 4
    assert "Unreadable: 2 videos" in result.stderr


def test_a_name_is_suggested_as_for_files():
    report = {"video_12": {"subset": "training", "annotations": []}, "swim_rgb": {"subset": "x", "annotations": []}}
    annotations = parse_annotations({"database": report}, "labels.json")
    with pytest.raises(DataError, match="Did you mean 'swim_rgb'"):
        annotations["swim"]
    with pytest.raises(DataError) as caught:
        annotations["video_13"]
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("coin.json", {"database": {"a": {"subset": "validation", "annotation": [{"segment": [1, 2], "label": "x"}]}}},
         "COIN"),
        ("typo.json", {"database": {"a": {"subset": "validation", "annotation_s": []}}}, "expected 'annotations'"),
        ("via.json", {"project": {}, "metadata": {}}, "lofi data convert"),
        ("list.json", [{"video": "a", "start": 1, "end": 2, "label": "x"}], "lofi data convert"),
        ("labels.csv", "video,start,end,label\na,1,2,x\n", "lofi data convert"),
        ("session.eaf", "<ANNOTATION_DOCUMENT/>", "lofi data convert"),
    ],
)  # fmt: skip
def test_ground_truth_in_another_layout_is_refused_with_what_was_expected(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError, match=said):
        load_ground_truth(path, "validation")


def test_a_run_checks_as_the_check_does(late):
    annotations = load_annotations(late / "labels.json")
    manifest = VideoManifest(None)
    manifest.examine(sorted((late / "videos").iterdir()))
    report = check_subsets(annotations, ("training", "validation"), find_videos(late / "videos"), manifest)
    assert "segment-outside" in {finding.kind for finding in report.findings}
