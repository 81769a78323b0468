"""What a data set is like: videos, segments, how long they are, how they lie, and what a grid of snippets resolves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lofi_tal.annotations.document import Annotations, Change, VideoAnnotation
from lofi_tal.video import Clock

Floats = NDArray[np.float64]

GRIDS = (100, 50, 25)
"""Numbers of snippets a video that are looked at: full fidelity, half and a quarter of it in the paper."""

_STEPS = 50  # P

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


@dataclass(frozen=True)
class ClassStatistics:
    """One class: its videos, instances, seconds, and the median length of an instance in seconds."""

    label: str
    videos: int
    instances: int
    seconds: float
    median_seconds: float


@dataclass(frozen=True, eq=False)
class Statistics:
    """Figures of some annotations. Segments are clipped to their videos; those without a length do not count.

    Args:
        videos: Number of videos.
        videos_with_truth: Those with at least one segment.
        instances: Number of segments.
        dropped: Segments that lie outside their video, are not in seconds or do not end after their start.
        classes: Every class, the most frequent first.
        hours: Of all videos whose duration is known.
        known_durations: Their number.
        background: Share of the time of videos with truth and duration that lies in no segment; None without any.
        overlapping: Share of the segments that share time with another of their video.
        overlapping_same: Share of the segments that share time with another of their class.
        seconds: ``(N,)`` length of every segment.
        share: ``(M,)`` length as a share of the video, where its duration is known.
        gaps: ``(G,)`` seconds between a segment and the next one of the video that begins after all before it end.
        instances_per_video: ``(V,)`` of the videos with truth.
        durations: ``(D,)`` seconds of the videos whose duration is known.
        profile: ``(P,)`` share of the videos with truth and duration that show an action at each of P equal steps.
        below_step: For each of :data:`GRIDS`, the share of segments shorter than one of that many equal parts.
    """

    videos: int
    videos_with_truth: int
    instances: int
    dropped: tuple[Change, ...]
    classes: tuple[ClassStatistics, ...]
    hours: float
    known_durations: int
    background: float | None
    overlapping: float
    overlapping_same: float
    seconds: Floats
    share: Floats
    gaps: Floats
    instances_per_video: Floats
    durations: Floats
    profile: Floats
    below_step: dict[int, float]

    @property
    def left_out(self) -> int:
        """Number of segments that do not count."""
        return len(self.dropped)

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values, percentiles in place of the lists of lengths."""
        return {
            **{
                name: getattr(self, name)
                for name in (
                    "videos", "videos_with_truth", "instances", "left_out", "hours", "known_durations", "background",
                    "overlapping", "overlapping_same",
                )
            },
            "dropped": [asdict(change) for change in self.dropped],
            "segment_seconds": percentiles(self.seconds),
            "segment_share": percentiles(self.share),
            "gap_seconds": percentiles(self.gaps),
            "instances_per_video": percentiles(self.instances_per_video),
            "video_seconds": percentiles(self.durations),
            "profile": [round(float(value), 4) for value in self.profile],
            "below_step": {str(count): share for count, share in self.below_step.items()},
            "classes": [asdict(one) for one in self.classes],
        }  # fmt: skip


