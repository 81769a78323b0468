"""Point events: the time of each detection, and suppression by distance in time.

The best detection of a class is kept, all others of that class that are nearer to it than the spacing are dropped, and
so on with the best that is left. Published systems do so: SoccerNet's (SoccerNet/sn-spotting, ``get_spot_from_NMS`` of
its benchmarks: half a window to either side, of 30 s in NetVLAD++), and E2E-Spot (Hong et al., ECCV 2022;
jhong93/spot, ``util/eval.py``), where a detection falls to any better one within the window, kept or not.

Legend: N detections of one video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lofi_tal.segments import Segments

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
_ROUNDING = 1e-6  # seconds


def keep_apart(times: Floats, scores: Floats, labels: Sequence[str], spacing: float) -> Indices:
    """Return the positions of the detections that are kept, in their order: ``(K,)``.

    Args:
        times: ``(N,)`` seconds.
        scores: ``(N,)``; of equal ones the first is the better.
        labels: N classes.
        spacing: Seconds that two detections of a class are apart at least; 0 keeps all.

    >>> keep_apart(np.array([1.0, 1.5, 2.2]), np.array([0.5, 0.9, 0.4]), ["hit"] * 3, 1.0).tolist()
    [1]
    >>> keep_apart(np.array([1.0, 1.5, 2.2]), np.array([0.5, 0.9, 0.4]), ["hit", "miss", "hit"], 1.0).tolist()
    [0, 1, 2]
    """
    names = np.array(labels, dtype=object)
    kept = np.zeros(len(times), dtype=bool)
    for label in dict.fromkeys(labels):
        members = np.flatnonzero(names == label)
        order = members[np.argsort(times[members], kind="stable")]
        ranked = np.argsort(-scores[order], kind="stable") if spacing else np.arange(len(order))
        sorted_times, free = times[order], np.ones(len(order), dtype=bool)
        first = np.searchsorted(sorted_times, sorted_times - spacing + _ROUNDING, "right")
        last = np.searchsorted(sorted_times, sorted_times + spacing - _ROUNDING, "left")
        for place in ranked:
            if free[place]:
                kept[order[place]] = True
                free[first[place] : last[place]] = False
    return np.flatnonzero(kept)


def as_events(segments: Segments, width: float | None, spacing: float | None = None, *, begin: float = 0.0) -> Segments:
    """Return detections of a model of point events with their times, those of a class apart; others as they are.

    The time is the middle of the segment. Where the beginning or the end of the video has cut the segment, as it cuts
    those that are trained on, the time is half the width from the other end.

    Args:
        segments: Of one video.
        width: Of the segments that stand for events, in seconds; None if the model finds segments.
        spacing: See :func:`keep_apart`; None takes the width.
        begin: When the pictures begin; they end at the duration of the segments.
    """
    if width is None:
        return segments
    times = (segments.start + segments.end) / 2
    end = np.inf if segments.duration is None else segments.duration
    short = segments.end - segments.start < width
    early = short & (segments.start <= begin + _ROUNDING)
    late = short & ~early & (segments.end >= end - _ROUNDING)
    times[early] = np.maximum(segments.end[early] - width / 2, begin)
    times[late] = np.minimum(segments.start[late] + width / 2, end)
    kept = keep_apart(times, segments.score, segments.label, width if spacing is None else spacing)
    return replace(segments, time=times)[kept]
