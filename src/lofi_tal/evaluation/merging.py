"""One file of labels from two: of two people, or an older and a newer one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from lofi_tal.annotations import Annotations, VideoAnnotation
from lofi_tal.errors import LofiError, nearest
from lofi_tal.evaluation.agreement import TIOU, match_segments
from lofi_tal.segments import Segments

MATCHED = ("first", "second", "mean")
"""Whose times a segment gets that both files have."""
UNMATCHED = ("keep", "drop")
"""What becomes of a segment that one file has."""


@dataclass(frozen=True)
class Merged:
    """Labels of two files in one.

    Args:
        annotations: The labels.
        notes: Where the files contradict each other, a line each, and what was taken.
    """

    annotations: Annotations
    notes: tuple[str, ...]


def merge_annotations(
    first: Annotations, second: Annotations, *, tiou: float = TIOU, matched: str = "mean", unmatched: str = "keep"
) -> Merged:
    """Merge two files of labels; a video that one of them has is taken as it is.

    Args:
        first: Whose subset, duration and label are taken where the two contradict each other.
        second: The other.
        tiou: From which two segments are taken for the same action.
        matched: One of :data:`MATCHED`; with ``second``, a label that differs is the second's too.
        unmatched: One of :data:`UNMATCHED`.

    Raises:
        LofiError: If an argument is not allowed.
    """
    for name, value, allowed in (("matched", matched, MATCHED), ("unmatched", unmatched, UNMATCHED)):
        if value not in allowed:
            raise LofiError(f"{name} {value!r} is unknown; allowed: {', '.join(allowed)}.{nearest(value, allowed)}")
    notes: list[str] = []
    videos = {}
    for video_id in {**first.videos, **second.videos}:
        one, other = first.videos.get(video_id), second.videos.get(video_id)
        if one is None or other is None:
            whole = one or other
            assert whole is not None
            videos[video_id] = whole
        else:
            videos[video_id] = _merged(one, other, tiou, matched, unmatched, notes)
    return Merged(Annotations(videos), tuple(notes))


def _merged(
    one: VideoAnnotation, other: VideoAnnotation, tiou: float, matched: str, unmatched: str, notes: list[str]
) -> VideoAnnotation:
    if one.subset != other.subset:
        notes.append(f"{one.video_id}: subset {one.subset}, not {other.subset}.")
    if one.duration and other.duration and abs(one.duration - other.duration) > 0.5:
        notes.append(f"{one.video_id}: duration {one.duration:g} s, not {other.duration:g} s.")
    duration = one.duration or other.duration
    rows = sorted(_rows(one.segments, other.segments, tiou, matched, unmatched, notes))
    spans = np.array([row[:2] for row in rows]).reshape(-1, 2)
    labels = tuple(row[2] for row in rows)
    segments = Segments(one.video_id, spans[:, 0], spans[:, 1], labels, np.ones(len(rows)), duration)
    ignored = np.unique(np.concatenate([one.ignored, other.ignored]), axis=0)
    if len(one.ignored) and len(other.ignored) and not np.array_equal(one.ignored, other.ignored):
        notes.append(f"{one.video_id}: ambiguous parts differ; those of both are kept.")
    return replace(one, duration=duration, segments=segments, ignored=ignored)


def _rows(
    one: Segments, other: Segments, tiou: float, matched: str, unmatched: str, notes: list[str]
) -> Iterator[tuple[float, float, str]]:
    """Yield start, end and label of each segment that is left."""
    found = match_segments(one, other, tiou)
    for i, j, _ in found.pairs:
        chosen, at, rest, beside = (other, j, one, i) if matched == "second" else (one, i, other, j)
        spans = [np.array([segments.start[k], segments.end[k]]) for segments, k in ((chosen, at), (rest, beside))]
        start, end = (spans[0] + spans[1]) / 2 if matched == "mean" else spans[0]
        if chosen.label[at] != rest.label[beside]:
            notes.append(f"{one.video_id}, [{start:g}, {end:g}] s: {chosen.label[at]}, not {rest.label[beside]}.")
        yield float(start), float(end), chosen.label[at]
    if unmatched == "keep":
        for segments, indices in ((one, found.first), (other, found.second)):
            yield from ((float(segments.start[k]), float(segments.end[k]), segments.label[k]) for k in indices)
