"""Frames of a video at given times and size: one pass, and no picture larger than asked for ever becomes RGB.

N: number of requested times; H, W: display pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import ArrayLike, NDArray

from lofi_tal.errors import LofiError, nearest
from lofi_tal.video.frame_reader import FrameReader
from lofi_tal.video.frame_times import Floats, Integers, Timeline, scan
from lofi_tal.video.orientation import Orientation
from lofi_tal.video.pictures import Picture, Scaler
from lofi_tal.video.torchcodec import torchcodec_frames

Pictures = NDArray[np.uint8]

DECODERS = ("pyav", "torchcodec")
"""Decoders: PyAV brings FFmpeg along; torchcodec is optional."""


@dataclass(frozen=True, eq=False)
class DecodedFrames:
    """Frames in the order in which their times were given.

    Args:
        frames: ``(N, H, W, 3)`` uint8 RGB, C-contiguous.
        times: ``(N,)`` seconds at which these very frames appear, relative to the first of the video.
        replaced: ``(N,)`` bool: the right frame is damaged and this one is more than one frame away from it.
    """

    frames: Pictures
    times: Floats
    replaced: NDArray[np.bool_]

    @property
    def missing(self) -> int:
        """Number of requested times whose frame had to be replaced by one that is not next to it."""
        return int(self.replaced.sum())


@dataclass(frozen=True, eq=False)
class View:
    """What to take from a video.

    Args:
        times: ``(N,)`` seconds from the first frame, in any order.
        short_side: Length of the shorter side in pixels; the aspect is kept.
        size: Height and width instead.
    """

    times: Floats
    short_side: int | None = None
    size: tuple[int, int] | None = None

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            LofiError: If times are not finite and one-dimensional, or sizes exclude each other or are below 1.
        """
        if self.times.ndim != 1:
            raise LofiError(
                f"times has the shape {self.times.shape}; expected (N,): flatten it and reshape the frames."
            )
        if not np.isfinite(self.times).all():
            wrong = self.times[~np.isfinite(self.times)][0]
            raise LofiError(f"times holds {wrong}; expected seconds from the first frame.")
        if self.short_side is not None and self.size is not None:
            raise LofiError("short_side and size exclude each other: give one of them.")
        sides = (*(self.size or ()), *(() if self.short_side is None else (self.short_side,)))
        if any(side < 1 for side in sides):
            raise LofiError(
                f"short_side={self.short_side}, size={self.size}: sides are whole numbers of at least 1 pixel."
            )

    def shape(self, timeline: Timeline) -> tuple[int, int]:
        """Return the height and width of the result."""
        return self.scaled(*timeline.display_size)

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the result for a picture of ``height × width``."""
        if self.size is not None:
            return self.size
        if self.short_side is None:
            return height, width
        scale = self.short_side / min(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))


def decode_frames(
    path: Path | str,
    times: ArrayLike,
    *,
    short_side: int | None = None,
    size: tuple[int, int] | None = None,
    threads: int = 1,
) -> DecodedFrames:
    """Return the frames that are on screen at ``times``.

    The file is read once, in order; each frame is decoded once however often it is asked for, and decoding stops
    after the last one. Where the next frame is far ahead, decoding goes on from a key frame before it.
    A frame that is damaged is replaced by the nearest one that is not.

    Scaling is bilinear with antialiasing (swscale). The pixel aspect ratio is not applied and interlaced frames are
    not split, as in OpenCV, decord and torchcodec.

    Args:
        path: Video file.
        times: ``(N,)`` seconds from the first frame, in any order, repeated or not; times outside the video give its
            first or last frame.
        short_side: Scale the displayed picture so that its shorter side has this length; the aspect is kept.
        size: Scale to this height and width instead.
        threads: Decoder threads.

    Raises:
        VideoError: If the file cannot be read or not one frame can be decoded.
        LofiError: If an argument makes no sense.
    """
    return decode_views(path, [View(np.asarray(times, dtype=np.float64), short_side, size)], threads=threads)[0]


def decode_views(
    path: Path | str, views: Sequence[View], *, threads: int = 1, decoder: str = "pyav"
) -> list[DecodedFrames]:
    """Return what :func:`decode_frames` returns for each of several views, in one pass over the file.

    Args:
        path: Video file.
        views: Times and sizes.
        threads: Decoder threads.
        decoder: One of :data:`DECODERS`.

    Raises:
        VideoError: If the file cannot be read or not one frame can be decoded.
        LofiError: If an argument makes no sense.
    """
    for view in views:
        view.check()
    _check_threads(threads)
    check_decoder(decoder)
    timeline = scan(Path(path))
    decoder = _able(decoder, timeline)
    outputs = [_Output(Path(path), view, timeline, _orientation(timeline, decoder)) for view in views]
    numbers = np.unique(np.concatenate([output.numbers for output in outputs]))
    for wanted, (number, frame) in _frames_for(Path(path), timeline, numbers, threads, decoder):
        for output in outputs:
            output.take(wanted, number, frame)
    return [output.frames for output in outputs]


def stream_frames(
    path: Path | str,
    times: ArrayLike,
    *,
    short_side: int | None = None,
    size: tuple[int, int] | None = None,
    threads: int = 1,
    decoder: str = "pyav",
) -> Iterator[tuple[int, Picture]]:
    """Return an iterator of ``(index, picture)`` in the order of time: as :func:`decode_frames`, in constant memory.

    Args:
        path: Video file.
        times: ``(N,)`` sorted seconds from the first frame.
        short_side: As there.
        size: As there.
        threads: Decoder threads.
        decoder: One of :data:`DECODERS`.

    Raises:
        VideoError: If the file cannot be read or not one frame can be decoded.
        LofiError: If an argument makes no sense or the times are not sorted.
    """
    view = View(np.asarray(times, dtype=np.float64), short_side, size)
    view.check()
    _check_threads(threads)
    check_decoder(decoder)
    if (np.diff(view.times) < 0).any():
        raise LofiError("times must be sorted to be streamed: sort them, or call decode_frames, which takes any order.")
    timeline = scan(Path(path))
    return _stream(Path(path), view, threads, timeline, _able(decoder, timeline))


def _stream(path: Path, view: View, threads: int, timeline: Timeline, decoder: str) -> Iterator[tuple[int, Picture]]:
    to_rgb = Scaler(path, view.shape(timeline), _orientation(timeline, decoder))
    numbers = timeline.on_screen(view.times)
    groups = np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(numbers)) + 1)
    for indices, (_, decoded) in zip(
        groups, _frames_for(path, timeline, np.unique(numbers), threads, decoder), strict=True
    ):
        picture = to_rgb(*decoded)
        for index in indices.tolist():
            yield index, picture


def check_decoder(name: str) -> None:
    """Refuse an unknown decoder.

    Raises:
        LofiError: If it is not one of :data:`DECODERS`.
    """
    if name not in DECODERS:
        raise LofiError(f"decoder {name!r} is unknown; allowed: {', '.join(DECODERS)}.{nearest(name, DECODERS)}")


def _check_threads(threads: int) -> None:
    if threads < 1:
        raise LofiError(f"threads={threads}: at least 1 decoder thread is needed.")


def _able(decoder: str, timeline: Timeline) -> str:
    """Return what decodes a file: torchcodec mixes the parts of joined recordings, and may not mirror."""
    return decoder if timeline.stamps is None and not timeline.orientation.mirrored else "pyav"


def _orientation(timeline: Timeline, decoder: str) -> Orientation:
    """Return what makes a decoded picture upright; torchcodec's are."""
    return timeline.orientation if decoder == "pyav" else Orientation()


