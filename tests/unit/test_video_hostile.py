"""What somebody may send in the place of a video: it is refused in a line, and reaches no other file and no network."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import sys
from pathlib import Path

import av
import pytest

import lofi_tal
from lofi_tal.errors import one_line
from lofi_tal.video import VideoError, VideoManifest, limits, manifest, probe_video, watch
from tests.hostile_videos import gif, hostile_videos
from tests.videos import every, make

MAY_PLAY = (
    *("-i", "concat:a|b", "http:a", "[red]", "\x1b", "a\nb", "caf", "=1", "<script>", "a\u202e", "%s", "flipped"),
    *("long_times", "no_rate", "fast", "allowed", "claims.mp4", "no_clock", "long_pictures"),
)
"""How the names begin of files that hold pictures of their own, however odd: they may be read, or refused."""
_IN_OPEN = 0x20


class Watched:
    """Says whether any process has opened a file (inotify)."""

    def __init__(self, path: Path) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.handle = self.libc.inotify_init1(os.O_NONBLOCK)
        assert self.libc.inotify_add_watch(self.handle, os.fsencode(path), _IN_OPEN) >= 0

    def was_opened(self) -> bool:
        """Say whether it was since the last question."""
        try:
            return bool(os.read(self.handle, 4096))
        except BlockingIOError:
            return False


@pytest.fixture
def listener(socket_enabled):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux'")
@pytest.mark.timeout(120)
def test_hostile_videos_reach_nothing_and_end_in_a_line(tmp_path, listener, monkeypatch):
    monkeypatch.setattr(watch, "SILENCE_SECONDS", 60.0)
    canary = make(tmp_path / "canary.mp4", every(100, 33))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    paths = hostile_videos(tmp_path / "sent", canary, url)
    assert len(paths) >= 50
    watched, before = Watched(canary), set(tmp_path.rglob("*"))
    canary.read_bytes()
    assert watched.was_opened()
    reached: list[Path] = []
    records = VideoManifest(None, workers=1).examine(
        paths, decode=True, seen=lambda path, _: reached.append(path) if watched.was_opened() else None
    )
    assert not reached
    with pytest.raises(BlockingIOError):  # nobody has connected
        listener.accept()
    assert set(tmp_path.rglob("*")) == before
    for path, record in records.items():
        assert "hangs" not in record.error, record.error
        assert record.frames != 33, path
        if not path.name.startswith(MAY_PLAY):
            assert record.error.startswith(str(path)), (path.name, record)
        assert "\n" not in one_line(record.error)


def test_a_file_that_takes_too_much_memory_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "MAX_MEMORY", 20 * 2**20)
    path, film = tmp_path / "a.gif", make(tmp_path / "b.mp4", every(100, 5))
    path.write_bytes(gif(3000, 3000, 400))
    found = VideoManifest(None, workers=1).examine([path, film], decode=True)
    assert re.search(rf"{re.escape(str(path))}: .* or takes more than .* of memory", found[path].error)
    assert found[film].frames == 5


def test_too_many_pixels_are_named_and_not_decoded(tmp_path):
    path = tmp_path / "a.gif"
    path.write_bytes(gif(16000, 16000))
    with pytest.raises(VideoError, match=r"a\.gif: not one frame .* more than 67108864 pixels"):
        probe_video(path)


def test_the_formats_that_are_opened_are_ffmpegs_and_none_reads_other_files():
    known = {one for name in av.formats_available for one in {name, *name.split(",")}}
    assert set(limits.FORMATS) <= known
    lists = {"hls", "dash", "concat", "sdp", "rtsp", "rtp", "image2", "lavfi", "vobsub", "mlv", "imf", "sbg", "tty"}
    assert not lists & set(limits.FORMATS)


def test_videos_are_opened_in_one_place():
    source = Path(lofi_tal.__file__).parent
    found = {path.name for path in source.rglob("*.py") if "av.open(" in path.read_text(encoding="utf-8")}
    assert found == {"container.py", "writing.py"}  # the other one writes
