"""The time grid: which frames make snippet i of L, the same for training, feature extraction and detection.

Snippet i of L has its centre at c_i = (i + 0.5) · F / L − 0.5, counted in frames of a video of F frames, and takes the
T frames c_i + r · (k − (T − 1) / 2), k = 0 … T − 1, rounded and clamped to [0, F − 1]. With the defaults T = 8 and
r = 8 a snippet spans 64 consecutive frames, the paper's example (sec. 3) and the dense sampling of public TSM models;
r = 1 is the sampling of BSP features (Xu et al., CVPRW 2021, sec. 4.1). The paper leaves open where the snippets lie;
this grid spreads them evenly, as L alone is to define the temporal fidelity: T-LoFi has fewer snippets, each unchanged.

Frame numbers become seconds as (n + 0.5) · duration / F, the middle of the n-th of F equal parts. At a constant frame
rate that is the middle of frame n itself, which leaves half a frame of room for rounded time stamps; at a variable
rate the video is sampled evenly in time, as frames that last longer stand for more of it.

A long video is cut into windows. It then has N = round(D · L / W) snippets on the grid above, about W / L seconds
apart, and a window is a run of L of them: windows that overlap share their snippets, and a video that is one window is
the case N = L. A window at low fidelity has fewer snippets, spread over the same time.

L: snippets; T: frames a snippet; F: frames of the video; N: snippets of the whole video; W: seconds of a window; D:
seconds of the video.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lofi_tal.errors import LofiError, nearest

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """A run of a video's snippets.

    Args:
        first: Its first snippet.
        count: Its snippets; beyond the end of a video that has fewer, the last one is repeated.
        of: N, snippets of the video.
    """

    first: int
    count: int
    of: int

    @property
    def whole(self) -> bool:
        """Whether it is the whole video, no more and no less."""
        return self.first == 0 and self.count == self.of

    @property
    def shares(self) -> tuple[float, float]:
        """Its start and end as shares of the video; beyond 1 where it is filled up."""
        return self.first / self.of, (self.first + self.count) / self.of

    @property
    def snippets(self) -> NDArray[np.int64]:
        """Numbers ``(count,)`` of its snippets in the video."""
        return np.minimum(np.arange(self.first, self.first + self.count), self.of - 1)


@dataclass(frozen=True)
class Windows:
    """How videos are cut into windows.

    Sources: windows that overlap by half, in training and detection: BSN (Lin et al., ECCV 2018) and G-TAD (Xu et al.,
    CVPR 2020) on THUMOS14. Their code leaves out the end of a video; here the last window ends with it.

    Args:
        count: L, snippets of a window.
        seconds: W; None takes every video as one window.
        overlap: Share of a window that the next one sees too.
        keep: Videos have numbers of snippets of their own. Those of more than L are cut for training, with this
            overlap; others are windows as they are.

    Raises:
        LofiError: If one of them is out of range.
    """

    count: int
    seconds: float | None = None
    overlap: float = 0.5
    keep: bool = False

    def __post_init__(self) -> None:
        if self.seconds is not None and not (math.isfinite(self.seconds) and self.seconds > 0):
            raise LofiError(f"A window of {self.seconds} s: expected seconds, a number above 0.")
        if not 0 <= self.overlap < 1:
            raise LofiError(f"overlap={self.overlap}: expected a share of a window, at least 0 and below 1.")

    def snippets(self, duration: float) -> int:
        """Return N, the snippets of a video of ``duration`` seconds."""
        return self.count if self.seconds is None else max(1, round(duration * self.count / self.seconds))

    def cut(self, snippets: int) -> list[Window]:
        """Return the windows of a video of N snippets, in order; together they cover it."""
        if snippets == self.count or (snippets < self.count if self.keep else self.seconds is None):
            return [Window(0, snippets, snippets)]
        hop = max(1, round((1 - self.overlap) * self.count))
        last = max(0, snippets - self.count)
        return [Window(first, self.count, snippets) for first in (*range(0, last, hop), last)]

    def pieces(self, snippets: int) -> list[Window]:
        """Return runs of at most L snippets that have every snippet of a video once, in order."""
        return [Window(first, min(self.count, snippets - first), snippets) for first in range(0, snippets, self.count)]


@dataclass(frozen=True)
class SnippetGrid:
    """Snippets that cover a whole video, or a window of it, evenly.

    Args:
        snippets: L.
        frames: T.
        stride: r, frames of the video from one frame of a snippet to the next.

    Raises:
        LofiError: If one of them is below 1.
    """

    snippets: int
    frames: int = 8
    stride: float = 8

    def __post_init__(self) -> None:
        _check_sampling(self.frames, self.stride)
        if self.snippets < 1:
            raise LofiError(f"snippets={self.snippets}: at least 1 snippet is needed.")

    def times(self, duration: float, num_frames: int, window: Window | None = None) -> Floats:
        """Return the seconds from the first frame at which the frames of the snippets are shown, ``(L, T)``.

        Args:
            duration: Seconds of the whole video, from the first frame to the end of the last.
            num_frames: F of the whole video.
            window: What the snippets cover; the whole video without it.

        Raises:
            LofiError: If the video has no frames or no duration.
        """
        position, total = np.arange(self.snippets) + 0.5, float(self.snippets)
        if (
            window is not None
        ):  # counted in snippets of this grid, which are larger than the window's own at low fidelity
            total = window.of * self.snippets / window.count
            position = np.minimum(window.first * self.snippets / window.count + position, max(total - 0.5, total / 2))
        centres = position * num_frames / total - 0.5
        offsets = self.stride * (np.arange(self.frames) - (self.frames - 1) / 2)
        return _seconds(centres[:, None] + offsets, duration, num_frames)


def clip_times(
    duration: float,
    num_frames: int,
    *,
    frames: int = 8,
    stride: float = 8,
    start: ArrayLike = 0.5,
    sampling: str = "dense",
) -> Floats:
    """Return the seconds ``(T,)`` at which one sample of a trimmed clip takes its frames (stage 1).

    ``dense`` takes T frames with a stride from a window of T · r frames; a clip shorter than that repeats its last
    frame (public TSM code wraps around to its beginning instead, which would show a jump that never happened).
    ``uniform`` takes one frame out of each of T equal parts. Source: public TSM code, `ops/dataset.py`.

    Args:
        duration: Seconds of the clip.
        num_frames: F.
        frames: T.
        stride: r; of no effect with ``uniform``.
        start: Place in [0, 1]. ``dense``: of the window, from the earliest to the latest. ``uniform``: of the frame in
            its part, one number or one for each of the T parts.
        sampling: ``dense`` or ``uniform``.

    Raises:
        LofiError: If an argument is out of its range.
    """
    _check_sampling(frames, stride)
    position = np.asarray(start, dtype=np.float64)
    if not ((position >= 0) & (position <= 1)).all():
        raise LofiError(f"start={position}: expected a place in [0, 1].")
    if sampling == "dense":
        if position.ndim:
            raise LofiError(f"start={position}: dense sampling has one window, so one number.")
        first = np.rint(position * max(0.0, num_frames - frames * stride))
        return _seconds(first + stride * np.arange(frames), duration, num_frames)
    if sampling == "uniform":
        if position.ndim and position.shape != (frames,):
            raise LofiError(
                f"start has the shape {position.shape}; expected one number or {frames}, one for each part."
            )
        positions = (np.arange(frames) + np.minimum(position, np.nextafter(1, 0))) * num_frames / frames
        return _seconds(np.floor(positions), duration, num_frames)
    raise LofiError(f"sampling={sampling!r}: expected 'dense' or 'uniform'.{nearest(sampling, ('dense', 'uniform'))}")


NORMAL_PACE, FAST_PACE = (1.0, 1.2), (1.7, 2.2)
"""Ranges of the factors by which SpeedNet's two versions of a clip skip frames."""