def _frames_for(
    path: Path, timeline: Timeline, numbers: Integers, threads: int, decoder: str
) -> Iterator[tuple[int, tuple[int, VideoFrame]]]:
    """Yield for each of the rising frame ``numbers`` itself, and the nearest frame that can be decoded."""
    if decoder != "pyav":
        yield from torchcodec_frames(path, timeline, numbers, threads)
        return
    with FrameReader(path, timeline, threads, wanted=numbers) as reader:
        for wanted in numbers.tolist():
            yield wanted, reader.nearest(wanted)


class _Output:
    """The frames of one view, filled as the file is read."""

    def __init__(self, path: Path, view: View, timeline: Timeline, orientation: Orientation) -> None:
        shape = view.shape(timeline)
        self.timeline, self.to_rgb = timeline, Scaler(path, shape, orientation)
        self.numbers = timeline.on_screen(view.times)
        self.order = np.argsort(self.numbers, kind="stable")
        self.sorted = self.numbers[self.order]
        self.pictures = np.empty((len(self.numbers), *shape, 3), dtype=np.uint8)
        self.chosen = np.empty(len(self.numbers), dtype=np.int64)

    def take(self, wanted: int, number: int, frame: VideoFrame) -> None:
        """Take the frame that stands for ``wanted``, if this view wants it."""
        first, last = np.searchsorted(self.sorted, (wanted, wanted + 1)).tolist()
        if first == last:
            return
        row, *others = (rows := self.order[first:last]).tolist()
        self.to_rgb(number, frame).write(self.pictures[row])
        self.pictures[others] = self.pictures[row]
        self.chosen[rows] = number

    @property
    def frames(self) -> DecodedFrames:
        """What has been taken."""
        replaced = np.abs(self.chosen - self.numbers) > 1
        return DecodedFrames(self.pictures, self.timeline.times[self.chosen], replaced)
