"""Time stamps that restart, jump or lie on another clock: all pictures stay within reach, in their order."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lofi_tal.annotations import Annotations, VideoAnnotation, check_annotations
from lofi_tal.data import video_files
from lofi_tal.segments import Segments
from lofi_tal.video import (
    FrameCache,
    VideoManifest,
    VideoRecord,
    View,
    cache,
    decode_frames,
    probe_video,
    stream_frames,
)
from lofi_tal.video.orientation import Orientation
from lofi_tal.video.stamps import LONGEST, mend
from tests.videos import GREY, MILLISECOND, every, joined, make, with_matrix

COUNT = 30


def levels(path):
    """Return the number that each picture's brightness tells, at the middle of F equal parts of the video."""
    info = probe_video(path)
    times = (np.arange(info.frames) + 0.5) * info.duration / info.frames
    decoded = decode_frames(path, times)
    assert decoded.missing == 0
    streamed = [picture.array() for _, picture in stream_frames(path, times)]
    np.testing.assert_array_equal(streamed, decoded.frames)
    return np.rint(decoded.frames.mean(axis=(1, 2, 3)) / GREY).astype(int).tolist()


@pytest.mark.parametrize("suffix", [".ts", ".mpg", ".mkv", ".webm"])
@pytest.mark.parametrize("sound", [None, 0.0])
def test_joined_recordings_play_one_after_the_other(suffix, sound, tmp_path):
    if suffix in (".webm", ".mpg") and sound is not None:
        pytest.skip("no AAC in there")
    codec, rate = {".webm": ("libvpx", 10), ".mpg": ("mpeg2video", 25)}.get(suffix, ("libx264", 10))
    stamps = every(1000 // rate, COUNT)
    parts = [
        make(tmp_path / f"{part}{suffix}", stamps, sound=sound, codec=codec, first=part * COUNT, rate=rate)
        for part in (0, 1)
    ]
    path = joined(tmp_path / f"cat{suffix}", *parts)
    info = probe_video(path)
    assert info.duration == pytest.approx(2 * COUNT / rate, abs=0.11)
    assert len(info.notes) == 1
    assert f"at picture {COUNT}: read on without a gap" in info.notes[0]
    assert info.start == pytest.approx(0, abs=0.1)
    assert info.frames == 2 * COUNT
    np.testing.assert_allclose(levels(path), range(2 * COUNT), atol=1 if suffix in (".webm", ".mpg") else 0)


def test_parts_with_b_frames_and_a_later_clock_first_are_told_apart(tmp_path):
    first = make(tmp_path / "0.ts", every(100, COUNT, start=500_000), bf="2")
    second = make(tmp_path / "1.ts", every(100, COUNT), first=COUNT, bf="2")
    path = joined(tmp_path / "cat.ts", first, second, make(tmp_path / "2.ts", every(100, 3, 9_000_000), first=60))
    assert levels(path) == list(range(63))
    assert probe_video(path).start == 0.0


def test_parts_that_overlap_are_not_mixed(tmp_path):
    first = make(tmp_path / "0.ts", every(100, COUNT, start=1000))
    path = joined(tmp_path / "cat.ts", first, make(tmp_path / "1.ts", every(100, COUNT, start=3500), first=COUNT))
    assert levels(path) == list(range(2 * COUNT))


def shifted(number, milliseconds, *, dts=False):
    def change(index, packet):
        if index in number:
            ticks = round(milliseconds * MILLISECOND / packet.time_base)
            packet.pts += ticks
            packet.dts += ticks if dts else 0

    return change


@pytest.mark.parametrize(
    ("name", "which", "milliseconds"),
    [
        ("far.mp4", [17], 9_000_000),
        ("near.mp4", [17], 400_000),
        ("two.mov", [5, 21], 9_000_000),
        ("far.mkv", [17], 9_000_000),
        ("first.mkv", [0], 9_000_000),
        ("last.mp4", [29], 9_000_000),
        ("far.flv", [17], 9_000_000),
    ],
)
@pytest.mark.parametrize("b_frames", ["0", "2"])
def test_a_stamp_of_another_clock_costs_nothing(name, which, milliseconds, b_frames, tmp_path):
    path = make(tmp_path / name, every(100, COUNT), change=shifted(which, milliseconds), bf=b_frames)
    info = probe_video(path)
    assert info.duration == pytest.approx(COUNT / 10, abs=0.31)
    assert sorted(set(levels(path))) == list(range(COUNT))
    assert info.notes


@pytest.mark.parametrize(("name", "jump"), [("a.mp4", 7_200_000), ("a.mkv", 7_200_000), ("a.ts", 60_000)])
def test_a_jump_ahead_that_no_picture_lasts_is_closed(name, jump, tmp_path):
    """The limits are ffplay's: an hour, and 10 s where stamps are free to jump."""
    stamps = [*every(100, 15), *every(100, 15, start=1500 + jump)]
    path = make(tmp_path / name, stamps)
    info = probe_video(path)
    assert info.duration == pytest.approx(3.0)
    assert "at picture 15: read on without a gap" in info.notes[0]
    assert levels(path) == list(range(COUNT))


def test_a_gap_that_players_show_stays_and_is_named(tmp_path):
    """Labels behind it keep their places."""
    path = make(tmp_path / "a.mkv", [*every(100, 15), *every(100, 15, start=61_500)])
    info = probe_video(path)
    assert info.duration == pytest.approx(63.0)
    assert info.notes == ("there is no picture for 60.1 s after second 1.40 of the pictures",)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_slides_and_still_screens_are_in_order(name, tmp_path):
    for stamps in ([0, 20_000, 45_000, 60_000], [*every(2000, 20), 41_000, 45_000]):
        info = probe_video(make(tmp_path / name, stamps))
        assert info.notes == ()
        np.testing.assert_allclose(info.times * 1000, stamps, atol=1)


def stream(count, reordered, steps):
    """Return the stamps of a sound stream in the order of the file."""
    shown = np.cumsum([0, *itertools.islice(itertools.cycle(steps), count - 1)])
    order, number = [0], 1
    while number < count:
        last = min(count - 1, number + reordered)
        order += [last, *range(number, last)]
        number = last + 1
    pts = shown[order].astype(np.int64)
    ahead = 2 if reordered else 0
    return pts, np.concatenate([shown[:1] - 2 * steps[0], shown[:1] - steps[0], shown])[2 - ahead :][:count]


@given(
    st.integers(30, 120), st.sampled_from([0, 2, 5]), st.lists(st.integers(20, 2000), min_size=1, max_size=9), st.data()
)
@settings(max_examples=60, deadline=None)
def test_stamps_in_line_stay_and_parts_of_them_are_joined(count, reordered, steps, data):
    pts, dts = stream(count, reordered, steps)
    for longest in LONGEST.values():
        assert mend(pts, dts, MILLISECOND, longest) is None
    times = data.draw(st.integers(2, 4))
    offset = data.draw(st.sampled_from([0, -3_600_000, 100_000_000]))
    parts = [(pts + offset * (part % 2), dts + offset * (part % 2)) for part in range(times)]
    joined_pts, joined_dts = (np.concatenate(rows) for rows in zip(*parts, strict=True))
    mended = mend(joined_pts, joined_dts, MILLISECOND, Fraction(3600))
    if pts.max() > 1000:  # parts of less may be mere jitter
        ranks = np.argsort(mended.pts).reshape(times, count)
        np.testing.assert_array_equal(ranks, np.argsort(pts) + count * np.arange(times)[:, None])


def test_stamps_that_overflow_count_on():
    """Block times of WebM files that a recorder wrote without new clusters: 16 bits of milliseconds."""
    shown = np.arange(0, 150_000, 33)
    written = (shown + 32_768) % 65_536 - 32_768
    mended = mend(written, written, MILLISECOND, LONGEST[False])
    np.testing.assert_array_equal(mended.pts, shown)
    assert len(mended.notes) == 2


def test_the_check_names_what_is_wrong_and_a_run_is_told(tmp_path, caplog):
    make(tmp_path / "a.mp4", every(100, COUNT), change=shifted([17], 9_000_000))
    segments = Segments("a", [0], [1], ("jump",), [1], 3.0)
    annotations = Annotations({"a": VideoAnnotation("a", 3.0, "training", segments)})
    manifest = VideoManifest(tmp_path / "videos.jsonl")
    report = check_annotations(annotations, tmp_path, manifest=manifest)
    (finding,) = [finding for finding in report.findings if finding.kind == "time-stamps"]
    assert "picture 17 says 9001.70 s and does not fit the pictures around it" in finding.detail
    files, _ = video_files({"a": tmp_path / "a.mp4"}, VideoManifest(tmp_path / "videos.jsonl"))
    assert "picture 17 says 9001.70 s" in caplog.text
    record = manifest.known[str(tmp_path / "a.mp4")]
    assert files["a"].stamp == record.identity != record.stamp  # features that were made of other pictures do not fit


def test_records_of_an_older_version_are_made_anew(tmp_path):
    path = make(tmp_path / "a.mp4", every(100, 20, start=3000), sound=0.0)
    VideoManifest(tmp_path / "new.jsonl").examine([path])
    line = json.loads((tmp_path / "new.jsonl").read_text())
    del line["check"]
    old = {key: value for key, value in line.items() if key not in ("layout", "start", "mirrored", "notes")}
    for content in (old, line | {"layout": 1}, line | {"start": "3"}, line | {"notes": [5]}, line | {"mirrored": 1}):
        (tmp_path / "old.jsonl").write_text(json.dumps(content) + "\n")
        manifest = VideoManifest(tmp_path / "old.jsonl")
        assert manifest.known == {}
        assert manifest.examine([path])[path].start == pytest.approx(3.0)
    assert VideoRecord.from_json(line) == manifest.known[str(path)]


def test_frames_that_an_older_version_kept_are_not_taken(tmp_path, monkeypatch):
    path = make(tmp_path / "a.mp4", every(100, 5))
    view = View(np.array([0.05, 0.25]))
    monkeypatch.setattr(cache, "_LAYOUT", 3)
    FrameCache(tmp_path / "cache", 10**8).fill(path, [view])
    monkeypatch.undo()
    assert not FrameCache(tmp_path / "cache", 10**8).holds(path, [view])


MATRICES = {
    "upright": (1, 0, 0, 1),
    "half-turn": (-1, 0, 0, -1),
    "clockwise": (0, 1, -1, 0),
    "counter-clockwise": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "upside-down": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "other-diagonal": (0, -1, -1, 0),
}


def shown_by_the_matrix(picture, a, b, c, d):
    """Move each pixel where the matrix says; x goes to the right, y down."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width]
    right, down = a * x + c * y, b * x + d * y
    moved = np.zeros((int(np.ptp(down)) + 1, int(np.ptp(right)) + 1, 3), picture.dtype)
    moved[down - down.min(), right - right.min()] = picture
    return moved


@pytest.mark.parametrize("name", MATRICES)
def test_all_eight_orientations_are_those_of_the_matrix(name, tmp_path):
    import av

    whole = tmp_path / "whole.mp4"
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:12, :16], picture[:12, 48:] = 255, 128
    with av.open(str(whole), "w") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        file.mux(stream.encode(None))
    turned = with_matrix(tmp_path / "turned.mp4", whole, *MATRICES[name])
    upright = decode_frames(whole, [0.05]).frames[0]
    expected = shown_by_the_matrix(upright, *MATRICES[name])
    np.testing.assert_array_equal(decode_frames(turned, [0.05]).frames[0], expected)
    info = probe_video(turned)
    assert (info.height, info.width) == expected.shape[:2]
    assert info.mirrored == (name in ("mirrored", "upside-down", "transposed", "other-diagonal"))
    seen = Orientation(info.rotation // 90, info.mirrored).upright(upright)
    np.testing.assert_array_equal(seen, expected)
    record = VideoManifest(None).examine([turned])[turned]
    assert (record.identity != record.stamp) == info.mirrored
