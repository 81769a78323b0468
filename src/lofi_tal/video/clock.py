"""The two clocks of a video, and the one place that converts between them.

* The **player's clock** is what people see, label by, and seek to: its 0 is that of the container. Annotations and all
  results are on it.
* The **picture clock** is what lofi-tal samples by: its 0 is the first picture, its end that of the last one.

They differ where the pictures begin later than the container does: sound begins first, or an edit list or a cut leaves
a gap before the first picture. Browsers keep the time stamps of MP4, MOV, Matroska and WebM as they are (HTML standard,
"Offsets into the media resource"; Chromium's ``FFmpegDemuxer`` shifts no positive start). MPEG transport and program
streams, whose stamps count from anywhere, begin at the earliest of their streams, as in FFmpeg, mpv and VLC.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
from av.container import InputContainer
from av.format import Flags
from numpy.typing import NDArray

_Seconds = TypeVar("_Seconds", float, NDArray[np.float64])

_SAME = Fraction(1, 20)  # seconds by which clocks may differ without anybody seeing it: a picture or two
_DELAY = Fraction(1, 10)  # seconds: what begins later than this does so on purpose, not for an encoder's delay


@dataclass(frozen=True)
class Clock:
    """The player's clock of one video, against its pictures.

    Args:
        start: Seconds on the player's clock at which the first picture appears.
        duration: Seconds from the first picture to the end of the last one.

    >>> clock = Clock(start=3.0, duration=4.0)
    >>> clock.shares(5.0), clock.seconds(0.5), clock.end
    (0.5, 5.0, 7.0)
    """

    start: float
    duration: float

    @property
    def end(self) -> float:
        """Seconds on the player's clock at which the last picture ends."""
        return self.start + self.duration

    def shares(self, seconds: _Seconds) -> _Seconds:
        """Return times on the player's clock as shares of the pictures; those outside them are not in [0, 1]."""
        return (seconds - self.start) / self.duration

    def seconds(self, shares: _Seconds) -> _Seconds:
        """Return shares of the pictures as times on the player's clock."""
        return shares * self.duration + self.start


def has_free_stamps(container: InputContainer) -> bool:
    """Say whether the stamps of this kind of container may begin anywhere, restart and jump (MPEG streams, Ogg)."""
    discontinuous: Any = Flags.ts_discont.value
    return bool(container.format.flags & discontinuous)


def start_on(origin: Fraction, first: Fraction) -> float:
    """Return where on the player's clock the first picture appears, by its stamp in seconds; 0 if nearly there."""
    return 0.0 if abs(first - origin) < _SAME else float(first - origin)


def player_origin(container: InputContainer) -> Fraction:
    """Return the time stamp, in seconds, at which the player's clock of an open file shows 0."""
    streams = (*container.streams.video, *container.streams.audio)
    # of streams, as that of the container is rounded to microseconds; None where no packet has a stamp
    known = [(stream.start_time, stream.time_base) for stream in streams]
    stamps = [Fraction(start * base) for start, base in known if start is not None and base is not None]
    earliest = min(stamps, default=Fraction(0))
    return earliest if has_free_stamps(container) or 0 < earliest < _DELAY else Fraction(0)
