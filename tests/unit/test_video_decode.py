"""Decoded frames against a plain reference that decodes everything, whatever is asked for and in whatever order."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lofi_tal.errors import LofiError
from lofi_tal.video import (
    VideoError,
    decode,
    decode_frames,
    frame_reader,
    frame_times,
    probe_video,
    stream_frames,
    write_video,
)
from lofi_tal.video.orientation import Orientation
from lofi_tal.video.pictures import Scaler

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
BITS = 8


def numbered(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Return a picture whose upright stripes spell ``number`` in binary."""
    bits = [255 * (number >> bit & 1) for bit in range(BITS)]
    row = np.repeat(np.array(bits, np.uint8), width // BITS)
    return np.ascontiguousarray(np.broadcast_to(row[None, :, None], (height, len(row), 3)))


def numbers(frames: np.ndarray) -> list[int]:
    """Read the pictures back."""
    stripes = frames[..., 0].mean(1).reshape(len(frames), BITS, frames.shape[2] // BITS).mean(-1)
    return [int(sum((value > 127) << bit for bit, value in enumerate(row))) for row in stripes]


def encode(path: Path, stamps, *, base=Fraction(1, 1000), codec="libx264", options=None, sides=None, **kwargs) -> Path:
    """Write numbered pictures with the given time stamps."""
    with av.open(str(path), "w", **kwargs) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height = sides or (64, 48)
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", base
        for number, stamp in enumerate(stamps):
            picture = numbered(number, stream.height, stream.width)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = int(stamp), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def cfr(tmp_path_factory) -> Path:
    """200 frames at 25 a second, a key frame every 20, reordered frames."""
    path = tmp_path_factory.mktemp("decode") / "cfr.mp4"
    return encode(path, np.arange(200) * 40, options={"g": "20", "keyint_min": "20", "bf": "3"})


@pytest.mark.parametrize("jump", [2, 30, 10**6], ids=["often", "normal", "never"])
@pytest.mark.parametrize("threads", [1, 2])
def test_any_selection_in_any_order_gives_the_right_frames(cfr, monkeypatch, jump, threads):
    monkeypatch.setattr(frame_reader, "_WORTH_A_JUMP", jump)
    random = np.random.default_rng(jump)
    for count in (1, 2, 5, 30):
        chosen = random.integers(0, 200, count)
        result = decode_frames(cfr, (chosen + 0.5) / 25, threads=threads)
        assert numbers(result.frames) == chosen.tolist()
        np.testing.assert_allclose(result.times, chosen / 25, atol=1e-9)
        assert result.missing == 0
        assert result.frames.flags["C_CONTIGUOUS"]


def test_frame_is_the_one_on_screen(tmp_path):
    stamps = np.array([0, 40, 140, 150, 400, 1000, 1033])
    path = encode(tmp_path / "vfr.mkv", stamps + 700)
    asked = [-3, 0, 0.039, 0.04, 0.139, 0.14, 0.15, 0.3999, 0.9, 1.0, 1.0329999, 99]
    result = decode_frames(path, asked)
    assert numbers(result.frames) == [0, 0, 0, 1, 1, 2, 3, 3, 4, 5, 6, 6]
    np.testing.assert_allclose(result.times, stamps[[0, 0, 0, 1, 1, 2, 3, 3, 4, 5, 6, 6]] / 1000)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(times=st.lists(st.floats(-1, 12), max_size=12))
def test_each_time_stands_for_itself(cfr, times):
    """Metamorphic: a list of times gives what each of them gives alone."""
    together = decode_frames(cfr, times, short_side=24)
    assert together.frames.shape == (len(times), 24, 32, 3)
    expected = [min(199, max(0, int((time + 1e-6) * 25))) for time in times]
    assert numbers(together.frames) == expected


def watch(monkeypatch) -> list[int]:
    """Return a list that grows by the time stamp of each decoded frame."""
    seen: list[int] = []
    original = frame_reader.all_frames
    monkeypatch.setattr(
        frame_reader, "all_frames", lambda *a: (seen.append(frame.pts) or frame for frame in original(*a))
    )
    return seen


def test_every_frame_decodes_once_and_no_further_than_needed(cfr, monkeypatch):
    seen = watch(monkeypatch)
    decode_frames(cfr, [0.5, 0.1, 0.5, 0.5, 0.3])
    assert len(seen) == len(set(seen))
    assert 3 <= len(seen) < 13  # some of the first 13 are B-frames that nothing refers to and nobody asked for


def test_far_frames_are_reached_by_a_jump(cfr, monkeypatch):
    seen = watch(monkeypatch)
    assert numbers(decode_frames(cfr, [0.0, 7.9]).frames) == [0, 197]
    assert len(seen) < 30


def test_gradual_refresh_is_read_from_the_start(tmp_path, monkeypatch):
    """Its packets are flagged as key frames, though decoding cannot begin there."""
    path = encode(
        tmp_path / "refresh.mkv", np.arange(120) * 40, options={"x264-params": "intra-refresh=1:keyint=20:bframes=0"}
    )
    assert len(frame_times.scan(path).keys) > 3
    chosen = np.array([3, 70, 110])
    monkeypatch.setattr(frame_reader, "_WORTH_A_JUMP", 10**6)
    straight = decode_frames(path, chosen / 25)
    monkeypatch.setattr(frame_reader, "_WORTH_A_JUMP", 2)
    np.testing.assert_array_equal(decode_frames(path, chosen / 25).frames, straight.frames)
    assert numbers(straight.frames) == chosen.tolist()


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.webm", "libvpx", {"g": "15"}),
        ("a.webm", "libvpx-vp9", {"g": "15", "deadline": "realtime", "cpu-used": "8"}),
        ("a.mp4", "libx265", {"x265-params": "keyint=15:log-level=none"}),
        ("a.mp4", "mpeg4", {"g": "15", "bf": "2"}),
        ("a.avi", "mpeg4", {"g": "15", "bf": "2"}),
        ("a.ts", "libx264", {"g": "15", "bf": "2"}),
        ("a.h264", "libx264", {"g": "15", "bf": "2"}),
        ("a.mpg", "mpeg2video", {"g": "12", "bf": "2"}),
        ("a.mkv", "mjpeg", {}),
    ],
    ids=["vp8", "vp9", "hevc", "mpeg4", "avi", "ts", "raw", "mpeg2", "mjpeg"],
)
def test_codecs_and_containers_give_the_right_frames(tmp_path, monkeypatch, name, codec, options):
    if codec not in av.codecs_available:
        pytest.skip(f"{codec} is not in this FFmpeg")
    monkeypatch.setattr(frame_reader, "_WORTH_A_JUMP", 2)
    base = Fraction(1, 25)
    if codec == "mjpeg":
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
            for number in range(60):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(number), "rgb24")))
            container.mux(stream.encode(None))
    else:
        path = encode(tmp_path / name, range(60), base=base, codec=codec, options=options)
    info = probe_video(path)
    assert info.frames == 60
    chosen = np.array([0, 7, 8, 31, 46, 59])
    assert numbers(decode_frames(path, info.times[chosen]).frames) == chosen.tolist()


