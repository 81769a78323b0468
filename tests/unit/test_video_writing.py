"""Written videos: same bytes from run to run, playable, faithful, whole or not there."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from lofi_tal.errors import LofiError, RunError
from lofi_tal.video import decode_frames, probe_video, write_video

SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from lofi_tal.video import write_video
base = np.linspace(0, 255, 96 * 128 * 3).reshape(96, 128, 3)
frames = (np.roll(base, 5 * i, axis=1).astype(np.uint8) for i in range(40))
write_video(Path(sys.argv[1]), frames, fps=25, gop=12)
"""


def moving(count: int, height: int = 96, width: int = 128):
    base = np.linspace(0, 255, height * width * 3).reshape(height, width, 3)
    return (np.roll(base, 5 * i, axis=1).astype(np.uint8) for i in range(count))


def test_two_processes_write_the_same_bytes(tmp_path):
    paths = [tmp_path / name for name in ("a.mp4", "b.mp4")]
    for path in paths:
        subprocess.run([sys.executable, "-c", SCRIPT, str(path)], check=True)
    write_video(tmp_path / "c.mp4", moving(40), fps=25, gop=12)
    first, second = (path.read_bytes() for path in paths)
    assert first == second == (tmp_path / "c.mp4").read_bytes()


def test_file_plays_while_it_loads(tmp_path):
    write_video(tmp_path / "a.mp4", moving(20), fps=25)
    data = (tmp_path / "a.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.has_b_frames) == ("h264", "yuv420p", False)


@pytest.mark.parametrize(("fps", "rate"), [(25, 25), (29.97, Fraction(30000, 1001)), (7.5, 7.5), (Fraction(24), 24)])
def test_rate_and_count_are_kept(tmp_path, fps, rate):
    write_video(tmp_path / "a.mp4", moving(31), fps=fps)
    info = probe_video(tmp_path / "a.mp4")
    assert info.frames == 31
    assert info.fps == pytest.approx(float(rate), rel=1e-4)
    np.testing.assert_allclose(info.times, np.arange(31) / float(rate), atol=1e-4)


def test_pictures_come_back(tmp_path):
    x, y = np.meshgrid(np.arange(128), np.arange(96))
    pictures = np.stack([np.stack([x, y, np.full_like(x, 20 * i)], 2) for i in range(6)]).astype(np.uint8)
    write_video(tmp_path / "a.mp4", pictures, fps=10, crf=10)
    back = decode_frames(tmp_path / "a.mp4", np.arange(6) / 10).frames.astype(float)
    assert np.abs(back - pictures).mean() < 2.5


def test_key_frames_are_no_further_apart_than_asked(tmp_path):
    write_video(tmp_path / "a.mp4", moving(40), fps=25, gop=8)
    with av.open(str(tmp_path / "a.mp4")) as container:
        keys = [i for i, packet in enumerate(container.demux(video=0)) if packet.is_keyframe]
    assert max(np.diff(keys)) <= 8


def test_threads_and_reordering_are_there_where_reproducible_bytes_are_not_needed(tmp_path):
    write_video(tmp_path / "a.mp4", moving(40), fps=25, deterministic=False, preset="medium")
    assert probe_video(tmp_path / "a.mp4").frames == 40


@pytest.mark.parametrize(
    ("frames", "fps", "said"),
    [
        ([np.zeros((15, 16, 3), np.uint8)], 25, "even sides; crop or pad them to 16×14"),
        ([np.zeros((16, 16), np.uint8)], 25, "shape"),
        ([np.zeros((16, 16, 3), np.uint8), np.zeros((18, 16, 3), np.uint8)], 25, "Frame 1"),
        ([np.zeros((16, 16, 3), np.float32)], 25, "float32"),
        ([], 25, "no frames"),
        ([np.zeros((16, 16, 3), np.uint8)], 0, "fps=0"),
    ],
)
def test_frames_that_cannot_be_written_leave_nothing_behind(tmp_path, frames, fps, said):
    (tmp_path / "old.mp4").write_bytes(b"old")
    with pytest.raises(LofiError, match=said):
        write_video(tmp_path / "old.mp4", frames, fps=fps)
    assert [path.name for path in tmp_path.iterdir()] == ["old.mp4"]
    assert (tmp_path / "old.mp4").read_bytes() == b"old"


def test_error_in_the_source_of_frames_passes_through(tmp_path):
    def failing():
        yield np.zeros((16, 16, 3), np.uint8)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        write_video(tmp_path / "a.mp4", failing(), fps=25)
    assert not list(tmp_path.iterdir())


def test_unknown_preset_is_an_error_of_the_run(tmp_path):
    with pytest.raises(RunError, match="cannot be encoded"):
        write_video(tmp_path / "a.mp4", moving(2), fps=25, preset="sluggish")
    assert not list(tmp_path.iterdir())
