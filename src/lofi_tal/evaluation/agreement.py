"""Two versions of the labels of the same videos: which segments match, what changed, and how far two people agree.

Segments match one to one, by falling tIoU; a pair with the same label goes before one without. Point events, which
start and end at one time, count as :data:`EVENT_WIDTH` seconds there. F1 counts matched pairs
with the same label: ``2 · pairs / (segments of the first + of the second)``. Cohen's kappa (J. Cohen, *A Coefficient of
Agreement for Nominal Scales*, 1960) is that of each class, over all time: at each instant both say that it is there, or
not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lofi_tal.annotations import Annotations, VideoAnnotation
from lofi_tal.errors import LofiError, counted
from lofi_tal.evaluation.matching import overlapping_pairs
from lofi_tal.segments import Segments

TIOU = 0.5
"""Above which two segments are taken for the same action."""
EVENT_WIDTH = 2.0
"""Seconds that a point event lasts where segments are matched: at tIoU 0.5, times up to 0.67 s apart are the same."""

Spans = NDArray[np.float64]


@dataclass(frozen=True)
class Matched:
    """Segments of one video in two versions.

    Args:
        pairs: Index in the first version, in the second, and tIoU, in the order of the first.
        first: Indices of the segments that only the first has.
        second: Indices of the segments that only the second has.
    """

    pairs: tuple[tuple[int, int, float], ...]
    first: tuple[int, ...]
    second: tuple[int, ...]


def match_segments(first: Segments, second: Segments, tiou: float = TIOU) -> Matched:
    """Match the segments of two versions of one video's labels.

    Raises:
        LofiError: If ``tiou`` is not above 0 and at most 1.
    """
    if not 0 < tiou <= 1:
        raise LofiError(f"tiou={tiou:g}: expected more than 0 and at most 1.")
    one, other = (np.zeros(len(part), np.int64) for part in (first, second))
    found = overlapping_pairs(one, _spans(first), other, _spans(second), tiou)
    same = np.array([first.label[i] == second.label[j] for i, j in zip(found.detection, found.instance, strict=True)])
    left, right = dict.fromkeys(range(len(first))), dict.fromkeys(range(len(second)))
    pairs = []
    for index in np.lexsort([found.instance, found.detection, -found.tiou, ~same.astype(bool)]):
        i, j = int(found.detection[index]), int(found.instance[index])
        if i in left and j in right:
            del left[i], right[j]
            pairs.append((i, j, float(found.tiou[index])))
    return Matched(tuple(sorted(pairs)), tuple(left), tuple(right))


def _spans(segments: Segments) -> Spans:
    """Return start and end ``(N, 2)``; of point events those of a segment around them."""
    half = np.where(segments.end > segments.start, 0.0, EVENT_WIDTH / 2)
    return np.stack([segments.start - half, segments.end + half], axis=1)


@dataclass(frozen=True)
class LabelChange:
    """What differs between two versions.

    Args:
        video_id: The video.
        kind: ``video added``, ``video removed``, ``subset``, ``duration``, ``ambiguous parts``; of a segment ``added``,
            ``removed``, ``moved`` or ``relabelled``.
        text: What it is, in words.
    """

    video_id: str
    kind: str
    text: str


def label_changes(old: Annotations, new: Annotations, tiou: float = TIOU) -> Iterator[LabelChange]:
    """Yield what differs between two versions, video by video.

    Raises:
        LofiError: If ``tiou`` is not above 0 and at most 1.
    """
    for video in old:
        if video.video_id not in new.videos:
            count = counted(len(video.segments), "segment")
            yield LabelChange(video.video_id, "video removed", f"the video is gone, with {count}")
    for video in new:
        before = old.videos.get(video.video_id)
        if before is None:
            count = counted(len(video.segments), "segment")
            yield LabelChange(video.video_id, "video added", f"a new video, with {count}")
            continue
        if before.subset != video.subset:
            yield LabelChange(video.video_id, "subset", f"from {before.subset} to {video.subset}")
        if before.duration != video.duration:
            lengths = ["unknown" if one is None else f"{one:g} s" for one in (before.duration, video.duration)]
            yield LabelChange(video.video_id, "duration", f"from {lengths[0]} to {lengths[1]}")
        if not np.array_equal(before.ignored, video.ignored):
            yield LabelChange(video.video_id, "ambiguous parts", "they differ, which `--ignore-ambiguous` leaves out")
        yield from _segment_changes(before, video, tiou)


def changes_text(changes: Sequence[LabelChange], videos: int) -> str:
    """Return how many of all videos of both versions differ, and the counts of each kind of change.

    >>> changes_text([LabelChange("match", "subset", "from training to validation")], 3)
    '1 of 3 videos differ: 1 subset.'
    """
    if not changes:
        return "No difference."
    touched = len({change.video_id for change in changes})
    counts = ", ".join(f"{count} {kind}" for kind, count in Counter(change.kind for change in changes).items())
    return f"{touched} of {videos} videos differ: {counts}."


def _segment_changes(before: VideoAnnotation, now: VideoAnnotation, tiou: float) -> Iterator[LabelChange]:
    old, new = before.segments, now.segments
    matched = match_segments(old, new, tiou)
    for i, j, overlap in matched.pairs:
        if old.label[i] != new.label[j]:
            yield LabelChange(now.video_id, "relabelled", f"{_shown(old, i)} is {new.label[j]} now")
        if (old.start[i], old.end[i]) != (new.start[j], new.end[j]):
            moved = f"{_shown(old, i)} is {_span(new, j)} now (tIoU {overlap:.2f})"
            yield LabelChange(now.video_id, "moved", moved)
    yield from (LabelChange(now.video_id, "removed", _shown(old, i)) for i in matched.first)
    yield from (LabelChange(now.video_id, "added", _shown(new, j)) for j in matched.second)


def _shown(segments: Segments, index: int) -> str:
    return f"{segments.label[index]} {_span(segments, index)}"


def _span(segments: Segments, index: int) -> str:
    start, end = segments.start[index], segments.end[index]
    return f"[{start:g}, {end:g}] s" if end > start else f"at {start:g} s"


@dataclass(frozen=True)
class ClassAgreement:
    """How far two versions agree on a class.

    Args:
        first: Segments of the first version.
        second: Segments of the second.
        matched: Pairs with this label in both.
        kappa: Cohen's; None where all time is the class in both, or in neither.
    """

    first: int
    second: int
    matched: int
    kappa: float | None

    @property
    def f1(self) -> float:
        """Share of the segments that have a counterpart."""
        return 2 * self.matched / max(1, self.first + self.second)


@dataclass(frozen=True)
class Agreement:
    """How far two versions agree on the videos that both have.

    Args:
        tiou: From which segments match.
        videos: Number of videos.
        classes: By label, in the order of their names.
        confused: How often a segment of one label matches one of another, the commonest first.
        boundary: Median distance of the boundaries of matched pairs in seconds; None without any.
    """

    tiou: float
    videos: int
    classes: dict[str, ClassAgreement]
    confused: tuple[tuple[str, str, int], ...]
    boundary: float | None

    @property
    def f1(self) -> float:
        """Share of all segments that have a counterpart with the same label."""
        every = self.classes.values()
        return 2 * sum(one.matched for one in every) / max(1, sum(one.first + one.second for one in every))


def agreement(first: Annotations, second: Annotations, tiou: float = TIOU) -> Agreement:
    """Return how far two versions agree.

    Raises:
        LofiError: If ``tiou`` is out of range, or the versions have no video in common.
    """
    common = [(video, second.videos[video.video_id]) for video in first if video.video_id in second.videos]
    if not common:
        raise LofiError("The two files have no video in common: nothing can be compared.")
    matched: Counter[str] = Counter()
    confused: Counter[tuple[str, str]] = Counter()
    distances: list[float] = []
    for one, other in common:
        for i, j, _ in match_segments(one.segments, other.segments, tiou).pairs:
            labels = one.segments.label[i], other.segments.label[j]
            if labels[0] == labels[1]:
                matched[labels[0]] += 1
            else:
                confused[labels] += 1
            distances += [abs(one.segments.start[i] - other.segments.start[j]),
                          abs(one.segments.end[i] - other.segments.end[j])]  # fmt: skip
    counts = [Counter(label for pair in common for label in pair[side].segments.label) for side in (0, 1)]
    classes = {
        label: ClassAgreement(counts[0][label], counts[1][label], matched[label], _kappa(common, label))
        for label in sorted(counts[0].keys() | counts[1].keys())
    }
    told = tuple((*labels, count) for labels, count in confused.most_common())
    return Agreement(tiou, len(common), classes, told, float(np.median(distances)) if distances else None)


def _kappa(common: list[tuple[VideoAnnotation, VideoAnnotation]], label: str) -> float | None:
    """Return Cohen's kappa of a class over the time of all videos."""
    whole = first = second = both = 0.0
    for one, other in common:
        spans = [_joined(video.segments, label) for video in (one, other)]
        ends = [float(video.segments.end.max()) for video in (one, other) if len(video.segments)]
        whole += max([one.duration or 0.0, other.duration or 0.0, *ends])
        first += _length(spans[0])
        second += _length(spans[1])
        both += _common_length(*spans)
    if not whole:
        return None
    agreed = (both + whole - (first + second - both)) / whole
    chance = (first * second + (whole - first) * (whole - second)) / whole**2
    return None if chance >= 1 - 1e-12 else (agreed - chance) / (1 - chance)


def _joined(segments: Segments, label: str) -> Spans:
    """Return the time of a class as spans ``(N, 2)`` that do not touch each other."""
    chosen = np.array([name == label for name in segments.label], dtype=bool)
    spans: list[list[float]] = []
    for start, end in sorted(zip(segments.start[chosen].tolist(), segments.end[chosen].tolist(), strict=True)):
        if spans and start <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], end)
        else:
            spans.append([start, end])
    return np.array(spans).reshape(-1, 2)


def _length(spans: Spans) -> float:
    return float((spans[:, 1] - spans[:, 0]).sum())


def _common_length(first: Spans, second: Spans) -> float:
    inter = np.minimum(first[:, None, 1], second[:, 1]) - np.maximum(first[:, None, 0], second[:, 0])
    return float(np.maximum(inter, 0).sum())
