"""Where published features lie in time: at a stride of frames, as ActionFormer's data sets have it.

Feature t of a video is centred at ``(t · stride + span / 2) / fps`` seconds. A grid of T features that keep their
number goes from half a stride before the first centre to half a stride behind the last; features that are resized to L
stand for all frames that they see, from 0 to ``((T - 1) · stride + span) / fps``. On either grid feature t of N lies at
``(t + 0.5) / N``. Source: happyharrycn/actionformer_release, ``libs/datasets/thumos14.py`` and ``anet.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from lofi_tal.errors import LofiError
from lofi_tal.video import Clock


@dataclass(frozen=True)
class FeatureGrid:
    """A grid of features.

    Args:
        stride: Frames from one feature to the next.
        span: Frames that one feature sees.
        fps: Frames a second; None where each video has its own.
        keep: The features keep their number.
    """

    stride: float
    span: float
    fps: float | None
    keep: bool

    def clock(self, count: int, fps: float | None = None) -> Clock:
        """Return the clock of a video of ``count`` features; ``fps`` is its own, which the grid's goes before.

        Raises:
            LofiError: If neither is known.
        """
        fps = self.fps or fps
        if fps is None:
            raise LofiError("features at a stride of frames need a frame rate, and there is none: set features.fps.")
        if self.keep:
            return Clock((self.span - self.stride) / 2 / fps, count * self.stride / fps)
        return Clock(0.0, ((count - 1) * self.stride + self.span) / fps)
