"""The player's clock and that of the pictures: files whose pictures begin late, and what is read and written then."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from lofi_tal.annotations import Annotations, VideoAnnotation, check_annotations, load_annotations
from lofi_tal.annotations.formats import ImportOptions, VideoFolder, import_annotations
from lofi_tal.annotations.formats.export import WRITERS
from lofi_tal.data import VideoFile, content_hash, find_files, truth_videos
from lofi_tal.heads import Proposals
from lofi_tal.localizer import Localizer
from lofi_tal.segments import Segments
from lofi_tal.stages.localise import labelled
from lofi_tal.video import Clock, VideoManifest, decode_frames, find_videos, probe_video
from tests.videos import GREY, every, make

LATE = every(100, 20, start=3000)


@pytest.mark.parametrize(
    ("name", "sound", "stamps", "start"),
    [
        ("edit-list.mp4", 0.0, LATE, 3.0),
        ("edit-list.mov", 0.0, LATE, 3.0),
        ("offset.mkv", 0.0, LATE, 3.0),
        ("sound-first.ts", 0.0, LATE, 3.0),
        ("sound-first.flv", 0.0, LATE, 3.0),
        ("no-sound.mp4", None, LATE, 3.0),  # Chromium keeps the stamps of these: `currentTime` is 3 there
        ("no-sound.mkv", None, LATE, 3.0),
        ("recorder.mkv", 60.0, every(100, 20, start=60_000), 60.0),  # a page that had been open for a minute
        ("no-sound.ts", None, LATE, 0.0),  # no browser plays these; players begin at the first stamp, wherever it is
        ("day-later.ts", 90_000.0, every(100, 20, start=90_001_000), 1.0),
        ("wraps.ts", 95_440.0, every(100, 60, start=95_441_000), 1.0),  # 33 bits of 1/90,000 s are 95,443.7 s
        ("priming.mp4", 0.04, every(100, 20, start=40), 0.0),
        ("early.mkv", 0.0, every(100, 20), 0.0),
        ("early.avi", None, every(100, 20), 0.0),
        ("almost.mkv", 0.0, every(100, 20, start=7), 0.0),
        ("variable.mp4", 0.0, [2500, 2540, 2900, 4000, 4010], 2.5),
    ],
)
def test_pictures_begin_where_a_player_shows_them(name, sound, stamps, start, tmp_path):
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    info = probe_video(make(tmp_path / name, stamps, sound=sound, codec=codec))
    assert info.start == pytest.approx(start, abs=0.07)  # a packet of sound
    assert (info.start == 0) == (start == 0)
    assert info.times[0] == 0
    np.testing.assert_allclose(info.times, (np.array(stamps) - stamps[0]) / 1000, atol=0.002)
    assert info.notes == ()


def test_a_cut_recording_shows_at_a_players_second_what_its_clock_says(tmp_path):
    path = make(tmp_path / "cut.mp4", LATE, sound=0.0)
    clock = probe_video(path).clock
    wanted = np.array([3.05, 4.05, 4.95])  # on the player's clock
    shown = decode_frames(path, clock.shares(wanted) * clock.duration).frames.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(shown / GREY, [0, 10, 19], atol=0.6)
    assert clock.end == pytest.approx(5.0)
    np.testing.assert_allclose(clock.seconds(clock.shares(wanted)), wanted)


def annotated(duration, *spans, video_id="cut"):
    starts, ends = zip(*spans, strict=True)
    segments = Segments(video_id, starts, ends, ("jump",) * len(spans), np.ones(len(spans)), duration)
    return Annotations({video_id: VideoAnnotation(video_id, duration, "training", segments)})


def test_labels_of_a_player_land_on_the_pictures_and_go_back(tmp_path, caplog):
    make(tmp_path / "cut.mp4", LATE, sound=0.0)
    annotations = annotated(5.0, (3.0, 4.0), (2.0, 3.5), (0.5, 1.5))
    files, failed = find_files(annotations, find_videos(tmp_path), VideoManifest(None))
    (video,) = truth_videos(annotations, files, failed, ("jump",))
    np.testing.assert_allclose(video.segments * video.duration, [[0, 1], [0, 0.5]], atol=1e-5)
    truth = video.to_segments(("jump",))
    np.testing.assert_allclose(np.stack([truth.start, truth.end], 1), [[3, 4], [3, 3.5]], atol=1e-5)
    assert truth.duration == pytest.approx(5.0)
    assert "outside its pictures, which go from 3.00 to 5.00 s: 1 segment;" in caplog.text
    assert "jump [0.5, 1.5] s" in caplog.text


@pytest.mark.parametrize(
    ("frames", "spans", "left"),
    [
        (105, [(3, 6), (20, 25)], [(3, 6)]),  # a copy that lacks its end
        (105, [(3, 6), (10, 12)], [(3, 6), (10, 10.5)]),
        (400, [(3, 6), (20, 25)], [(3, 6), (20, 25)]),  # a file that is longer than the annotations say
        (299, [(3, 6), (20, 25)], [(3, 6), (20, 25)]),  # encoded again, a frame shorter
        (20, [(3, 6)], []),
    ],
)
def test_segments_are_seconds_of_the_file_not_shares_of_the_annotated_duration(frames, spans, left, caplog, tmp_path):
    file = VideoFile(tmp_path / "a.mp4", "stamp", frames / 10, frames)
    (video,) = truth_videos(annotated(30.0, *spans, video_id="a"), {"a": file}, {}, ("jump",))
    np.testing.assert_allclose(video.segments * video.duration, np.reshape(left, (-1, 2)), atol=1e-5)
    assert ("outside its pictures" in caplog.text) == (len(left) < len(spans))


def test_what_a_stage_depends_on_changes_with_the_clock_only_where_there_are_two(tmp_path):
    def hashed(start):
        file = VideoFile(tmp_path / "a.mp4", "stamp", 10.0, 100, start)
        return content_hash(truth_videos(annotated(10.0, (0, 10), video_id="a"), {"a": file}, {}, ("jump",)))

    assert hashed(0.0) != hashed(-1.0)  # the same shares
    assert hashed(0.0) == hashed(0.0)


def test_results_are_written_on_the_players_clock():
    segments, scores = torch.tensor([[0.0, 0.5], [0.25, 1.0]]), torch.tensor([0.9, 0.8])
    found = labelled("cut", Clock(3.0, 2.0), segments, scores, torch.zeros(2, dtype=torch.long), ["jump"])
    assert found.to_csv().splitlines()[1] == "cut,3.000,4.000,jump,0.900000"
    assert "00:00:03,500 --> 00:00:05,000" in found.to_srt()
    assert found.to_activitynet()[0]["segment"] == [3.0, 4.0]
    assert found.duration == 5.0


def test_detection_in_a_cut_file_is_that_of_its_pictures_shifted(tmp_path):
    """The same pictures with and without sound before them: only the clock differs."""

    class Fixed(Localizer):
        def __init__(self):
            pass

        def _features(self, path, info, seen):
            return torch.zeros(1, 4)

        def _predict(self, features, clock, video_id):
            proposals = Proposals(torch.tensor([[0.5, 1.0]]), torch.tensor([0.9]))
            return labelled(video_id, clock, *proposals[:2], torch.zeros(1, dtype=torch.long), ["jump"])

    make(tmp_path / "whole.mp4", every(100, 20))
    make(tmp_path / "cut.mp4", LATE, sound=0.0)
    whole, cut = (Fixed().predict(tmp_path / name) for name in ("whole.mp4", "cut.mp4"))
    assert (whole.start[0], whole.end[0]) == pytest.approx((1.0, 2.0))
    assert (cut.start[0], cut.end[0]) == pytest.approx((4.0, 5.0))


def test_durations_read_from_files_end_with_the_last_picture_on_the_players_clock(tmp_path):
    """The pictures' own length would cut off the labels at the end."""
    make(tmp_path / "cut.mp4", LATE, sound=0.0)
    (tmp_path / "labels.csv").write_text("video,start,end,label\ncut.mp4,3.5,4.5,jump\n")
    options = ImportOptions(videos=VideoFolder(tmp_path))
    annotations = import_annotations([tmp_path / "labels.csv"], None, options).annotations
    assert annotations["cut"].duration == pytest.approx(5.0)
    cleaned, _ = annotations.clean()
    assert cleaned["cut"].segments.end.tolist() == [4.5]


