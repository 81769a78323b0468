"""What clips an encoder can take: sizes, numbers of frames, and how it wants pictures to be scaled before the crop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lofi_tal.errors import LofiError

RESIZE = 8 / 7
"""Short side before the crop, as a multiple of the crop's side: 256 for 224 (public TSM preprocessing)."""


@dataclass(frozen=True)
class Takes:
    """What an encoder can take; the defaults fit any network of convolutions.

    Args:
        size_multiple: Height and width in pixels are multiples of it, such as the side of a patch.
        smallest: Least height and width.
        largest: Greatest height and width; None is any.
        square: Height and width are the same.
        sizes_change: Frames of another size may follow, so that fidelities may differ in it.
        frame_multiple: T is a multiple of it, such as the depth of a tubelet.
        fewest: Least T.
        most: Greatest T; None is any.
        resize: Short side before the crop, as a multiple of the crop's side.
    """

    size_multiple: int = 1
    smallest: int = 16
    largest: int | None = None
    square: bool = False
    sizes_change: bool = True
    frame_multiple: int = 1
    fewest: int = 1
    most: int | None = None
    resize: float = RESIZE

    @classmethod
    def together(cls, several: Sequence[Takes]) -> Takes:
        """Return what encoders that see the same clips can all take.

        Raises:
            LofiError: If there is nothing, or they scale pictures in different ways.
        """
        resizes = sorted({one.resize for one in several})
        if len(resizes) > 1:
            raise LofiError(
                f"These encoders scale pictures differently before the crop ({', '.join(f'{r:.3g}' for r in resizes)} "
                "times its side): they cannot share clips."
            )
        largest = [one.largest for one in several if one.largest is not None]
        most = [one.most for one in several if one.most is not None]
        found = cls(
            size_multiple=math.lcm(*(one.size_multiple for one in several)),
            smallest=max(one.smallest for one in several),
            largest=min(largest, default=None),
            square=any(one.square for one in several),
            sizes_change=all(one.sizes_change for one in several),
            frame_multiple=math.lcm(*(one.frame_multiple for one in several)),
            fewest=max(one.fewest for one in several),
            most=min(most, default=None),
            resize=resizes[0],
        )
        if found.nearest_size(found.smallest) < found.smallest or found.nearest_frames(found.fewest) < found.fewest:
            raise LofiError("These encoders take no common size or number of frames: they cannot share clips.")
        return found

    def nearest_size(self, size: float) -> int:
        """Return the side in pixels that can be taken and is nearest to ``size``."""
        return _nearest(size, self.size_multiple, self.smallest, self.largest)

    def nearest_frames(self, frames: int) -> int:
        """Return the T that can be taken and is nearest to ``frames``."""
        return _nearest(frames, self.frame_multiple, self.fewest, self.most)

    def takes_size(self, size: int) -> bool:
        """Say whether frames of this height or width can be taken."""
        return self.nearest_size(size) == size

    def takes_frames(self, frames: int) -> bool:
        """Say whether clips of T frames can be taken."""
        return self.nearest_frames(frames) == frames

    def check(self, name: str, frames: int, height: int, width: int) -> None:
        """Refuse clips that cannot be taken.

        Args:
            name: Of the encoder, for messages.
            frames: T.
            height: In pixels.
            width: In pixels.

        Raises:
            LofiError: With what can be taken, and the nearest of it.
        """
        if not self.takes_frames(frames):
            raise LofiError(
                f"encoder {name!r} does not take clips of {frames} frames: {self.frames_text}. The nearest is "
                f"{self.nearest_frames(frames)} (snippets.frames in a recipe)."
            )
        for side in (height, width):
            if not self.takes_size(side):
                raise LofiError(
                    f"encoder {name!r} does not take frames of {height} × {width} pixels: {self.size_text}. The "
                    f"nearest is {self.nearest_size(side)} (snippets.size in a recipe)."
                )
        if self.square and height != width:
            raise LofiError(
                f"encoder {name!r} takes square frames only, not {height} × {width} pixels. The nearest is "
                f"{self.nearest_size(min(height, width))} × {self.nearest_size(min(height, width))}."
            )

    @property
    def size_text(self) -> str:
        """Which sizes can be taken, in words."""
        return _text("height and width are", "pixels", self.size_multiple, self.smallest, self.largest)

    @property
    def frames_text(self) -> str:
        """Which numbers of frames can be taken, in words."""
        return _text("the number of frames is", "", self.frame_multiple, self.fewest, self.most)


def _nearest(value: float, multiple: int, least: int, most: int | None) -> int:
    low = -(-least // multiple)
    high = max(low, int(value // multiple) + 1) if most is None else most // multiple
    return multiple * min(max(round(value / multiple), low), high)


def _text(what: str, unit: str, multiple: int, least: int, most: int | None) -> str:
    unit = f" {unit}" if unit else ""
    if least == most:
        return f"{what} {least}{unit}"
    parts = [f"multiples of {multiple}"] if multiple > 1 else []
    parts.append(f"at least {least}{unit}" if most is None else f"from {least} to {most}{unit}")
    return f"{what} {', '.join(parts)}"
