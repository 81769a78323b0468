"""What probing says of a file, against the packets written into it and against ffprobe's view of odd files."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from lofi_tal.video import (
    VideoError,
    container,
    decode_frames,
    frame_times,
    probe_video,
    stream_frames,
    watch,
    write_video,
)

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def encode(
    path: Path, count: int, *, pts=None, base=Fraction(1, 1000), options=None, codec="libx264", **kwargs
) -> None:
    """Write ``count`` grey frames with the given time stamps."""
    with av.open(str(path), "w", **kwargs) as file:
        stream = file.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.time_base = 64, 48, "yuv420p", base
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 7 * number % 256, np.uint8), "rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = (number * 40 if pts is None else pts[number]), base
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def write_audio(path: Path) -> None:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def test_variable_frame_rate_gives_each_frame_its_own_time(tmp_path):
    stamps = [0, 40, 140, 150, 400, 1000, 1033]
    encode(tmp_path / "vfr.mkv", len(stamps), pts=stamps)
    info = probe_video(tmp_path / "vfr.mkv")
    np.testing.assert_allclose(info.times, np.array(stamps) / 1000)
    assert info.frames == 7
    assert info.times.dtype == np.float64
    assert info.duration > 1.033
    assert info.fps == pytest.approx(7 / info.duration)


def test_first_time_stamp_is_the_origin(tmp_path):
    encode(tmp_path / "late.mkv", 5, pts=[5000, 5040, 5080, 5120, 5160])
    np.testing.assert_allclose(probe_video(tmp_path / "late.mkv").times, [0, 0.04, 0.08, 0.12, 0.16])


def test_reordered_frames_come_out_sorted(tmp_path):
    encode(tmp_path / "b.mp4", 30, options={"bf": "3"})
    info = probe_video(tmp_path / "b.mp4")
    np.testing.assert_allclose(info.times, np.arange(30) / 25, atol=1e-9)
    assert info.duration == pytest.approx(30 / 25)


def test_stream_without_time_stamps_is_counted_by_decoding(tmp_path):
    encode(tmp_path / "raw.h264", 20, format="h264", options={"bf": "2"})
    info = probe_video(tmp_path / "raw.h264")
    assert info.frames == 20
    assert (np.diff(info.times) > 0).all()
    assert info.duration == pytest.approx(20 * np.diff(info.times)[0])


def test_frames_that_an_edit_list_cuts_are_not_counted(tmp_path):
    encode(tmp_path / "whole.mp4", 20, options={"bf": "2", "g": "20"})
    with av.open(str(tmp_path / "whole.mp4")) as source, av.open(str(tmp_path / "cut.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                early = round(Fraction(1, 5) / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - early, packet.dts - early, stream
                target.mux(packet)
    info = probe_video(tmp_path / "cut.mp4")
    assert info.frames == 15
    assert info.times[0] == 0
    assert info.duration == pytest.approx(0.6)


@pytest.fixture
def read(monkeypatch):
    """The files whose packets are read, of which each process remembers what it found."""
    paths = []
    original = frame_times._read_packets
    monkeypatch.setattr(frame_times, "_read_packets", lambda path: (paths.append(path), original(path))[1])
    monkeypatch.setattr(frame_times, "_SETTLED", 0)
    monkeypatch.setattr(frame_times, "_recent", OrderedDict())
    return paths


def test_the_packets_of_a_file_are_read_once(tmp_path, read):
    path = tmp_path / "a.mp4"
    write_video(path, [np.full((16, 16, 3), i, np.uint8) for i in range(20)], fps=10)
    times = probe_video(path).times
    times[:] = 0  # the caller's own
    for wanted in ([0.3], [1.2, 0.1]):
        assert decode_frames(path, wanted).times.tolist() == pytest.approx(wanted)
    list(stream_frames(path, [0.5]))
    assert read == [path]


@pytest.mark.parametrize("how", ["in place", "renamed over", "another rate", "removed"])
def test_a_file_that_has_changed_is_read_again(how, tmp_path, read):
    """Its size and the time of change that programs can set stay what they were."""
    path, other = tmp_path / "a.mkv", tmp_path / "b.mkv"
    encode(path, 5, pts=[0, 40, 80, 120, 160])
    encode(other, 5, pts=[0, 40, 80, 120, 170])
    status = path.stat()
    assert other.stat().st_size == status.st_size
    assert probe_video(path).times[-1] == pytest.approx(0.16)
    if how == "in place":
        path.write_bytes(other.read_bytes())
    elif how == "renamed over":
        other.replace(path)
    elif how == "another rate":
        encode(path, 6, pts=[0, 40, 80, 120, 160, 170])
    else:
        path.unlink()
        with pytest.raises(VideoError, match="does not exist"):
            probe_video(path)
        return
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert probe_video(path).times[-1] == pytest.approx(0.17)


def test_a_file_that_has_just_been_written_is_not_remembered(tmp_path, read, monkeypatch):
    monkeypatch.setattr(frame_times, "_SETTLED", 3600)
    write_video(tmp_path / "a.mp4", [np.zeros((16, 16, 3), np.uint8)], fps=10)
    assert [probe_video(tmp_path / "a.mp4").frames for _ in range(2)] == [1, 1]
    assert len(read) == 2


@pytest.mark.parametrize("limit", ["_FILES", "_FRAMES"])
def test_what_is_remembered_is_bounded_and_the_last_files_stay(limit, tmp_path, read, monkeypatch):
    monkeypatch.setattr(frame_times, limit, {"_FILES": 2, "_FRAMES": 10}[limit])
    paths = [tmp_path / f"{name}.mp4" for name in "abc"]
    for path in paths:
        write_video(path, [np.zeros((16, 16, 3), np.uint8)] * 5, fps=10)
    for place in (0, 1, 0, 2, 0, 1):
        probe_video(paths[place])
    assert read == [paths[0], paths[1], paths[2], paths[1]]


def drip(pipe: Path, data: bytes) -> None:
    """Write a byte at a time, without end."""
    with contextlib.suppress(BrokenPipeError), pipe.open("wb", buffering=0) as handle:
        handle.write(data)
        while True:
            handle.write(b"\0")
            time.sleep(0.01)


def test_storage_that_hardly_answers_is_no_end_of_the_file(tmp_path, monkeypatch):
    encode(tmp_path / "whole.ts", 20)
    monkeypatch.setattr(container, "_check_file", lambda path: None)  # a pipe stands for a slow disk
    monkeypatch.setattr(watch, "SILENCE_SECONDS", 0.3)
    for known in (b"", (tmp_path / "whole.ts").read_bytes()):
        pipe = tmp_path / f"{len(known)}.ts"
        os.mkfifo(pipe)
        threading.Thread(target=drip, args=(pipe, known), daemon=True).start()
        with pytest.raises(VideoError, match=re.escape(f"{pipe}: hangs (it gave nothing for 0.3 s)")):
            probe_video(pipe)


def test_one_frame_lasts_one_frame(tmp_path):
    write_video(tmp_path / "one.mp4", [np.zeros((16, 16, 3), np.uint8)], fps=10)
    info = probe_video(tmp_path / "one.mp4")
    assert (info.frames, info.duration, info.times.tolist()) == (1, pytest.approx(0.1), [0.0])


def test_info_is_shown_and_compared_without_the_times(tmp_path):
    write_video(tmp_path / "a.mp4", [np.zeros((16, 24, 3), np.uint8)] * 3, fps=10)
    info = probe_video(str(tmp_path / "a.mp4"))
    assert info == probe_video(tmp_path / "a.mp4")
    assert "times" not in repr(info)
    assert (info.width, info.height, info.codec, info.rotation) == (24, 16, "h264", 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (bytes(range(256)) * 40, "not a video"),
        (b"this is a text, whatever its name says\n" * 50, "not a video"),
        (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + bytes(5000), "without its index"),
    ],
    ids=["empty", "random", "text", "no-moov"],
)
def test_what_is_no_video_is_refused_in_one_line(tmp_path, content, reason):
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=reason) as caught:
        probe_video(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_folder_and_audio_are_refused(tmp_path):
    with pytest.raises(VideoError, match="does not exist"):
        probe_video(tmp_path / "none.mp4")
    with pytest.raises(VideoError, match="folder"):
        probe_video(tmp_path)
    write_audio(tmp_path / "sound.mp4")
    with pytest.raises(VideoError, match="only audio"):
        probe_video(tmp_path / "sound.mp4")


def test_still_picture_is_refused(tmp_path):
    with av.open(str(tmp_path / "still.png"), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")))
    for name in ("still.png", "still.mp4"):
        (tmp_path / "still.png").replace(tmp_path / name)
        with pytest.raises(VideoError, match="still picture"):
            probe_video(tmp_path / name)
        (tmp_path / name).replace(tmp_path / "still.png")


def test_playlist_named_as_a_video_opens_nothing_else(tmp_path):
    write_video(tmp_path / "real.mp4", [np.zeros((16, 16, 3), np.uint8)] * 3, fps=10)
    for text in ("#EXTM3U\n#EXTINF:1,\nreal.mp4\n", "#EXTM3U\n#EXTINF:1,\nhttp://localhost:9/x.ts\n#EXT-X-ENDLIST\n"):
        (tmp_path / "list.mp4").write_text(text)
        with pytest.raises(VideoError):
            probe_video(tmp_path / "list.mp4")


def test_truncated_copy_is_as_long_as_what_is_left(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (50, 48, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "whole.mp4", noise, fps=25)
    whole = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    info = probe_video(tmp_path / "half.mp4")
    assert 10 < info.frames < 40
    assert info.duration == pytest.approx(info.frames / 25)


def test_names_with_odd_characters_open(tmp_path):
    for name in ("-a b%03d.mp4", "concat:a|b.mp4", "ä?#.mp4"):
        write_video(tmp_path / name, [np.zeros((16, 16, 3), np.uint8)] * 2, fps=10)
        assert probe_video(tmp_path / name).frames == 2


def probe_rows() -> list[list[str]]:
    table = SHARED / "odd" / "PROBE.tsv"
    return [line.split("\t") for line in table.read_text().splitlines()] if table.exists() else []


@pytest.mark.shared
@pytest.mark.parametrize("row", probe_rows(), ids=lambda row: row[0])
def test_odd_files_agree_with_ffprobe(row, capfd):
    """Oracle: counts of ffmpeg's decoder. Two differ: one has a packet that no decoder takes, one two video streams."""
    expected = int(next(cell for cell in row if cell.startswith("decoded=")).removeprefix("decoded="))
    expected = {"decord_corrupted.mp4": 50, "torchcodec_nasa_13013.mp4": 390}.get(row[0], expected)
    path = SHARED / "odd" / row[0]
    if not expected:
        with pytest.raises(VideoError):
            probe_video(path)
        return
    info = probe_video(path)
    assert info.frames == len(info.times) == expected
    assert (np.diff(info.times) > 0).all()
    assert info.duration > info.times[-1]
    rotated = any(cell in ("rot=90", "rot=-90") for cell in row)
    if row[0] != "torchcodec_nasa_13013.mp4":
        assert f"{info.width}x{info.height}" == ("x".join(row[3].split("x")[::-1]) if rotated else row[3])
        assert info.codec == row[2]
    assert capfd.readouterr() == ("", "")


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the data folder is absent")
def test_frame_count_of_activitynet_videos_is_the_stored_one():
    for path in (SHARED / "activitynet_clips").glob("*.mp4"):
        with av.open(str(path)) as container:
            stored = container.streams.video[0].frames
        assert probe_video(path).frames == stored
