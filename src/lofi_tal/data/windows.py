"""Windows of videos, and which actions they show.

N: segments of one video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lofi_tal.data.videos import TruthVideo
from lofi_tal.errors import DataError
from lofi_tal.snippets import Window, Windows

WHOLE = 0.9
"""A window is trained on if it shows more than this share of an action (public G-TAD and BSN code for THUMOS14)."""
VISIBLE = 0.5
"""Of the actions that a window cuts, it keeps those of which it shows at least this share (ActionFormer's code)."""


def within(video: TruthVideo, window: Window) -> TruthVideo:
    """Return a window of a video, with the actions of which at least :data:`VISIBLE` lies inside, cut to it."""
    if window.whole:
        return video
    segments = _shares(video.segments, window)
    keep = _visible(segments) >= VISIBLE
    return replace(video, segments=segments[keep].clamp(0, 1).float(), labels=video.labels[keep], window=window)


def training_windows(videos: Sequence[TruthVideo], windows: Windows) -> list[TruthVideo]:
    """Return the windows of some videos that show more than :data:`WHOLE` of an action; whole videos as they are.

    Of a video without actions, which is there as a negative, all windows are kept.

    Raises:
        DataError: If there is none.
    """
    if windows.seconds is None and not windows.keep:
        return list(videos)
    kept = [
        within(video, window)
        for video in videos
        for window in windows.cut(video.file.snippets(windows))
        if not len(video.labels) or _shown(video, window).any()
    ]
    if not kept:
        raise DataError(
            f"No window of {_extent(windows)} shows more than {WHOLE:.0%} of an action of the {len(videos)} training "
            f"videos: raise snippets.{'count' if windows.keep else 'window'} to twice the length of your longest "
            "actions."
        )
    return kept


def cut_actions(videos: Sequence[TruthVideo], windows: Windows) -> int:
    """Return the number of actions of which no window shows more than :data:`WHOLE`."""
    shown = [
        torch.stack([_shown(video, window) for window in windows.cut(video.file.snippets(windows))]).any(0)
        for video in videos
    ]
    return sum(int((~video).sum()) for video in shown)


def _shown(video: TruthVideo, window: Window) -> Tensor:
    """Say of each action ``(N,)`` whether the window shows more than :data:`WHOLE` of it."""
    return _visible(_shares(video.segments, window)) > WHOLE


def _shares(segments: Tensor, window: Window) -> Tensor:
    """Return segments ``(N, 2)`` of a video as shares of a window, which may lie outside [0, 1]."""
    return (segments.double() * window.of - window.first) / window.count


def _visible(segments: Tensor) -> Tensor:
    """Return the share ``(N,)`` of each segment ``(N, 2)`` that lies in [0, 1]."""
    start, end = segments.unbind(1)
    return (end.clamp(0, 1) - start.clamp(0, 1)) / (end - start)


def _extent(windows: Windows) -> str:
    return f"{windows.count} features" if windows.seconds is None else f"{windows.seconds:g} s"