def pace_times(
    duration: float, num_frames: int, *, frames: int = 8, stride: float = 8, random: np.random.Generator | None = None
) -> Floats:
    """Return the seconds ``(2, T)`` at which a clip is sampled at about its own pace, and sped up.

    The second row skips about twice as many frames. The stride is lowered until even the fastest sampling fits into the
    clip: a frame that is repeated at its end would give the answer away. Source: Benaim et al., "SpeedNet" (CVPR 2020).

    Args:
        duration: Seconds of the clip.
        num_frames: F.
        frames: T.
        stride: r, the largest stride of the first row (before its factor).
        random: Source of the factors and of the places; the centre at factors 1 and 2 without it.

    Raises:
        LofiError: If the clip is too short to be sped up without repeating frames.
    """
    _check_sampling(frames, stride)
    fits = (num_frames - 1) / (FAST_PACE[1] * max(1, frames - 1))
    if fits < 1:
        raise LofiError(
            f"a clip of {num_frames} frames is too short to show {frames} of them at {FAST_PACE[1]} times its pace."
        )
    rows = []
    for plain, (low, high) in ((1.0, NORMAL_PACE), (2.0, FAST_PACE)):
        factor = plain if random is None else random.uniform(low, high)
        steps = min(stride, fits) * factor * np.arange(frames)
        position = 0.5 if random is None else random.random()
        rows.append(_seconds(position * (num_frames - 1 - steps[-1]) + steps, duration, num_frames))
    return np.stack(rows)


def _check_sampling(frames: int, stride: float) -> None:
    if frames < 1:
        raise LofiError(f"frames={frames}: at least 1 frame a snippet is needed.")
    if not (math.isfinite(stride) and stride >= 1):
        raise LofiError(f"stride={stride}: expected at least 1 frame of the video from one frame to the next.")


def _seconds(places: Floats, duration: float, num_frames: int) -> Floats:
    """Round places in frames (a half goes up), clamp them and return the middle of each frame in seconds."""
    if num_frames < 1 or not (math.isfinite(duration) and duration > 0):
        raise LofiError(f"A video of {num_frames} frames and {duration} s has nothing to sample.")
    numbers = np.clip(np.floor(places + 0.5), 0, num_frames - 1)
    return np.asarray((numbers + 0.5) * duration / num_frames, dtype=np.float64)