def test_scaling_is_antialiased_and_unbiased(tmp_path):
    """Oracle: torch's antialiased bilinear interpolation of the picture written (noise would alias otherwise)."""
    picture = np.random.default_rng(0).integers(40, 216, (240, 320, 1), dtype=np.uint8).repeat(3, 2)
    write_video(tmp_path / "noise.mp4", [picture], fps=10, crf=0)
    small = decode_frames(tmp_path / "noise.mp4", [0], short_side=60).frames
    assert small.shape == (1, 60, 80, 3)
    image = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(image, (60, 80), mode="bilinear", antialias=True)
    difference = small.astype(float) - expected.permute(0, 2, 3, 1).numpy()
    assert abs(difference.mean()) < 0.3
    assert np.abs(difference).mean() < 1.5


@pytest.mark.parametrize("full_range", [False, True])
def test_colours_survive(tmp_path, full_range):
    path = tmp_path / "colours.mp4"
    colours = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128]], np.uint8)
    pictures = [np.broadcast_to(colour, (64, 96, 3)) for colour in colours]
    if full_range:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10, options={"crf": "1"})
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
            stream.codec_context.color_range = 2
            for picture in pictures:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
                container.mux(stream.encode(frame.reformat(format="yuvj420p", dst_color_range=2)))
            container.mux(stream.encode(None))
    else:
        write_video(path, pictures, fps=10, crf=1)
    for short_side in (None, 32):
        frames = decode_frames(path, np.arange(6) / 10, short_side=short_side).frames
        np.testing.assert_allclose(frames.mean((1, 2)), colours, atol=4)


