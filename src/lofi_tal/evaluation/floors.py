"""What needs no training: floors under every mAP.

*whole video*: one segment from end to end. *grid*: segments of typical lengths side by side, half overlapping. Neither
looks at a picture; lengths and the frequencies of classes are those of the training videos. *motion energy*: where the
picture changes most, whatever it shows (:func:`moving_spans`). The same segments are evaluated without classes, with
the commonest classes, and with the true classes of each video, as a system is.

Legend: V videos, C classes, N equal parts of a video, R segments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lofi_tal.evaluation.arrays import as_one_class, detections_of
from lofi_tal.evaluation.detection import DetectionResult, score_detections
from lofi_tal.evaluation.documents import GroundTruth
from lofi_tal.segments import Segments

Floats = NDArray[np.float64]

FLOORS = ("whole video", "grid", "motion energy")
MOST_ROWS = 1_000_000
_MOST_SPANS = 400  # a video
_LEVELS = np.arange(1, 8) / 8  # between the lowest and the highest energy of a video
_STILL = 0.1  # grey levels: below it nothing moves
_WHITE = 255.0


Floors = dict[str, dict[str, DetectionResult]]
"""What floors reach, by name and way."""


def floors_json(floors: Floors) -> dict[str, dict[str, Any]]:
    """Return floors as a JSON-like dict: mAP at each threshold, and its average."""
    return {
        name: {
            way: {key: content[key] for key in ("tiou_thresholds", "mAP", "average_mAP")}
            for way, content in ((way, one.to_json()) for way, one in ways.items())
        }
        for name, ways in floors.items()
    }


@dataclass(frozen=True, eq=False)
class MotionEnergy:
    """How much the picture of a video changes, from its first frame to its last.

    Args:
        start: Seconds at which the first part begins.
        end: Seconds at which the last part ends.
        energy: ``(N,)`` mean absolute difference of successive frames in each part, in grey levels from 0 to 255.
    """

    start: float
    end: float
    energy: Floats


def floor_scores(
    truth: GroundTruth,
    training: Sequence[Segments],
    tiou: Sequence[float] | None = None,
    motion: Mapping[str, MotionEnergy] | None = None,
) -> Floors:
    """Return the mAP of each floor: by name, ``fused``, ``agnostic`` and ``oracle``.

    Args:
        truth: The instances that are evaluated; videos of unknown length are passed over.
        training: Truth of the training videos.
        tiou: Thresholds; ActivityNet's if not given.
        motion: Motion energy by video id; without any, there is no such floor. Videos that it lacks have no segments.
    """
    lengths = np.concatenate([np.zeros(0), *(one.end - one.start for one in training)])
    common = Counter(label for one in training for label in one.label)
    if not len(lengths):
        return {}
    found = {name: spans for name, spans in _spans(truth, lengths, motion or {}).items() if spans}
    return {name: _evaluate(truth, spans, common, tiou) for name, spans in found.items()}


def moving_spans(motion: MotionEnergy) -> tuple[Floats, Floats]:
    """Return where a video moves most: segments ``(R, 2)`` in seconds and their scores ``(R,)``, best first.

    The energy is smoothed (the mean of three parts), and thresholded at seven levels, evenly between the lowest and the
    highest energy of the video. Neighbouring parts that reach a level are a segment. Its score is the mean energy
    inside less the mean energy outside, as a share of 255: the energy alone would rank the peaks of a movement above
    all of it. A still video, whose energy is always below 0.1 grey levels, has none.
    """
    padded = np.pad(motion.energy, 1, mode="edge")
    energy = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    if energy.max(initial=0.0) < _STILL:
        return np.zeros((0, 2)), np.zeros(0)
    parts: set[tuple[int, int]] = set()
    for level in energy.min() + _LEVELS * (energy.max() - energy.min()):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], energy >= level, [False]])))
        parts.update(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
    score = {part: _contrast(energy, *part) for part in parts}
    ranked = sorted(parts, key=lambda part: (-score[part], part))[:_MOST_SPANS]
    step = (motion.end - motion.start) / len(energy)
    return motion.start + step * np.array(ranked, dtype=np.float64), np.array([score[one] for one in ranked]) / _WHITE


def _contrast(energy: Floats, first: int, last: int) -> float:
    """Return how much more moves from one part to another than in the others of a video."""
    inside, outside = energy[first:last], np.concatenate([energy[:first], energy[last:]])
    return float(inside.mean() - outside.mean()) if len(outside) else 0.0


_Spans = dict[int, tuple[Floats, Floats]]
"""Segments ``(R, 2)`` and their scores ``(R,)`` by position of the video."""


def _spans(truth: GroundTruth, lengths: Floats, motion: Mapping[str, MotionEnergy]) -> dict[str, _Spans]:
    """Return the segments of each floor."""
    known = [(v, float(d)) for v, d in enumerate(truth.duration) if np.isfinite(d) and d > 0]
    moving = [(v, motion[name]) for v, name in enumerate(truth.videos) if name in motion]
    whole, grid, energy = FLOORS
    return {
        whole: {v: (np.array([[0.0, d]]), np.ones(1)) for v, d in known},
        grid: {v: _grid(d, lengths) for v, d in known},
        energy: {v: moving_spans(one) for v, one in moving},
    }


def _grid(duration: float, lengths: Floats) -> tuple[Floats, Floats]:
    """Return half-overlapping segments of the median length and of the quartiles, commonest first."""
    rows = []
    for length in dict.fromkeys(np.quantile(lengths, [0.5, 0.25, 0.75]).tolist()):
        step = max(length / 2, duration / _MOST_SPANS)
        starts = np.arange(0.0, max(duration - length / 2, step), step)
        rows.append(np.stack([starts, np.minimum(starts + length, duration)], 1))
    spans = np.concatenate(rows)[:_MOST_SPANS]
    return spans, np.linspace(1.0, 0.5, len(spans))


def _evaluate(
    truth: GroundTruth,
    spans: _Spans,
    common: Counter[str],
    tiou: Sequence[float] | None,
) -> dict[str, DetectionResult]:
    """Return the mAP with the commonest classes, without classes, and with the true ones."""
    total = sum(len(rows) for rows, _ in spans.values())
    names = [label for label, _ in common.most_common(max(2, MOST_ROWS // max(1, total)))]
    shares = np.array([common[label] / common.total() for label in names])
    true = {v: sorted({truth.labels[c] for c in truth.label[truth.video == v]}) for v in spans}
    fused, once, oracle = [], [], []
    for v, (rows, score) in spans.items():
        fused.append(_segments(truth.videos[v], rows, score, names, shares))
        once.append(_segments(truth.videos[v], rows, score, names[:1], shares[:1]))
        oracle.append(_segments(truth.videos[v], rows, score, true[v], np.ones(len(true[v]))))
    return {
        "fused": score_detections(truth, detections_of(fused, truth), tiou),
        "agnostic": score_detections(as_one_class(truth), detections_of(once, as_one_class(truth)), tiou),
        "oracle": score_detections(truth, detections_of(oracle, truth), tiou),
    }


def _segments(
    video_id: str,
    rows: Floats,
    scores: Floats,
    names: Sequence[str],
    shares: Floats,
) -> Segments:
    """Return every span once for each class, the better the commoner."""
    count = len(names)
    spans = np.repeat(rows, count, axis=0)
    score = (scores[:, None] * shares[None, :]).reshape(-1)
    return Segments(video_id, spans[:, 0], spans[:, 1], tuple(names) * len(rows), score)