CVAT = """<annotations><meta><task><id>1</id><name>cut.mp4</name><source>cut.mp4</source></task></meta>
<track id="0" label="jump"><box frame="5" outside="0"/><box frame="15" outside="1"/></track></annotations>"""


def test_frames_that_a_tool_counts_become_times_of_the_player_and_back(tmp_path):
    """CVAT counts pictures from 0, OpenTAD and ActionFormer seconds from the first picture."""
    make(tmp_path / "cut.mp4", LATE, sound=0.0)
    (tmp_path / "cvat.xml").write_text(CVAT)
    folder = VideoFolder(tmp_path)
    annotations = import_annotations([tmp_path / "cvat.xml"], None, ImportOptions(videos=folder)).annotations
    segments = annotations["cut"].segments
    assert (segments.start[0], segments.end[0]) == pytest.approx((3.5, 4.5))
    for name in ("opentad", "actionformer"):
        WRITERS[name](tmp_path / "out.json", annotations, folder)
        entry = json.loads((tmp_path / "out.json").read_text())["database"]["cut"]
        assert entry["annotations"][0]["segment"] == pytest.approx([0.5, 1.5])
        assert entry["duration"] == pytest.approx(2.0)
    WRITERS["activitynet"](tmp_path / "out.json", annotations, folder)
    assert load_annotations(tmp_path / "out.json")["cut"].segments.start[0] == pytest.approx(3.5)


def test_the_check_says_when_the_clocks_differ(tmp_path):
    make(tmp_path / "cut.mp4", LATE, sound=0.0)
    report = check_annotations(annotated(5.0, (3.0, 4.0)), tmp_path)
    (finding,) = [finding for finding in report.findings if finding.kind == "late-pictures"]
    assert (finding.severity, finding.video_id) == ("warning", "cut")
    assert "the first picture appears at 3.00 s, the last one ends at 5.00 s" in finding.detail
    assert "duration-differs" not in report.counts
