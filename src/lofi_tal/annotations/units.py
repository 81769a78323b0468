"""Times that are no seconds: frames, milliseconds, minutes or shares of the video, told by the length of the video."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lofi_tal.annotations.document import Annotations, VideoAnnotation
from lofi_tal.annotations.findings import Finding

OUTSIDE = 0.1
"""Seconds that a segment may reach past the video before it is worth a word."""

_FINER = {"milliseconds": 1e3, "microseconds": 1e6}
_FPS = (10.0, 60.0)  # where no file says it
_SHORTEST = 0.04  # seconds: what would be shorter than a frame is no segment
_FAR = 1.1  # times the length of the video, and a second: what ends before is at most carelessly cut
_ALIKE = 0.2  # of the ratio of two durations
_ENOUGH = 3  # segments of a video in its first sixtieth
_ENOUGH_IN_ALL = 5

Floats = NDArray[np.float64]


def check_units(
    annotations: Annotations, lengths: Mapping[str, float], rates: Mapping[str, float]
) -> dict[str, Finding]:
    """Return a finding for each video whose times look like another unit than seconds.

    Args:
        annotations: As loaded, not cleaned.
        lengths: Seconds of the videos, by id; where it is not known, nothing can be told.
        rates: Frames a second, by id, where a file says it.
    """
    known = [video for video in annotations if len(video.segments) and video.video_id in lengths]
    found = {}
    for video in known:
        length = lengths[video.video_id]
        if units := _finer_units(video, length, rates.get(video.video_id)):
            found[video.video_id] = _finding(video, length, units)
    return found | _coarser(known, lengths)


def _finding(video: VideoAnnotation, length: float, units: list[str]) -> Finding:
    segments = video.segments
    last = int(np.argmax(segments.end))
    span = f"[{segments.start[last]:g}, {segments.end[last]:g}]"
    outside = int((segments.end > length + OUTSIDE).sum())
    detail = (
        f"{outside} of {len(segments)} segments end after the video, which lasts {length:.4g} s, such as {span} "
        f"({segments.label[last]}): are these {' or '.join(units)}? Times must be seconds"
    )
    return Finding("error", "units", video.video_id, detail)


def _finer_units(video: VideoAnnotation, length: float, fps: float | None) -> list[str]:
    """Return the units in which segments would fit of which most end long after the video."""
    starts, ends = video.segments.start, video.segments.end
    if (ends > _FAR * length + 1).mean() <= 0.5:
        return []
    stated = None if video.duration is None else video.duration / length
    if stated is not None and stated > 1 + _ALIKE and ends.max() <= length * stated + OUTSIDE:
        # the segments fit into the stated duration: that is in the same unit, or the file has lost its end
        factors = {"frames": fps or 0.0, **_FINER}
        return [unit for unit, factor in factors.items() if abs(stated - factor) <= _ALIKE * factor]
    units = []
    slowest, fastest = (fps, fps) if fps else _FPS
    whole = np.array_equal(starts, np.round(starts)) and np.array_equal(ends, np.round(ends))
    if whole and (_fits(starts, ends, length, fastest) or _fits(starts, ends, length, slowest)):
        units.append("frames")
    return units + [unit for unit, factor in _FINER.items() if _fits(starts, ends, length, factor)]


def _fits(starts: Floats, ends: Floats, length: float, factor: float) -> bool:
    """Say whether times divided by a factor lie in the video, and most of them are no shorter than a frame."""
    shortest = float(np.median(ends - starts)) / factor
    return bool(ends.max() / factor <= length + OUTSIDE and shortest >= _SHORTEST)


def _coarser(known: list[VideoAnnotation], lengths: Mapping[str, float]) -> dict[str, Finding]:
    """Return a finding for each video whose segments all lie in its first sixtieth, if there are enough of them."""
    doubtful = {}
    for video in known:
        length, last = lengths[video.video_id], float(video.segments.end.max())
        units = ["minutes"] if length > 60 and last <= length / 60 + OUTSIDE / 60 else []
        units += ["shares of the video"] if length > 10 and last <= 1 else []
        if units:
            doubtful[video.video_id] = video, units
    everywhere = len(doubtful) == len(known) and sum(len(v.segments) for v, _ in doubtful.values()) >= _ENOUGH_IN_ALL
    found = {}
    for name, (video, units) in doubtful.items():
        if everywhere or len(video.segments) >= _ENOUGH:
            detail = (
                f"The last of {len(video.segments)} segments ends at {video.segments.end.max():g}, but the video lasts "
                f"{lengths[name]:.4g} s: are these {' or '.join(units)}? Times must be seconds"
            )
            found[name] = Finding("warning", "units", name, detail)
    return found