def test_sizes_are_those_of_the_display(tmp_path):
    write_video(tmp_path / "wide.mp4", [np.zeros((48, 128, 3), np.uint8)], fps=10)
    assert decode_frames(tmp_path / "wide.mp4", [0], short_side=31).frames.shape == (1, 31, 83, 3)
    assert decode_frames(tmp_path / "wide.mp4", [0], size=(20, 33)).frames.shape == (1, 20, 33, 3)
    assert decode_frames(tmp_path / "wide.mp4", [0], short_side=100).frames.shape == (1, 100, 267, 3)
    assert decode_frames(tmp_path / "wide.mp4", [0], short_side=1).frames.shape == (1, 1, 3, 3)
    assert decode_frames(tmp_path / "wide.mp4", []).frames.shape == (0, 48, 128, 3)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied_after_scaling(tmp_path, degrees):
    path = tmp_path / "turned.mp4"
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32] = 255  # upper left
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(degrees)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    info = probe_video(path)
    frame = decode_frames(path, [0], short_side=24).frames[0]
    assert frame.shape == ((32, 24, 3) if degrees % 180 else (24, 32, 3))
    assert (info.height, info.width) == ((64, 48) if degrees % 180 else (48, 64))
    expected = np.rot90(decode_frames(path, [0]).frames[0], -info.rotation // 90)
    np.testing.assert_allclose(expected, picture, atol=12)


def test_change_of_resolution_keeps_the_first_size(tmp_path):
    path = tmp_path / "change.ts"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(number), "rgb24")))
        container.mux(stream.encode(None))
        other = av.CodecContext.create("libx264", "w")
        other.width, other.height, other.pix_fmt = 128, 96, "yuv420p"
        other.time_base, other.framerate, other.options = Fraction(1, 25), Fraction(25), {"bf": "0"}
        pictures = [av.VideoFrame.from_ndarray(numbered(number, 96, 128), "rgb24") for number in range(10, 20)]
        for number, frame in [*enumerate(pictures, 10), (0, None)]:
            if frame is not None:
                frame.pts = number
            for packet in other.encode(frame):
                packet.stream = stream
                packet.time_base = Fraction(1, 25)
                container.mux(packet)
    info = probe_video(path)
    result = decode_frames(path, info.times)
    assert result.frames.shape[1:] == (48, 64, 3)
    assert numbers(result.frames) == list(range(20))


def damage(path: Path, broken: range) -> Path:
    """Give the packets of some frames a length that cannot be, so that the decoder refuses them."""
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for number in broken:
        data[places[number] : places[number] + 4] = b"\xff\xff\xff\xff"
    target = path.with_name("damaged.mp4")
    target.write_bytes(data)
    return target


def test_damaged_frames_are_replaced_by_the_nearest(tmp_path, capfd):
    write_video(tmp_path / "whole.mp4", (numbered(i) for i in range(60)), fps=25, gop=10)
    path = damage(tmp_path / "whole.mp4", range(20, 28))
    result = decode_frames(path, np.arange(60) / 25)
    shown = np.rint(result.times * 25).astype(int).tolist()
    assert shown[:20] == list(range(20))
    assert shown[28:] == list(range(28, 60))
    assert shown[20:28] == [19, 19, 19, 19, 28, 28, 28, 28]
    assert result.missing == 6  # 20 and 27 show their neighbours
    assert result.replaced.tolist() == [21 <= i <= 26 for i in range(60)]
    alone = decode_frames(path, [20 / 25, 23 / 25, 24 / 25])
    np.testing.assert_array_equal(alone.frames, result.frames[[20, 23, 24]])
    assert capfd.readouterr() == ("", "")


def test_damaged_key_frame_does_not_change_what_a_jump_finds(tmp_path, monkeypatch):
    monkeypatch.setattr(frame_reader, "_WORTH_A_JUMP", 2)
    write_video(tmp_path / "whole.mp4", (numbered(i) for i in range(60)), fps=25, gop=10)
    path = damage(tmp_path / "whole.mp4", range(40, 41))
    for wanted in (40, 43):
        monkeypatch.setattr(frame_reader, "_WORTH_A_JUMP", 10**6)
        straight = decode_frames(path, [0, wanted / 25])
        monkeypatch.setattr(frame_reader, "_WORTH_A_JUMP", 2)
        jumped = decode_frames(path, [0, wanted / 25])
        np.testing.assert_array_equal(jumped.frames, straight.frames)
        np.testing.assert_array_equal(jumped.times, straight.times)


def test_video_without_one_good_frame_is_refused(tmp_path):
    write_video(tmp_path / "whole.mp4", (numbered(i) for i in range(20)), fps=25)
    path = damage(tmp_path / "whole.mp4", range(20))
    for call in (probe_video, lambda p: decode_frames(p, [0.1])):
        with pytest.raises(VideoError, match="not one frame can be decoded") as caught:
            call(path)
        assert "damaged.mp4" in str(caught.value)


def test_streaming_gives_the_same_frames_one_by_one(cfr):
    times = np.sort(np.random.default_rng(3).uniform(0, 8, 40))
    streamed = list(stream_frames(cfr, times, short_side=30))
    assert [index for index, _ in streamed] == list(range(40))
    np.testing.assert_array_equal(
        np.stack([picture.array() for _, picture in streamed]), decode_frames(cfr, times, short_side=30).frames
    )


