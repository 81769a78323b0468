"""Which square of its pictures an item shows: the centre, or with a seed a random place, scale and flip.

Shapes: N frames of H × W pixels, S × S pixels of the crop; uint8, channels last as the decoder gives them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lofi_tal.video import Picture

_CROP_SCALES = (1.0, 0.875, 0.75, 0.66)  # public TSM multi-scale crop


@dataclass(frozen=True)
class Square:
    """Which square of its pictures an item shows, and whether mirrored; pixels."""

    top: int
    left: int
    size: int
    mirrored: bool

    @classmethod
    def draw(cls, shape: tuple[int, int], size: int, seed: int | None, flip: bool) -> Square:
        """Return the centre of pictures of a height and width, or with a seed a random place and flip."""
        height, width = shape
        if seed is None:
            return cls((height - size) // 2, (width - size) // 2, size, False)
        random = np.random.default_rng(seed)
        top, left = int(random.integers(height - size + 1)), int(random.integers(width - size + 1))
        return cls(top, left, size, flip and bool(random.integers(2)))

    def take(self, picture: Picture, into: NDArray[np.uint8]) -> None:
        """Write the square of a picture into ``(size, size, 3)``."""
        picture.write(into, self.top, self.left, mirrored=self.mirrored)


def crop(
    frames: NDArray[np.uint8],
    into: NDArray[np.uint8],
    seed: int | None,
    flip: bool,
    rows: NDArray[np.intp] | None = None,
) -> None:
    """Write a square of ``(N, H, W, 3)`` into ``(N, S, S, 3)``: the centre, or with a seed a random place and flip.

    With ``rows`` ``(M,)`` the result is ``(M, S, S, 3)``, these frames in this order.
    """
    height, width = frames.shape[1:3]
    square = Square.draw((height, width), into.shape[1], seed, flip)
    view = frames.view(np.ndarray)[:, square.top : square.top + square.size, square.left : square.left + square.size]
    for frame, row in zip(into, range(len(view)) if rows is None else rows.tolist(), strict=True):
        frame[...] = view[row]
        if square.mirrored:
            # frame by frame in the processor's cache, by torch: a fifth of the time of NumPy's view[:, ::-1]
            pixels = torch.from_numpy(frame)
            pixels.copy_(pixels.flip(1))


def multi_scale_crop(frames: NDArray[np.uint8], size: int, seed: int, flip: bool) -> Tensor:
    """Cut a random region with sides of 1 to 0.66 of the short side and scale it to ``(N, size, size, 3)``.

    Source: public TSM code (`ops/transforms.py`, GroupMultiScaleCrop): the two sides differ by one scale at most.
    """
    random = np.random.default_rng(seed)
    first = int(random.integers(len(_CROP_SCALES)))
    second = int(np.clip(first + random.integers(-1, 2), 0, len(_CROP_SCALES) - 1))
    short = min(frames.shape[1:3])
    height, width = (round(short * _CROP_SCALES[i]) for i in (first, second))
    top = int(random.integers(frames.shape[1] - height + 1))
    left = int(random.integers(frames.shape[2] - width + 1))
    region = np.ascontiguousarray(frames[:, top : top + height, left : left + width])
    image = torch.from_numpy(region).permute(0, 3, 1, 2)
    image = functional.interpolate(image, (size, size), mode="bilinear", antialias=True)
    if flip and random.integers(2):
        image = image.flip(3)
    return image.permute(0, 2, 3, 1).contiguous()


def as_clips(frames: Tensor) -> Tensor:
    """Return ``(N, T, 3, S, S)`` for frames ``(N, T, S, S, 3)``, without a copy (the memory is channels_last)."""
    return frames.permute(0, 1, 4, 2, 3)
