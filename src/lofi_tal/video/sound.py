"""The sound of a video on the clock of its pictures, for copies that are played."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import InputContainer

from lofi_tal.video import watch
from lofi_tal.video.container import open_video

RATE = 48_000
"""Samples a second of what :func:`open_sound` yields."""
SAMPLES = 1024
"""Of each frame: what an AAC encoder takes."""


@contextlib.contextmanager
def open_sound(path: Path, zero: Fraction) -> Iterator[Iterator[AudioFrame]]:
    """Yield the frames of the first sound track, in stereo, timed in seconds after ``zero``; none without a track.

    Sound before ``zero`` is left out. Damaged sound ends where it cannot be decoded: the pictures matter more.

    Args:
        path: The video.
        zero: Seconds on the file's own clock, such as when its first picture appears.

    Raises:
        VideoError: If the file cannot be opened.
    """
    with open_video(path) as (container, _):
        yield _frames(container, round(zero * RATE))


def _frames(container: InputContainer, zero: int) -> Iterator[AudioFrame]:
    if not container.streams.audio:
        return
    resampler = AudioResampler(format="fltp", layout="stereo", rate=RATE, frame_size=SAMPLES)
    with contextlib.suppress(av.error.FFmpegError):
        for frame in itertools.chain(container.decode(container.streams.audio[0]), [None]):
            watch.note_sign_of_life()
            for piece in resampler.resample(frame):
                if piece.pts is not None and piece.pts >= zero:
                    piece.pts -= zero
                    yield piece