def test_streaming_can_be_left_early(cfr):
    frames = stream_frames(cfr, np.arange(200) / 25)
    assert [next(frames)[0] for _ in range(3)] == [0, 1, 2]
    frames.close()


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"times": [[0.0]]}, "shape"),
        ({"times": [0.0, float("nan")]}, "nan"),
        ({"times": [0.0], "short_side": 0}, "short_side=0"),
        ({"times": [0.0], "size": (0, 4)}, "size"),
        ({"times": [0.0], "size": (4, 4), "short_side": 4}, "exclude"),
        ({"times": [0.0], "threads": 0}, "threads=0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(cfr, kwargs, said):
    times = kwargs.pop("times")
    for call in (decode_frames, stream_frames):
        with pytest.raises(LofiError, match=said):
            call(cfr, times, **kwargs)
    with pytest.raises(LofiError, match="sorted"):
        stream_frames(cfr, [1.0, 0.5])


def reference(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(container.streams.best("video")))


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the data folder is absent")
@pytest.mark.parametrize(
    "name",
    [
        "odd/gmdcsa_vfr_s2_fall12.mp4",
        "odd/mde_with-gps.mov",
        "odd/mmaction2_test.avi",
        "odd/mmaction2_test.mp4",
        "odd/decord_flipping_a_pancake.mkv",
        "odd/torchcodec_h265_video.mp4",
        "odd/moviepy_pigs_in_a_polka.gif",
        "odd/moviepy_bitmap.mp4",
        "odd/torchcodec_h264_10bits.mp4",
        "odd/torchcodec_av1_video.mkv",
        "odd/torchcodec_nasa_13013.mp4",
        "activitynet_clips/v_GGSY1Qvo990.mp4",
        "activitynet_clips/v_ZNVhz7ctTq0.mp4",
    ],
)
def test_real_files_give_the_frames_of_a_full_decode(name, monkeypatch):
    monkeypatch.setattr(frame_reader, "_WORTH_A_JUMP", 4)
    path = SHARED / name
    info = probe_video(path)
    frames = reference(path)
    assert len(frames) == info.frames
    chosen = np.unique(np.random.default_rng(0).integers(0, info.frames, 12))
    result = decode_frames(path, info.times[chosen], short_side=40)
    to_rgb = Scaler(path, result.frames.shape[1:3], Orientation(info.rotation // 90))
    for picture, number in zip(result.frames, chosen, strict=True):
        np.testing.assert_array_equal(picture, to_rgb(number, frames[number]).array())
    assert result.missing == 0


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the data folder is absent")
def test_rotated_recordings_have_the_shape_of_their_display():
    shapes = [decode_frames(SHARED / f"odd/decord_video_{turn}.mov", [0]).frames.shape for turn in (0, 90, 180, 270)]
    assert shapes == [(1, 320, 568, 3), (1, 568, 320, 3)] * 2


def test_an_unknown_or_missing_decoder_is_said(cfr, monkeypatch):
    view = decode.View(np.array([0.1]))
    with pytest.raises(LofiError, match="Did you mean 'torchcodec'"):
        decode.decode_views(cfr, [view], decoder="torchcodek")
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(LofiError, match="pip install"):
        decode.decode_views(cfr, [view], decoder="torchcodec")


@pytest.mark.parametrize("short_side", [None, 17])
def test_torchcodec_gives_the_same_frames_within_rounding(cfr, short_side):
    pytest.importorskip("torchcodec.decoders", exc_type=(ImportError, RuntimeError, OSError))
    view = decode.View(np.array([0.5, 0.1, 3.33, 0.5, 100.0]), short_side)
    ours, theirs = (decode.decode_views(cfr, [view], decoder=name)[0] for name in decode.DECODERS)
    np.testing.assert_array_equal(ours.times, theirs.times)
    assert np.abs(ours.frames.astype(int) - theirs.frames).max() <= 4


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the data folder is absent")
@pytest.mark.parametrize(
    "name",
    [
        "odd/decord_video_90.mov",
        "odd/decord_video_180.mov",
        "odd/mde_with-gps.mov",
        "odd/gmdcsa_vfr_s2_fall12.mp4",
        "odd/torchcodec_av1_video.mkv",
        "odd/mmaction2_test.avi",
        "activitynet_clips/v_GGSY1Qvo990.mp4",
    ],
)
def test_torchcodec_agrees_on_real_files(name):
    pytest.importorskip("torchcodec.decoders", exc_type=(ImportError, RuntimeError, OSError))
    info = probe_video(SHARED / name)
    view = decode.View(info.times[:: max(1, info.frames // 7)], short_side=64)
    ours, theirs = (decode.decode_views(SHARED / name, [view], decoder=decoder)[0] for decoder in decode.DECODERS)
    np.testing.assert_array_equal(ours.times, theirs.times)
    assert np.abs(ours.frames.astype(int) - theirs.frames).mean() < 3
