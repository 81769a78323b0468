"""Frames of a video at given times and size: one pass, and no picture larger than asked for ever becomes RGB.

N: number of requested times; H, W: display pixels.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.frame import PictureType, VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import ArrayLike, NDArray

from lofi_tal.errors import LofiError, nearest
from lofi_tal.video.container import VideoError, all_frames, open_video
from lofi_tal.video.timeline import Floats, Integers, Timeline, scan
from lofi_tal.video.torchcodec import torchcodec_frames

Pictures = NDArray[np.uint8]
Plane = NDArray[np.uint8]

_WORTH_A_JUMP = 30
"""Frames that a seek has to spare: it empties the decoder's pipeline, which costs a few frames itself."""


DECODERS = ("pyav", "torchcodec")
"""Decoders: PyAV brings FFmpeg along; torchcodec is optional."""

_SPARING = ("h264", "hevc", "mpeg4")
"""Codecs whose decoders in FFmpeg leave out a frame of their own accord the moment they are told (dav1d does not)."""


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
class Picture:
    """One picture whose colours are still apart: what of it is wanted is interleaved where it is wanted.

    Args:
        planes: Red, green and blue, ``(H, W)`` uint8 each, in memory of swscale's frame, or of the decoder's where
            nothing had to be done: not to be written.
    """

    planes: tuple[Plane, Plane, Plane]

    @property
    def shape(self) -> tuple[int, int]:
        """H and W."""
        height, width = self.planes[0].shape
        return height, width

    def write(self, into: NDArray[np.uint8], top: int = 0, left: int = 0, *, mirrored: bool = False) -> None:
        """Write the part of the size of ``into``, ``(h, w, 3)``, that begins at ``top`` and ``left``."""
        height, width = into.shape[:2]
        for channel, plane in enumerate(self.planes):
            part = plane[top : top + height, left : left + width]
            into[..., channel] = part[:, ::-1] if mirrored else part

    def array(self) -> NDArray[np.uint8]:
        """Return the whole as ``(H, W, 3)``, C-contiguous."""
        into = np.empty((*self.shape, 3), dtype=np.uint8)
        self.write(into)
        return into


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
        height, width = timeline.display_size
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
    outputs = [_Output(Path(path), view, timeline, _turns(timeline, decoder)) for view in views]
    numbers = np.unique(np.concatenate([output.numbers for output in outputs]))
    for wanted, (number, frame) in _found(Path(path), timeline, numbers, threads, decoder):
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
    return _stream(Path(path), view, threads, scan(Path(path)), decoder)


def _stream(path: Path, view: View, threads: int, timeline: Timeline, decoder: str) -> Iterator[tuple[int, Picture]]:
    to_rgb = _Scaler(path, view.shape(timeline), _turns(timeline, decoder))
    numbers = timeline.on_screen(view.times)
    places = np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(numbers)) + 1)
    for same, (_, found) in zip(places, _found(path, timeline, np.unique(numbers), threads, decoder), strict=True):
        picture = to_rgb(*found)
        for index in same.tolist():
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


def _turns(timeline: Timeline, decoder: str) -> int:
    """Return the quarter turns that make a decoded picture upright; torchcodec's are."""
    return timeline.turns if decoder == "pyav" else 0


def _found(
    path: Path, timeline: Timeline, numbers: Integers, threads: int, decoder: str
) -> Iterator[tuple[int, tuple[int, VideoFrame]]]:
    """Yield for each of the rising frame ``numbers`` itself, and the nearest frame that can be decoded."""
    if decoder != "pyav":
        yield from torchcodec_frames(path, timeline, numbers, threads)
        return
    with _Reader(path, timeline, threads, wanted=numbers) as reader:
        for wanted in numbers.tolist():
            yield wanted, reader.nearest(wanted)


class _Output:
    """The frames of one view, filled as the file is read."""

    def __init__(self, path: Path, view: View, timeline: Timeline, turns: int) -> None:
        shape = view.shape(timeline)
        self.timeline, self.to_rgb = timeline, _Scaler(path, shape, turns)
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
        place, *others = (places := self.order[first:last]).tolist()
        self.to_rgb(number, frame).write(self.pictures[place])
        self.pictures[others] = self.pictures[place]
        self.chosen[places] = number

    @property
    def frames(self) -> DecodedFrames:
        """What has been taken."""
        replaced = np.abs(self.chosen - self.numbers) > 1
        return DecodedFrames(self.pictures, self.timeline.times[self.chosen], replaced)


