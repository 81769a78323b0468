"""How a picture is turned and mirrored for display: the eight orientations of a display matrix."""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray


class Orientation(NamedTuple):
    """What makes a decoded picture upright.

    Args:
        turns: Counter-clockwise quarter turns, after the mirroring.
        mirrored: Left and right change places first.
    """

    turns: int = 0
    mirrored: bool = False

    def upright(self, picture: NDArray[Any]) -> NDArray[Any]:
        """Return a view of a decoded picture ``(H, W, ...)`` as a player shows it."""
        picture = picture[:, ::-1] if self.mirrored else picture
        return np.rot90(picture, self.turns) if self.turns else picture

    def display(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width as displayed of a picture of this coded size; it is its own inverse."""
        return (width, height) if self.turns % 2 else (height, width)


def orientation_of(frame: VideoFrame) -> Orientation:
    """Return the orientation that a frame's display matrix asks for, to the nearest quarter turn.

    The matrix maps a point of the coded picture, x to the right and y down, to (a·x + c·y, b·x + d·y). Source:
    ``libavutil/display.h`` of FFmpeg; a negative determinant mirrors.
    """
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Orientation()
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix))
    mirrored = a * d - b * c < 0
    degrees = -math.degrees(math.atan2(-b, -a) if mirrored else math.atan2(b, a))
    return Orientation(round(degrees / 90) % 4, mirrored)
