"""Write a video that every browser and decoder plays: H.264 in MP4."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray

from lofi_tal.errors import LofiError, RunError
from lofi_tal.files import atomic_path

TICKS = 90_000
"""Units a second of the times in :func:`write_timed_video`: frame rates in use divide it, and no frame is shorter."""
_BT601 = 6  # AVCOL_*_SMPTE170M: matrix, primaries and transfer of the conversion below


def write_video(
    path: Path | str,
    frames: Iterable[NDArray[np.uint8]],
    *,
    fps: float | Fraction,
    crf: int = 18,
    gop: int = 48,
    preset: str = "veryfast",
    deterministic: bool = True,
) -> None:
    """Encode ``frames`` as H.264 (yuv420p, constant frame rate) into an MP4 file that can be played while it loads.

    The file appears whole or not at all. With ``deterministic`` the same frames give the same bytes in every run on
    the same machine and library versions: one thread and no B-frames, as x264's decisions depend on timing otherwise.

    Args:
        path: File to write; its suffix does not matter, the container is MP4.
        frames: ``(H, W, 3)`` uint8 RGB, all of one size, taken one at a time.
        fps: Frames a second.
        crf: Quality, 0 (lossless) to 51; 18 is hard to tell from the source.
        gop: Largest distance between key frames, in frames.
        preset: x264's trade of time for size, ``ultrafast`` to ``placebo``.
        deterministic: Give up threads and B-frames for reproducible bytes.

    Raises:
        LofiError: If there are no frames, a frame has another shape or type, or a side is odd.
        RunError: If the file cannot be written.
    """
    if not (math.isfinite(fps) and fps > 0):
        raise LofiError(f"fps={fps}: expected frames a second, a number above 0.")
    rate = Fraction(fps).limit_denominator(1001)
    options = {"crf": str(crf), "preset": preset, "g": str(gop)}
    if deterministic:
        options |= {"bf": "0", "threads": "1"}
    with atomic_path(Path(path)) as temporary:
        try:
            written = _encode(temporary, frames, rate, options)
        except av.error.FFmpegError as error:
            raise RunError(f"{path} cannot be encoded: {error.strerror}.") from error
        if not written:
            raise LofiError(f"{path}: there are no frames to write.")


def write_timed_video(
    path: Path | str,
    frames: Iterable[NDArray[np.uint8]],
    ticks: Sequence[int],
    *,
    sound: Iterable[AudioFrame] = (),
    crf: int = 23,
    gop: int = 24,
    preset: str = "veryfast",
) -> None:
    """Encode frames that appear at given times, as :func:`write_video` does it for a constant rate.

    Args:
        path: File to write.
        frames: ``(H, W, 3)`` uint8 RGB, all of one size, taken one at a time.
        ticks: When each of them appears, in units of 1 / :data:`TICKS` seconds, rising from 0; and when the last ends.
        sound: Audio frames by time, which become AAC, as far as there are pictures; see
            :func:`~lofi_tal.video.sound.open_sound`.
        crf: Quality, as there.
        gop: Largest distance between key frames, in frames.
        preset: As there.

    Raises:
        LofiError: If a frame has another shape or type, or a side is odd.
        RunError: If the file cannot be written.
    """
    options = {"crf": str(crf), "preset": preset, "g": str(gop), "bf": "0"}  # without B-frames, the first one is at 0
    with atomic_path(Path(path)) as temporary:
        try:
            with av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container:
                stream = container.add_stream("libx264", options=options)
                stream.time_base = Fraction(1, TICKS)
                track = _Track(container, sound)
                for number, picture in enumerate(frames):
                    if number == 0:
                        _begin(stream, picture, Fraction(TICKS))
                    frame = _to_yuv(stream, picture, number)
                    frame.pts = ticks[number]
                    container.mux([_timed(packet, ticks) for packet in stream.encode(frame)])
                    track.write(ticks[number + 1] / TICKS)
                track.close()
                container.mux([_timed(packet, ticks) for packet in stream.encode(None)])
        except av.error.FFmpegError as error:
            raise RunError(f"{path} cannot be encoded: {error.strerror}.") from error


class _Track:
    """A sound track beside pictures, written as far as they are; none if there is no sound."""

    def __init__(self, container: OutputContainer, sound: Iterable[AudioFrame]) -> None:
        self._container, self._rest = container, iter(sound)
        self._next = next(self._rest, None)
        self._stream = None if self._next is None else container.add_stream("aac", rate=self._next.sample_rate)

    def write(self, until: float) -> None:
        """Write what is heard before a time in seconds."""
        while self._stream is not None and self._next is not None and (self._next.time or 0.0) < until:
            self._container.mux(self._stream.encode(self._next))
            self._next = next(self._rest, None)

    def close(self) -> None:
        """Write what the encoder still holds."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))


def _timed(packet: Packet[VideoStream], ticks: Sequence[int]) -> Packet[VideoStream]:
    """Give a packet its length: that of the last frame is known from nothing else."""
    number = int(np.searchsorted(ticks, packet.pts or 0))
    packet.duration = ticks[number + 1] - ticks[number]
    return packet


def _encode(path: Path, frames: Iterable[NDArray[np.uint8]], rate: Fraction, options: dict[str, str]) -> bool:
    """Write all frames; say whether there were any."""
    # bitexact leaves library versions and dates out of the file
    container = av.open(str(path), mode="w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"})
    with container:
        stream = container.add_stream("libx264", rate=rate, options=options)
        for number, picture in enumerate(frames):
            if number == 0:
                _begin(stream, picture, rate)
            container.mux(stream.encode(_to_yuv(stream, picture, number)))
        if not stream.codec_context.is_open:
            return False
        container.mux(stream.encode(None))
    return True


def _begin(stream: VideoStream, picture: NDArray[np.uint8], rate: Fraction) -> None:
    """Fix size and colours by the first picture."""
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise LofiError(f"A frame has the shape {picture.shape}; expected (H, W, 3) RGB.")
    height, width = picture.shape[:2]
    if height % 2 or width % 2 or not (height and width):
        raise LofiError(
            f"Frames of {width}×{height} pixels: H.264 with halved chroma (yuv420p) needs even sides; "
            f"crop or pad them to {width // 2 * 2 or 2}×{height // 2 * 2 or 2}."
        )
    context = stream.codec_context
    context.width, context.height, context.pix_fmt, context.time_base = width, height, "yuv420p", 1 / rate
    context.color_range = int(ColorRange.MPEG)
    context.colorspace = context.color_primaries = context.color_trc = _BT601


def _to_yuv(stream: VideoStream, picture: NDArray[np.uint8], number: int) -> VideoFrame:
    expected = (stream.codec_context.height, stream.codec_context.width, 3)
    if picture.shape != expected or picture.dtype != np.uint8:
        raise LofiError(f"Frame {number} is {picture.dtype} {picture.shape}; the video is uint8 {expected}.")
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG, threads=1
    )
    frame.pts, frame.time_base = number, stream.codec_context.time_base
    return frame
