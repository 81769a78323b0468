"""What is wrong with what a person is shown: wrong labels, boundaries, missed actions, false alarms, doubles.

Shown detections that are right at the tIoU are taken away with their instances. What is left is matched without labels:
a match has the *wrong label*. Of what then remains, a detection that overlaps an instance enough is a *double*, with
that label or another, since another detection has the instance. An instance that is overlapped by at least 0.1 has bad
*boundaries*; one that is not is *missed*; a detection that overlaps none is a *false alarm*.

Legend: N shown detections, G instances, V videos, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lofi_tal.evaluation.detection import match_detections
from lofi_tal.evaluation.diagnosis import MINIMUM_TIOU
from lofi_tal.evaluation.documents import Detections, GroundTruth
from lofi_tal.evaluation.matching import overlapping_pairs
from lofi_tal.evaluation.operating import Thresholds
from lofi_tal.evaluation.verdicts import TIOU, one_label

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

MISTAKES = ("wrong label", "boundaries", "missed", "false alarm", "double")
NOTHING = "nothing"
"""Where an instance was not found, or a detection shows what is not there."""


@dataclass(frozen=True)
class VideoMistakes:
    """The mistakes in one video.

    Args:
        video_id: Its id.
        counts: Number of each of :data:`MISTAKES`.
        classes: How many of each of them concern a class, true or shown, by class; a wrong label concerns two.
        instances: Instances in it.
    """

    video_id: str
    counts: dict[str, int]
    classes: dict[str, dict[str, int]]
    instances: int

    @property
    def total(self) -> int:
        """Return the number of all mistakes."""
        return sum(self.counts.values())


@dataclass(frozen=True, eq=False)
class Mistakes:
    """What is wrong with what is shown of some videos.

    Args:
        labels: Class names.
        confusion: ``(C + 1, C + 1)`` numbers: rows are what is there, columns what is shown; the last of each is
            :data:`NOTHING`. Boundaries that are off count as found with their label, doubles not at all.
        counts: Number of each of :data:`MISTAKES`, in all.
        videos: Of each video with a mistake, worst first.
        state: ``(G,)`` of each instance: -1 right, or its position in :data:`MISTAKES`.
        shown: N.
        below: Missed instances that a detection below its threshold would have found.
    """

    labels: tuple[str, ...]
    confusion: Indices
    counts: dict[str, int]
    videos: tuple[VideoMistakes, ...]
    state: Indices
    shown: int
    below: int = 0

    def confused(self, most: int = 3) -> list[tuple[str, str, int]]:
        """Return the pairs (what is there, what is shown, how often) that are confused most, worst first."""
        pairs = self.confusion[:-1, :-1] * (1 - np.eye(len(self.labels), dtype=np.int64))
        order = np.argsort(-pairs, axis=None, kind="stable")[:most]
        rows = [divmod(int(place), max(1, len(self.labels))) for place in order]
        return [(self.labels[r], self.labels[c], int(pairs[r, c])) for r, c in rows if pairs[r, c]]

    def to_json(self) -> dict[str, Any]:
        """Return the mistakes as a JSON-like dict."""
        return {
            "labels": [*self.labels, NOTHING],
            "confusion": self.confusion.tolist(),
            "counts": self.counts,
            "shown": self.shown,
            "below": self.below,
            "videos": [dict(vars(one)) for one in self.videos],
        }


@dataclass(frozen=True, eq=False)
class Sorted:
    """Shown detections and instances, each with what is wrong with it; -1 stands for none.

    Args:
        shown: The N detections that are shown.
        best: All detections, each span with its best label.
        right: ``(N,)`` instance that a right detection matches.
        wrong: ``(N,)`` instance that a detection with the wrong label matches.
        near: ``(N,)`` instance that a detection, which is neither, overlaps most, with a tIoU of at least 0.1.
        alarm: ``(N,)`` whether a detection shows what is not there.
        double: ``(N,)`` whether it shows again, with any label, an action that another detection has.
        state: ``(G,)`` as in :class:`Mistakes`.
        placed: ``(G,)`` detection with bad boundaries that overlaps the instance most, with its label.
    """

    shown: Detections
    best: Detections
    right: Indices
    wrong: Indices
    near: Indices
    alarm: Mask
    double: Mask
    state: Indices
    placed: Indices


def sort_mistakes(
    truth: GroundTruth, detections: Detections, thresholds: Thresholds, tiou: float = TIOU, *, several: bool = False
) -> Sorted:
    """Return what is wrong with each shown detection and each instance; arguments as :func:`find_mistakes`."""
    known = detections.only(detections.video >= 0)
    best = known if several else one_label(known)
    limits = np.array([thresholds.of(label) for label in truth.labels])
    shown = best.only(best.score >= limits[best.label])
    instance = _matches(truth, shown, tiou)  # (N,): -1 where none
    right = instance >= 0
    free = np.ones(len(truth.label), dtype=bool)
    free[instance[right]] = False
    wrong = _matches_without_labels(truth, free, shown, ~right, tiou)
    free[wrong[wrong >= 0]] = False
    rest = ~right & (wrong < 0)
    pairs = overlapping_pairs(shown.video, shown.segment, truth.video, truth.segment, MINIMUM_TIOU)
    near = np.full(len(rest), -1, dtype=np.int64)
    near[pairs.detection[::-1]] = pairs.instance[::-1]  # by falling tIoU: the first of each stays
    near[~rest] = -1
    double = np.zeros(len(rest), dtype=bool)
    double[pairs.detection[pairs.tiou >= tiou]] = True
    placed = np.full(len(free), -1, dtype=np.int64)
    ours = rest[pairs.detection] & (shown.label[pairs.detection] == truth.label[pairs.instance])
    by_tiou = np.flatnonzero(ours)[np.argsort(pairs.tiou[ours], kind="stable")]
    placed[pairs.instance[by_tiou]] = pairs.detection[by_tiou]
    state = np.full(len(free), -1, dtype=np.int64)
    state[wrong[wrong >= 0]] = 0
    state[free] = np.where(placed[free] >= 0, 1, 2)
    placed[state != 1] = -1
    return Sorted(shown, best, instance, wrong, near, rest & (near < 0), double & rest, state, placed)


def find_mistakes(
    truth: GroundTruth, detections: Detections, thresholds: Thresholds, tiou: float = TIOU, *, several: bool = False
) -> Mistakes:
    """Return what is wrong with what thresholds show.

    Args:
        truth: The instances.
        detections: All of them, against this truth; each span is shown with its best label.
        thresholds: Lowest scores shown.
        tiou: From which overlap on an instance is found.
        several: Each span is shown with all its labels instead.
    """
    one = sort_mistakes(truth, detections, thresholds, tiou, several=several)
    below = np.zeros(len(one.state), dtype=bool)
    found = _matches(truth, one.best, tiou)
    below[found[found >= 0]] = True
    counted = _collect(truth, one.shown, one.state, (one.right, one.wrong, one.alarm, one.double))
    return replace(counted, below=int((below & (one.state == 2)).sum()))


def _matches(truth: GroundTruth, shown: Detections, tiou: float) -> Indices:
    """Return the instance that each shown detection matches with its label, -1 for none: ``(N,)``."""
    matched = match_detections(truth, shown, [tiou])
    instance = np.full(len(shown.score), -1, dtype=np.int64)
    instance[matched.order] = matched.instance[:, 0]
    return instance


def _matches_without_labels(truth: GroundTruth, free: Mask, shown: Detections, left: Mask, tiou: float) -> Indices:
    """Return the free instance that each detection that is left matches whatever its label: ``(N,)``."""
    places, rows = np.flatnonzero(free), np.flatnonzero(left)
    reduced = replace(
        truth,
        labels=("any",),
        video=truth.video[places],
        label=np.zeros(len(places), np.int64),
        segment=truth.segment[places],
    )
    some = shown.only(rows)
    found = _matches(reduced, replace(some, label=np.zeros(len(rows), np.int64)), tiou)
    instance = np.full(len(shown.score), -1, dtype=np.int64)
    instance[rows[found >= 0]] = places[found[found >= 0]]
    return instance


def _collect(
    truth: GroundTruth, shown: Detections, state: Indices, parts: tuple[Indices, Indices, Mask, Mask]
) -> Mistakes:
    """Count what was found: in all, by pair of classes, and by video."""
    instance, wrong, alarm, double = parts
    size = len(truth.labels) + 1
    confusion = np.zeros((size, size), dtype=np.int64)
    for found in (instance, wrong):
        rows = found >= 0
        np.add.at(confusion, (truth.label[found[rows]], shown.label[rows]), 1)
    off, missed = state == 1, state == 2
    np.add.at(confusion, (truth.label[off], truth.label[off]), 1)
    confusion[:, -1] += np.bincount(truth.label[missed], minlength=size)
    confusion[-1] += np.bincount(shown.label[alarm], minlength=size)
    table = np.zeros((len(truth.videos), len(MISTAKES)), dtype=np.int64)
    for kind in range(3):
        np.add.at(table[:, kind], truth.video[state == kind], 1)
    np.add.at(table[:, 3], shown.video[alarm], 1)
    np.add.at(table[:, 4], shown.video[double], 1)
    concerned = _by_class(truth, shown, state, wrong, alarm, double)
    there = np.bincount(truth.video, minlength=len(truth.videos))
    order = [v for v in np.lexsort((-there, -table.sum(axis=1))).tolist() if table[v].any()]
    videos = [VideoMistakes(truth.videos[v], _named(table[v]), concerned.get(v, {}), int(there[v])) for v in order]
    return Mistakes(truth.labels, confusion, _named(table.sum(axis=0)), tuple(videos), state, len(shown.score))


def _by_class(
    truth: GroundTruth, shown: Detections, state: Indices, wrong: Indices, alarm: Mask, double: Mask
) -> dict[int, dict[str, dict[str, int]]]:
    """Return how many mistakes of each video concern each class: by video, class and kind."""
    found: dict[int, dict[str, dict[str, int]]] = {}

    def count(kind: str, video: Indices, label: Indices) -> None:
        for v, c in zip(video.tolist(), label.tolist(), strict=True):
            of_class = found.setdefault(v, {}).setdefault(truth.labels[c], dict.fromkeys(MISTAKES, 0))
            of_class[kind] += 1

    for number, kind in enumerate(MISTAKES[:3]):
        rows = np.flatnonzero(state == number)
        count(kind, truth.video[rows], truth.label[rows])
    rows = np.flatnonzero(wrong >= 0)
    other = rows[shown.label[rows] != truth.label[wrong[rows]]]
    count(MISTAKES[0], shown.video[other], shown.label[other])
    for kind, mask in zip(MISTAKES[3:], (alarm, double), strict=True):
        count(kind, shown.video[mask], shown.label[mask])
    return found


def _named(counts: Sequence[int] | Indices) -> dict[str, int]:
    return {name: int(count) for name, count in zip(MISTAKES, counts, strict=True)}
