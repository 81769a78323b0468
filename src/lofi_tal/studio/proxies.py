"""Copies of videos that every browser plays, with the time of each frame kept: H.264 in MP4, made in the background."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace

from lofi_tal.errors import LofiError, RunError
from lofi_tal.files import atomic_path
from lofi_tal.video import stream_frames
from lofi_tal.video.frame_times import Timeline, scan
from lofi_tal.video.readers import read_in_processes

_LONGEST_SIDE = 1280
_CLOCK = 90_000  # ticks a second: what frame rates in use divide, and finer than any frame
_OPTIONS = {"crf": "23", "preset": "veryfast", "g": "24", "bf": "0"}  # without B-frames the first one is at 0


class Share:
    """How much of a proxy is done, and whether it is to go on: memory that two processes see."""

    def __init__(self) -> None:
        self._values: Any = multiprocessing.RawArray("d", 2)

    @property
    def done(self) -> float:
        """From 0 to 1."""
        return float(self._values[0])

    def note(self, done: float) -> None:
        """Say how much is done.

        Raises:
            LofiError: If it is not to go on.
        """
        self._values[0] = done
        if self._values[1]:
            raise LofiError("It was stopped.")

    def stop(self) -> None:
        """End it at the next frame."""
        self._values[1] = 1.0


def make_proxy(path: Path, output: Path, share: Share) -> None:
    """Make a proxy in a process of its own, which may die of the file.

    Args:
        path: The video.
        output: File to write; it appears whole or not at all.
        share: Is told how much is done.

    Raises:
        VideoError: If the video cannot be read.
        RunError: If the proxy cannot be written.
        LofiError: If it was stopped.
    """
    for _ in read_in_processes(functools.partial(write_proxy, output=output, share=share), [path], 1):
        pass


def write_proxy(path: Path, output: Path, share: Share) -> None:
    """Make a proxy in this process; see :func:`make_proxy`."""
    timeline = scan(path)
    with atomic_path(output) as temporary:
        try:
            container = av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"})
            with container:
                _encode(container, path, timeline, share)
        except av.error.FFmpegError as error:
            raise RunError(f"A copy of {path.name} for the browser cannot be made: {error.strerror}.") from error


def _encode(container: Any, path: Path, timeline: Timeline, share: Share) -> None:
    height, width = _size(*timeline.display_size)
    stream = container.add_stream("libx264", options=_OPTIONS)
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, stream.time_base = Fraction(1, _CLOCK), Fraction(1, _CLOCK)
    context.color_range, context.colorspace = int(ColorRange.MPEG), int(Colorspace.ITU709)
    context.color_primaries = context.color_trc = 1  # BT.709
    ticks = proxy_ticks(timeline)
    for number, frame in _frames(path, timeline, (height, width)):
        frame.pts, frame.time_base = ticks[number], Fraction(1, _CLOCK)
        for packet in stream.encode(frame):
            container.mux(_timed(packet, ticks))
        share.note((number + 1) / (len(ticks) - 1))
    for packet in stream.encode(None):
        container.mux(_timed(packet, ticks))


def proxy_ticks(timeline: Timeline) -> list[int]:
    """Return when each frame of a proxy begins, and when the last one ends; the first begins at 0."""
    ticks = [*timeline.ticks.tolist(), int(timeline.ticks[-1]) + timeline.last]
    scaled = [round((tick - ticks[0]) * timeline.time_base * _CLOCK) for tick in ticks]
    order = np.arange(len(scaled))  # two frames never begin at one tick
    return list(map(int, np.maximum.accumulate(np.array(scaled) - order) + order))


def _frames(path: Path, timeline: Timeline, size: tuple[int, int]) -> Iterator[tuple[int, VideoFrame]]:
    for number, picture in stream_frames(path, timeline.times, size=size):
        rgb = VideoFrame.from_ndarray(picture.array(), format="rgb24")
        colours = {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}
        yield number, rgb.reformat(format="yuv420p", threads=1, **colours)


def _timed(packet: Any, ticks: list[int]) -> Any:
    """Give a packet its length: that of the last frame is known from nothing else."""
    number = int(np.searchsorted(ticks, packet.pts))
    packet.duration = ticks[number + 1] - ticks[number]
    return packet


def _size(height: int, width: int) -> tuple[int, int]:
    """Return an even size of at most 1280 pixels on the longer side."""
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    even = [max(2, round(side * scale / 2) * 2) for side in (height, width)]
    return even[0], even[1]
