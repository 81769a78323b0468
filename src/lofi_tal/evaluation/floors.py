"""What needs no training: floors under every mAP.

*whole video*: one segment from end to end. *grid*: segments of typical lengths side by side, half overlapping. Neither
looks at a picture; lengths and the frequencies of classes are those of the training videos. The same segments are
evaluated without classes, with the commonest classes, and with the true classes of each video, as a system is.

Legend: V videos, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lofi_tal.evaluation.arrays import as_one_class, detections_of
from lofi_tal.evaluation.detection import score_detections
from lofi_tal.evaluation.documents import GroundTruth
from lofi_tal.segments import Segments

Floats = NDArray[np.float64]

FLOORS = ("whole video", "grid")
MOST_ROWS = 1_000_000
_MOST_SPANS = 400  # a video


def floor_scores(
    truth: GroundTruth, training: Sequence[Segments], tiou: Sequence[float] | None = None
) -> dict[str, dict[str, float]]:
    """Return the average mAP of each floor: by name, ``fused``, ``agnostic`` and ``oracle``.

    Args:
        truth: The instances that are evaluated; videos of unknown length are passed over.
        training: Truth of the training videos.
        tiou: Thresholds; ActivityNet's if not given.
    """
    lengths = np.concatenate([np.zeros(0), *(one.end - one.start for one in training)])
    common = Counter(label for one in training for label in one.label)
    known = [(v, float(d)) for v, d in enumerate(truth.duration) if np.isfinite(d) and d > 0]
    if not known or not len(lengths):
        return {}
    found = {}
    for name in FLOORS:
        spans = {v: _whole(d) if name == "whole video" else _grid(d, lengths) for v, d in known}
        found[name] = _evaluate(truth, spans, common, tiou)
    return found


def _whole(duration: float) -> Floats:
    return np.array([[0.0, duration]])


def _grid(duration: float, lengths: Floats) -> Floats:
    """Return half-overlapping segments of the median length and of the quartiles, commonest first."""
    rows = []
    for length in dict.fromkeys(np.quantile(lengths, [0.5, 0.25, 0.75]).tolist()):
        step = max(length / 2, duration / _MOST_SPANS)
        starts = np.arange(0.0, max(duration - length / 2, step), step)
        rows.append(np.stack([starts, np.minimum(starts + length, duration)], 1))
    return np.concatenate(rows)[:_MOST_SPANS]


def _evaluate(
    truth: GroundTruth,
    spans: dict[int, Floats],
    common: Counter[str],
    tiou: Sequence[float] | None,
) -> dict[str, float]:
    """Return the average mAP with the commonest classes, without classes, and with the true ones."""
    total = sum(map(len, spans.values()))
    names = [label for label, _ in common.most_common(max(2, MOST_ROWS // max(1, total)))]
    shares = np.array([common[label] / common.total() for label in names])
    true = {v: sorted({truth.labels[c] for c in truth.label[truth.video == v]}) for v in spans}
    fused, once, oracle = [], [], []
    for v, rows in spans.items():
        rank = np.linspace(1.0, 0.5, len(rows))
        fused.append(_segments(truth.videos[v], rows, rank, names, shares))
        once.append(_segments(truth.videos[v], rows, rank, names[:1], shares[:1]))
        oracle.append(_segments(truth.videos[v], rows, rank, true[v], np.ones(len(true[v]))))
    return {
        "fused": score_detections(truth, detections_of(fused, truth), tiou).average_mAP,
        "agnostic": score_detections(as_one_class(truth), detections_of(once, as_one_class(truth)), tiou).average_mAP,
        "oracle": score_detections(truth, detections_of(oracle, truth), tiou).average_mAP,
    }


def _segments(
    video_id: str,
    rows: Floats,
    rank: Floats,
    names: Sequence[str],
    shares: Floats,
) -> Segments:
    """Return every span once for each class, the better the commoner."""
    count = len(names)
    spans = np.repeat(rows, count, axis=0)
    score = (rank[:, None] * shares[None, :]).reshape(-1)
    return Segments(video_id, spans[:, 0], spans[:, 1], tuple(names) * len(rows), score)
