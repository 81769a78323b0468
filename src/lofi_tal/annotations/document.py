"""Annotations in memory: the videos of a dataset, their subsets and their ground truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lofi_tal.errors import DataError, counted, nearest, nearest_id
from lofi_tal.segments import Floats, Segments
from lofi_tal.video import Clock, known_as


@dataclass(frozen=True, eq=False)
class VideoAnnotation:
    """What the annotations say of one video.

    Args:
        video_id: Id, as the file has it.
        duration: Seconds, or None where the file does not say.
        subset: Such as ``training``, ``validation``, ``testing``.
        segments: Ground truth, as the file has it: segments may lie outside the video or be empty.
        ignored: ``(I, 2)`` start and end in seconds of parts that are neither action nor background, as the file has
            them (THUMOS14's ``Ambiguous``). Nothing looks at them but an evaluation that is asked to.
        fps: Frames a second, or None where the file does not say; published features at a stride of frames need it.
    """

    video_id: str
    duration: float | None
    subset: str
    segments: Segments
    ignored: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    fps: float | None = None

    def bounds(self, clock: Clock | None) -> tuple[float, float]:
        """Return where its segments can lie: within the pictures, or else within the annotated duration."""
        return (0.0, self.duration or np.inf) if clock is None else (max(0.0, clock.start), clock.end)


@dataclass(frozen=True)
class Change:
    """What cleaning did to one segment or ignored part.

    Args:
        video_id: The video.
        name: Which annotation it is, in words.
        label: Its class; empty for an ignored part.
        start: Seconds, as the annotations have it.
        end: Seconds, as the annotations have it.
        outcome: What was done and why, in words.
        dropped: Whether nothing of it is left.
    """

    video_id: str
    name: str
    label: str
    start: float
    end: float
    outcome: str
    dropped: bool

    def __str__(self) -> str:
        return f"{self.video_id}, {self.name} [{self.start:g}, {self.end:g}] s {self.outcome}."


@dataclass(frozen=True, eq=False)
class Annotations:
    """Videos by id, in the order of the file.

    Args:
        videos: By id.
        notes: What a lenient reader left out, one line each.
    """

    videos: Mapping[str, VideoAnnotation]
    notes: tuple[str, ...] = ()

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Class names of these videos in the order of their first appearance, as the official evaluator counts."""
        return tuple(dict.fromkeys(label for video in self for label in video.segments.label))

    def __len__(self) -> int:
        return len(self.videos)

    def __iter__(self) -> Iterator[VideoAnnotation]:
        return iter(self.videos.values())

    def __getitem__(self, video_id: str) -> VideoAnnotation:
        """Return a video by its id, with or without the ``v_`` of ActivityNet's file names.

        Raises:
            DataError: If there is no such video.
        """
        if (name := known_as(video_id, self.videos)) is not None:
            return self.videos[name]
        raise DataError(f"The annotations have no video {video_id!r}.{nearest_id(video_id, self.videos)}")

    @cached_property
    def subsets(self) -> dict[str, int]:
        """Number of videos of each subset."""
        return dict(Counter(video.subset for video in self))

    def subset(self, name: str) -> Annotations:
        """Return the videos of one subset; its ``labels`` are those that appear in it.

        Raises:
            DataError: If no video is in it.
        """
        chosen = {video.video_id: video for video in self if video.subset == name}
        if not chosen:
            raise DataError(
                f"No video is in subset {name!r}; the annotations have {_counted(self.subsets)}."
                f"{nearest(name, self.subsets)} `lofi data split` divides videos into subsets."
            )
        return Annotations(chosen)

    def with_truth(self) -> Annotations:
        """Return the videos that have at least one segment."""
        return Annotations({video.video_id: video for video in self if len(video.segments)})

    def without_truth(self) -> Annotations:
        """Return the videos that have no segment: background alone, if they have been looked through."""
        return Annotations({video.video_id: video for video in self if not len(video.segments)})

    def clean(
        self, clocks: Mapping[str, Clock] | None = None, unusable: Mapping[str, str] | None = None
    ) -> tuple[Annotations, list[Change]]:
        """Clip segments and ignored parts to their video and drop those without a length, for training.

        Args:
            clocks: Of the video files by id, as far as they are known: nothing is to be seen before the first picture
                and after the last one. Without it, a video lasts from 0 to its annotated duration.
            unusable: Ids of videos of which no segment can be trusted, and why.

        Returns:
            The annotations, and what was clipped or dropped.
        """
        changes: list[Change] = []
        clocks, unusable = clocks or {}, unusable or {}
        videos = {}
        for name, video in self.videos.items():
            if name in unusable:
                videos[name] = _emptied(video, unusable[name], changes)
            else:
                videos[name] = _clean_video(video, clocks.get(name), changes)
        return Annotations(videos), changes


def require_truth(annotations: Annotations, subset: str) -> Annotations:
    """Return a subset that training or evaluation is about to need.

    Raises:
        DataError: If the subset is unknown or none of its videos has a segment; the message says what is there.
    """
    chosen = annotations.subset(subset)
    if not any(len(video.segments) for video in chosen):
        counts = Counter(video.subset for video in annotations.with_truth())
        raise DataError(
            f"Subset {subset!r} has {len(chosen)} videos, none with a segment; "
            f"videos with segments: {_counted(counts) if counts else 'none at all'}."
        )
    return chosen


def lost_classes(annotations: Annotations, cleaned: Annotations) -> tuple[str, ...]:
    """Return the classes of which cleaning left no segment."""
    left = set(cleaned.labels)
    return tuple(label for label in annotations.labels if label not in left)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name!r} ({counted(count, 'video')})" for name, count in counts.items())