class _Scaler:
    """Decoded frames to RGB pictures of one display size, whatever size the frames have.

    swscale scales straight to planar RGB, and only what is wanted of it is interleaved: against scaling to packed RGB
    this takes less than half the time at 256 pixels, keeps chroma at full resolution, and has no bias (packed RGB came
    out 1.4 levels dark).
    """

    def __init__(self, path: Path, shape: tuple[int, int], turns: int) -> None:
        self.path = path
        self.height, self.width = shape[::-1] if turns % 2 else shape
        self.turns = turns
        self.scale = VideoReformatter()
        self.last: tuple[int, Picture] | None = None

    def __call__(self, number: int, frame: VideoFrame) -> Picture:
        """Return frame ``number`` as a picture; the last one is kept, for it may stand for several."""
        if self.last is None or self.last[0] != number:
            try:
                scaled = self.scale.reformat(
                    frame,
                    width=self.width,
                    height=self.height,
                    format="gbrp",
                    interpolation=Interpolation.BILINEAR,
                    threads=1,
                )
            except av.error.FFmpegError as error:
                size = f"{self.width} × {self.height}"
                raise VideoError(f"{self.path}: a frame cannot be scaled to {size} ({error.strerror}).") from error
            green, blue, red = map(self._upright, scaled.planes)
            self.last = number, Picture((red, green, blue))
        return self.last[1]

    def _upright(self, plane: VideoPlane) -> Plane:
        """Return a plane as an array of its memory, whose lines may be longer than the picture is wide."""
        lines: Plane = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(-1, plane.line_size)[
            : self.height, : self.width
        ]
        return np.rot90(lines, self.turns) if self.turns else lines


class _Reader:
    """Frames of one file by rising number, with jumps over what nobody needs.

    Between the wanted frames the decoder leaves out those that no other frame refers to (most of the B-frames).
    A jump goes to a key frame, and counts only if the decoder then really begins with that frame, intra-coded;
    otherwise (gradual refresh, a wrong index) the file is read again from its start, without jumps.
    """

    def __init__(self, path: Path, timeline: Timeline, threads: int, *, wanted: Integers) -> None:
        self.path, self.timeline, self.threads = path, timeline, threads
        # frames that are told apart by their rank must all come; several threads decode ahead of what is set here
        spares = threads == 1 and not timeline.by_rank and timeline.codec in _SPARING
        self.wanted = set(timeline.ticks[np.unique(wanted)].tolist()) if spares else None
        self.keys = timeline.keys
        self.before: tuple[int, VideoFrame] | None = None
        self.now: tuple[int, VideoFrame] | None = None

    def __enter__(self) -> _Reader:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def _open(self) -> None:
        self.stack = ExitStack()
        self.container, self.stream = self.stack.enter_context(open_video(self.path, self.threads))
        self.frames = self._numbered()

    def nearest(self, wanted: int) -> tuple[int, VideoFrame]:
        """Return frame ``wanted``, or the nearest one that can be decoded; ``wanted`` must not fall."""
        if self.now is None or self.now[0] < wanted:
            self._jump(wanted)
        while self.now is None or self.now[0] < wanted:
            following = next(self.frames, None)
            if following is None:
                break
            self.before, self.now = self.now, following
        found = [pair for pair in (self.before, self.now) if pair is not None]
        if not found:
            raise VideoError(f"{self.path}: not one frame can be decoded.")
        return min(found, key=lambda pair: abs(pair[0] - wanted))

    def _numbered(self) -> Generator[tuple[int, VideoFrame], None, None]:
        """Yield frames with their numbers, which rise; those that come out of turn are left out."""
        ticks = self.timeline.ticks
        for rank, frame in enumerate(all_frames(self.container, self.stream, self.wanted)):
            if self.timeline.by_rank:
                number = rank
            elif frame.pts is None:
                continue
            else:
                number = int(np.searchsorted(ticks, frame.pts, side="right")) - 1
            if (-1 if self.now is None else self.now[0]) < number < len(ticks):
                yield number, frame

    def _jump(self, wanted: int) -> None:
        """Go to the last key frame up to ``wanted`` if that spares enough frames."""
        place = int(np.searchsorted(self.keys, wanted, side="right")) - 1
        here = -1 if self.now is None else self.now[0]
        if place < 0 or self.keys[place] - here < _WORTH_A_JUMP:
            return
        key = int(self.keys[place])
        self.frames.close()  # or the time since its last packet would count as that of the seek
        try:
            self.container.seek(int(self.timeline.ticks[key]), stream=self.stream, backward=True)
            self.frames = self._numbered()
            # frames before the key frame may lean on what was skipped
            landed = next((pair for pair in self.frames if pair[0] >= key), None)
        except av.error.FFmpegError:
            landed = None
        if landed is not None and landed[0] == key and landed[1].pict_type == PictureType.I:
            self.before, self.now = self.now, landed
        else:
            self.stack.close()
            self.keys = self.keys[:0]
            self._open()
