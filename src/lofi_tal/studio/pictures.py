"""Pictures of videos for the page, and what a file is made of; all run in processes that read, and may die of it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from lofi_tal.video import VideoError, decode_frames, probe_video
from lofi_tal.video.clock import player_origin
from lofi_tal.video.container import open_video

WIDTH = 320
"""Pixels of a thumbnail."""
STRIP_HEIGHT = 60
"""Pixels of the pictures of a strip."""
MOST_PICTURES = 60
"""Of a strip."""
_TALLEST = 640
_EARLY = 0.1  # of the video: its first frame is often black


@dataclass(frozen=True)
class Make:
    """What a file is made of, as far as browsers care.

    Args:
        container: FFmpeg's name.
        codec: FFmpeg's name.
        pixels: FFmpeg's name of the pixel format.
        origin: Seconds, by the file's own stamps, at which the player's clock shows 0.
    """

    container: str
    codec: str
    pixels: str
    origin: float


def look_into(path: Path) -> Make:
    """Return what a file is made of.

    Raises:
        VideoError: If it cannot be opened.
    """
    with open_video(path) as (container, stream):
        codec = stream.codec_context
        return Make(
            container.format.name,
            codec.codec.canonical_name,
            codec.format.name if codec.format else "",
            float(player_origin(container)),
        )


def plays_everywhere(make: Make, suffix: str) -> bool:
    """Say whether Chromium, Firefox and Safari all play a file as it is.

    H.264 with 8 bits and halved chroma in MP4 or MOV, VP8 and VP9 in WebM (Safari since 16). HEVC, AV1, Matroska, AVI
    and all others fail in at least one of them. Source: caniuse.com and the media documentation of MDN.
    """
    if make.pixels not in ("yuv420p", "yuvj420p"):
        return False
    names = make.container.split(",")
    if "mp4" in names:
        return make.codec == "h264"
    return "webm" in names and suffix.lower() == ".webm" and make.codec in ("vp8", "vp9")


def frame_times(path: Path) -> bytes:
    """Return the time of each frame on the player's clock, as little-endian float64.

    Raises:
        VideoError: If the file cannot be read.
    """
    info = probe_video(path)
    return (info.times + info.start).astype("<f8").tobytes()


def thumbnail(path: Path) -> bytes:
    """Return a JPEG of a frame near the beginning.

    Raises:
        VideoError: If the file cannot be read.
    """
    info = probe_video(path)
    height = min(_TALLEST, max(1, round(info.height * WIDTH / info.width)))
    width = max(1, min(WIDTH, round(info.width * height / info.height)))
    return to_jpeg(decode_frames(path, [_EARLY * info.duration], size=(height, width)).frames[0])


def strip(key: tuple[Path, float, float, int]) -> bytes:
    """Return a JPEG of frames side by side.

    Args:
        key: The file, the first and the last second on the player's clock, and how many frames.

    Raises:
        VideoError: If the file cannot be read.
    """
    path, first, last, count = key
    info = probe_video(path)
    width = max(1, min(4 * STRIP_HEIGHT, round(info.width * STRIP_HEIGHT / info.height)))
    times = first - info.start + (np.arange(count) + 0.5) * (last - first) / count
    frames = decode_frames(path, times, size=(STRIP_HEIGHT, width)).frames
    return to_jpeg(np.concatenate(list(frames), axis=1))


def to_jpeg(picture: NDArray[np.uint8]) -> bytes:
    """Return a picture ``(H, W, 3)`` RGB as JPEG.

    Raises:
        VideoError: If it cannot be encoded.
    """
    try:
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format="yuvj420p")
        encoder = av.CodecContext.create("mjpeg", "w")
        encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuvj420p"
        encoder.time_base, frame.pts = Fraction(1), 0
        return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    except av.error.FFmpegError as error:
        raise VideoError(f"A picture of {picture.shape} cannot be encoded: {error.strerror}.") from error