def _clean_video(video: VideoAnnotation, clock: Clock | None, changes: list[Change]) -> VideoAnnotation:
    bounds = video.bounds(clock)
    segments = video.segments
    lies_within = (segments.start >= bounds[0]) & (segments.end <= bounds[1]) & (segments.start < segments.end)
    if lies_within.all() and not len(video.ignored):
        return video
    spans = np.stack([segments.start, segments.end], axis=1)
    spans, keep = _clip(video.video_id, spans, bounds, _names(segments), changes)
    parts = [(f"ignored part {i}", "") for i in range(len(video.ignored))]
    ignored, kept = _clip(video.video_id, video.ignored, bounds, parts, changes)
    cleaned = replace(segments[keep], start=spans[keep, 0], end=spans[keep, 1])
    return replace(video, segments=cleaned, ignored=ignored[kept])


def _emptied(video: VideoAnnotation, reason: str, changes: list[Change]) -> VideoAnnotation:
    """Return a video without its segments, each of which is noted as dropped."""
    segments = video.segments
    for (name, label), start, end in zip(_names(segments), segments.start, segments.end, strict=True):
        changes.append(Change(video.video_id, name, label, float(start), float(end), f"dropped: {reason}", True))
    return replace(video, segments=segments[np.zeros(len(segments), bool)], ignored=np.zeros((0, 2)))


def _names(segments: Segments) -> list[tuple[str, str]]:
    return [(f"annotation {i} ({label})", label) for i, label in enumerate(segments.label)]


def _clip(
    video_id: str, spans: Floats, bounds: tuple[float, float], names: Sequence[tuple[str, str]], changes: list[Change]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return spans ``(N, 2)`` clipped to the bounds, and which of them have a length; note what that changes."""
    clipped = np.clip(spans, *bounds)
    keep = clipped[:, 1] > clipped[:, 0]
    for i in np.flatnonzero(~keep | (clipped != spans).any(axis=1)):
        (start, end), (first, last) = spans[i], clipped[i]
        outcome = (
            f"clipped to [{first:g}, {last:g}] s"
            if keep[i]
            else f"dropped: the video has only [{bounds[0]:g}, {bounds[1]:g}] s"
        )
        if not keep[i] and end <= start:
            outcome = "dropped: it does not end after its start"
        name, label = names[int(i)]
        changes.append(Change(video_id, name, label, float(start), float(end), outcome, dropped=bool(~keep[i])))
    return clipped, keep
