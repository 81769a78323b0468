"""Matching detections to instances, as the official ActivityNet evaluator does it, for all classes at once.

Source: activitynet/ActivityNet, ``Evaluation/eval_detection.py``. Detections of a class are taken by falling
score. Each one walks down the instances of its class and video by falling tIoU and, at each threshold, takes
the first that no better detection has taken, as long as the tIoU is at least the threshold. (So the second
best instance may be taken, unlike in PASCAL VOC.) The detections of one video and class are a queue; queues
are independent and advance together.

Legend: N detections, G instances, P pairs of a detection and an instance, T thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Pairs:
    """Pairs of a detection and an instance of the same group, by detection and then by falling tIoU.

    Args:
        detection: ``(P,)`` position of the detection.
        instance: ``(P,)`` position of the instance.
        tiou: ``(P,)``.
    """

    detection: Indices
    instance: Indices
    tiou: Floats


def pairwise_tiou(first: Floats, second: Floats) -> Floats:
    """Return the temporal IoU of segments ``(P, 2)`` with segments ``(P, 2)``.

    A reversed instance, and two empty segments, overlap by 0. (The official evaluator gets NaN for the latter
    and then counts a match.)
    """
    inter = np.minimum(first[:, 1], second[:, 1]) - np.maximum(first[:, 0], second[:, 0])
    np.maximum(inter, 0.0, out=inter)
    union = (first[:, 1] - first[:, 0]) + (second[:, 1] - second[:, 0]) - inter
    tiou: Floats = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
    return tiou


def overlapping_pairs(
    group: Indices, segment: Floats, instance_group: Indices, instance_segment: Floats, minimum: float
) -> Pairs:
    """Return the pairs within a group (one video and class) whose tIoU is at least ``minimum``.

    Args:
        group: ``(N,)`` group of each detection.
        segment: ``(N, 2)``.
        instance_group: ``(G,)`` group of each instance.
        instance_segment: ``(G, 2)``.
        minimum: Smallest tIoU of interest.
    """
    order = np.argsort(instance_group, kind="stable")
    first = np.searchsorted(instance_group[order], group, side="left")
    count = np.searchsorted(instance_group[order], group, side="right") - first
    detection = np.repeat(np.arange(len(group)), count)
    offset = np.arange(len(detection)) - np.repeat(np.cumsum(count) - count, count)
    instance = order[first[detection] + offset]
    tiou = pairwise_tiou(segment[detection], instance_segment[instance])
    keep = tiou >= minimum
    detection, instance, tiou = detection[keep], instance[keep], tiou[keep]
    # Equal tIoU: the later instance first, as argsort()[::-1] has it.
    by_tiou = np.lexsort((-instance, -tiou, detection))
    return Pairs(detection[by_tiou], instance[by_tiou], tiou[by_tiou])


def match(rank: Indices, group: Indices, pairs: Pairs, instances: int, thresholds: Floats) -> Indices:
    """Return the instance that each detection matches at each threshold ``(N, T)``, -1 for a false positive.

    Args:
        rank: ``(N,)`` position of each detection in the order in which detections are taken.
        group: ``(N,)`` video and class of each detection.
        pairs: Candidates, down to the smallest threshold.
        instances: G.
        thresholds: ``(T,)`` tIoU thresholds.
    """
    matched = np.full((len(rank), len(thresholds)), -1, dtype=np.int64)
    taken = np.zeros((instances, len(thresholds)), dtype=bool)
    candidates, first, count = np.unique(pairs.detection, return_index=True, return_counts=True)
    # Place of each candidate in the queue of its group.
    queue = np.lexsort((rank[candidates], group[candidates]))
    candidates, first, count = candidates[queue], first[queue], count[queue]
    _, members = np.unique(group[candidates], return_counts=True)
    turn = np.arange(len(candidates)) - np.repeat(np.cumsum(members) - members, members)
    by_turn = np.argsort(turn, kind="stable")
    for now in np.split(by_turn, np.cumsum(np.bincount(turn))[:-1]) if len(turn) else ():
        waiting = np.ones((len(now), len(thresholds)), dtype=bool)
        for depth in range(int(count[now].max())):
            alive = count[now] > depth
            now, waiting = now[alive], waiting[alive]
            pair = first[now] + depth
            instance = pairs.instance[pair]
            hit = waiting & (pairs.tiou[pair][:, None] >= thresholds) & ~taken[instance]
            # No two detections of a turn share a group, so none share an instance.
            taken[instance] |= hit
            detection = candidates[now]
            matched[detection] = np.where(hit, instance[:, None], matched[detection])
            waiting &= ~hit
    return matched


def touching(group: Indices, segment: Floats, part_group: Indices, part_segment: Floats) -> Mask:
    """Say of each detection whether it shares time with a part of its group: ``(N,)``.

    Args:
        group: ``(N,)`` group (one video) of each detection.
        segment: ``(N, 2)``.
        part_group: ``(I,)`` group of each part.
        part_segment: ``(I, 2)``.
    """
    pairs = overlapping_pairs(group, segment, part_group, part_segment, 0.0)
    touches = np.zeros(len(group), dtype=bool)
    touches[pairs.detection[pairs.tiou > 0]] = True
    return touches


def average_precision(true_positive: Mask, instances: int, counted: Mask | None = None) -> Floats:
    """Return the area under the interpolated precision-recall curve at each threshold ``(T,)``.

    Precision at a recall is the best at that recall or a higher one (PASCAL VOC 2011 and later).

    Args:
        true_positive: ``(N, T)`` of one class, by falling score.
        instances: Number of instances of the class.
        counted: ``(N, T)`` which detections count, every true positive among them; None for all.
    """
    hits = np.cumsum(true_positive, axis=0)
    ranks = np.arange(1, len(hits) + 1)[:, None] if counted is None else np.maximum(np.cumsum(counted, axis=0), 1)
    precision = hits / ranks
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    area: Floats = np.where(true_positive, envelope, 0.0).sum(axis=0) / instances
    return area
