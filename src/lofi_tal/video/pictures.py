"""Decoded frames as RGB pictures of one size, upright: scaled by swscale, and interleaved only where they are wanted.

H, W: display pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from lofi_tal.video.container import VideoError
from lofi_tal.video.orientation import Orientation

Plane = NDArray[np.uint8]


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


class Scaler:
    """Decoded frames to RGB pictures of one display size, whatever size the frames have.

    swscale scales straight to planar RGB, and only what is wanted of it is interleaved: against scaling to packed RGB
    this takes less than half the time at 256 pixels, keeps chroma at full resolution, and has no bias (packed RGB came
    out 1.4 levels dark).
    """

    def __init__(self, path: Path, shape: tuple[int, int], orientation: Orientation) -> None:
        self.path = path
        self.height, self.width = orientation.display(*shape)
        self.orientation = orientation
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
        return self.orientation.upright(lines)
