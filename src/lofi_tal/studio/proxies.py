"""Copies of videos that every browser plays, with the time of each frame kept: H.264 in MP4, made in the background."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lofi_tal.errors import LofiError
from lofi_tal.video import stream_frames
from lofi_tal.video.frame_times import Timeline, scan
from lofi_tal.video.readers import read_in_processes
from lofi_tal.video.sound import open_sound
from lofi_tal.video.writing import TICKS, write_timed_video

_LONGEST_SIDE = 1280


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
    with open_sound(path, int(timeline.ticks[0]) * timeline.time_base) as sound:
        write_timed_video(output, _pictures(path, timeline, share), proxy_ticks(timeline), sound=sound)


def _pictures(path: Path, timeline: Timeline, share: Share) -> Iterator[NDArray[np.uint8]]:
    for number, picture in stream_frames(path, timeline.times, size=_size(*timeline.display_size)):
        yield picture.array()
        share.note((number + 1) / len(timeline.ticks))


def proxy_ticks(timeline: Timeline) -> list[int]:
    """Return when each frame of a proxy begins, and when the last one ends; the first begins at 0."""
    ticks = [*timeline.ticks.tolist(), int(timeline.ticks[-1]) + timeline.last]
    scaled = [round((tick - ticks[0]) * timeline.time_base * TICKS) for tick in ticks]
    order = np.arange(len(scaled))  # two frames never begin at one tick
    return list(map(int, np.maximum.accumulate(np.array(scaled) - order) + order))


def _size(height: int, width: int) -> tuple[int, int]:
    """Return an even size of at most 1280 pixels on the longer side."""
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    even = [max(2, round(side * scale / 2) * 2) for side in (height, width)]
    return even[0], even[1]
