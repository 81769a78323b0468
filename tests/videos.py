"""Videos with chosen time stamps, sound, parts and orientations, as recorders and cutters leave them."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

MILLISECOND = Fraction(1, 1000)
GREY = 4
"""Levels by which each picture is brighter than the one before."""


def make(
    path: Path,
    stamps: Sequence[int],
    *,
    sound: float | None = None,
    loud: float = math.inf,
    change: Callable[[int, Any], None] = lambda number, packet: None,
    codec: str = "libx264",
    first: int = 0,
    rate: int = 10,
    **options: str,
) -> Path:
    """Write pictures that grow brighter, with sound from a second on if it is given.

    Args:
        path: The file.
        stamps: Milliseconds at which each picture appears.
        sound: Seconds at which silence begins; it ends with the pictures.
        loud: Seconds at which a tone takes its place.
        change: Called with the number of each stored packet before it is written.
        codec: Of the pictures.
        first: Number of the first picture, which its brightness tells.
        rate: Pictures a second, as far as the codec wants to know.
        options: Of the codec.
    """
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate, options={"bf": "0", **options})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, rate) if codec == "mpeg2video" else MILLISECOND
        audio = None if sound is None else file.add_stream("aac", rate=16000)
        packets = []
        for number, stamp in enumerate(stamps, first):
            picture = np.full((48, 64, 3), GREY * number % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = stamp, MILLISECOND
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for number, packet in enumerate(packets):
            change(number, packet)
        if audio is not None:
            count = round((max(stamps) / 1000 - sound) * 16000) // 1024 + 1
            packets += _sound(audio, round(sound * 16000), count, loud)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            file.mux(packet)
    return path


def _sound(audio: Any, begin: int, count: int, loud: float) -> list[Any]:
    packets = []
    for number in range(count):
        seconds = (begin + 1024 * number + np.arange(1024)) / 16000
        wave = np.where(seconds >= loud, np.sin(2 * np.pi * 440 * seconds) / 2, 0).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.rate, frame.pts, frame.time_base = 16000, begin + 1024 * number, Fraction(1, 16000)
        packets += audio.encode(frame)
    return packets + audio.encode(None)


def every(milliseconds: int, count: int, start: int = 0) -> list[int]:
    """Return ``count`` stamps at a constant rate."""
    return [start + milliseconds * number for number in range(count)]


def joined(path: Path, *parts: Path) -> Path:
    """Write files one after the other into one, as `cat` does."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def with_matrix(path: Path, source: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write an MP4 file whose display matrix maps (x, y) to (a·x + c·y, b·x + d·y)."""
    one = 1 << 16
    plain, content = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30), source.read_bytes()
    at = content.rindex(plain)  # the movie has one too, before that of its track
    other = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(content[:at] + other + content[at + len(plain) :])
    return path