def describe(
    annotations: Annotations, clocks: Mapping[str, Clock] | None = None, unusable: Mapping[str, str] | None = None
) -> Statistics:
    """Return the figures of annotations, of one subset or of all.

    Args:
        annotations: As loaded, not cleaned.
        clocks: Of the video files by id, as far as they are known; they decide how long a video is.
        unusable: Ids of videos of which no segment can be trusted, and why.
    """
    lengths = {name: clock.end for name, clock in (clocks or {}).items()}
    annotations = Annotations(
        {video.video_id: replace(video, duration=lengths.get(video.video_id, video.duration)) for video in annotations}
    )
    cleaned, changes = annotations.clean(clocks, unusable)
    truth = list(cleaned.with_truth())
    seconds = _joined([video.segments.end - video.segments.start for video in truth])
    timed = [video for video in truth if video.duration is not None]
    share = _joined([(video.segments.end - video.segments.start) / _length(video) for video in timed])
    spans = [_layout(video) for video in truth]
    covered = sum(span.covered for span, video in zip(spans, truth, strict=True) if video.duration is not None)
    total = sum(_length(video) for video in timed)
    durations = np.array([video.duration for video in annotations if video.duration is not None], np.float64)
    count = max(1, len(seconds))
    return Statistics(
        videos=len(annotations),
        videos_with_truth=len(truth),
        instances=len(seconds),
        dropped=tuple(change for change in changes if change.dropped and change.label),
        classes=_classes(truth),
        hours=float(durations.sum()) / 3600,
        known_durations=len(durations),
        background=1 - covered / total if total else None,
        overlapping=sum(span.overlapping for span in spans) / count,
        overlapping_same=sum(span.overlapping_same for span in spans) / count,
        seconds=seconds,
        share=share,
        gaps=_joined([span.gaps for span in spans]),
        instances_per_video=np.array([len(video.segments) for video in truth], np.float64),
        durations=durations,
        profile=np.mean([_shown_at(video) for video in timed], axis=0) if timed else np.zeros(_STEPS),
        below_step={grid: float((share < 1 / grid).mean()) if len(share) else 0.0 for grid in GRIDS},
    )


def percentiles(values: Floats) -> dict[str, float]:
    """Return :data:`PERCENTILES` as ``{"p50": ...}``; empty without values."""
    if not len(values):
        return {}
    return {f"p{p}": round(float(v), 4) for p, v in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)}


@dataclass(frozen=True)
class _Layout:
    """How the segments of one video lie: seconds in any of them, how many share time, and the gaps between."""

    covered: float
    overlapping: int
    overlapping_same: int
    gaps: Floats


def _layout(video: VideoAnnotation) -> _Layout:
    segments = video.segments
    order = np.argsort(segments.start, kind="stable")
    start, end = segments.start[order], segments.end[order]
    reached = np.maximum.accumulate(end)  # how far the segments up to each one go
    new = np.append(True, start[1:] >= reached[:-1])  # begins after all before it ended
    covered = float(np.maximum(0, end - np.maximum(start, np.append(-np.inf, reached[:-1]))).sum())
    gaps = (start[1:] - reached[:-1])[new[1:]]
    labels = np.array(segments.label, dtype=object)
    same = sum(_overlapping(segments.start[labels == one], segments.end[labels == one]) for one in set(segments.label))
    return _Layout(covered, _overlapping(start, end), same, gaps)


def _overlapping(start: Floats, end: Floats) -> int:
    """Return how many spans share time with another one."""
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    with_earlier = np.append(-np.inf, np.maximum.accumulate(end)[:-1]) > start
    with_later = np.append(start[1:], np.inf) < end
    return int((with_earlier | with_later).sum())


def _shown_at(video: VideoAnnotation) -> NDArray[np.bool_]:
    """Say of the middle of each of P equal steps of a video whether a segment covers it."""
    times = (np.arange(_STEPS) + 0.5) / _STEPS * _length(video)
    inside = (video.segments.start[:, None] <= times) & (times < video.segments.end[:, None])
    return np.asarray(inside.any(axis=0), dtype=np.bool_)


def _classes(videos: list[VideoAnnotation]) -> tuple[ClassStatistics, ...]:
    lengths: dict[str, list[float]] = {}
    shown_in: dict[str, int] = {}
    for video in videos:
        segments = video.segments
        for label, length in zip(segments.label, (segments.end - segments.start).tolist(), strict=True):
            lengths.setdefault(label, []).append(length)
        for label in set(segments.label):
            shown_in[label] = shown_in.get(label, 0) + 1
    rows = [
        ClassStatistics(label, shown_in[label], len(values), sum(values), float(np.median(values)))
        for label, values in lengths.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.instances, row.label)))


def _joined(parts: list[Floats]) -> Floats:
    return np.concatenate([np.zeros(0), *parts])


def _length(video: VideoAnnotation) -> float:
    assert video.duration is not None
    return video.duration
