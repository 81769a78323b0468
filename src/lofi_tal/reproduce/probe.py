"""How much of the task lies in frozen features already: linear probes for inside and outside, starts and ends.

The paper argues that an encoder trained to classify trimmed clips is blind to the boundaries of actions; these probes
measure it without a head. Ridge regressions are fitted on the snippets of the training videos and scored on those of
the evaluated ones. A probe sees a snippet and its two neighbours, so that a step in the features can be seen.

Shapes: L snippets of a video, C channels, N snippets of all videos.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lofi_tal.data import TruthVideo
from lofi_tal.features import FeatureSet
from lofi_tal.synthetic.controls import area_under_curve

Floats = NDArray[np.float64]
STRENGTH = 0.01
"""Ridge penalty on standardised features, for each training row."""


def probe(train: FeatureSet, evaluation: FeatureSet) -> dict[str, float]:
    """Fit the probes and return their scores.

    Returns:
        ``inside_auc``: area under the ROC curve of inside against outside (chance 0.5). ``boundary_ap``: mean of the
        average precision of starts and of ends, each snippet within one snippet's length of one being positive;
        ``boundary_f1``: the same mean of F1 at the threshold that is best on the training videos; ``boundary_share``:
        share of the positive snippets, which is what chance would score as average precision.
    """
    weights = _fit(train)
    seen, unseen = _predict(train, weights), _predict(evaluation, weights)
    wanted, truth = (
        np.concatenate([_targets(video, one.shape[1]) for video, one in zip(part.videos, part.features, strict=True)])
        for part in (train, evaluation)
    )
    sides = (1, 2)
    return {
        "inside_auc": area_under_curve(unseen[:, 0], truth[:, 0].astype(np.int64)),
        "boundary_ap": float(np.mean([average_precision(unseen[:, side], truth[:, side]) for side in sides])),
        "boundary_f1": float(
            np.mean([f1(unseen[:, side] >= best_cut(seen[:, side], wanted[:, side]), truth[:, side]) for side in sides])
        ),
        "boundary_share": float(truth[:, 1:].mean()),
    }


def average_precision(scores: Floats, truth: Floats) -> float:
    """Return the mean over the positives of the precision at their rank; equal scores are taken in their order."""
    hits = truth[np.argsort(-scores, kind="stable")] > 0
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean()) if hits.any() else 0.0


def best_cut(scores: Floats, truth: Floats) -> float:
    """Return the score from which on calling a row positive has the best F1."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order] > 0)
    return float(scores[order][int((2 * hits / (np.arange(1, len(hits) + 1) + max(1, hits[-1]))).argmax())])


def f1(called: NDArray[np.bool_], truth: Floats) -> float:
    """Return F1 of the rows called positive."""
    right = float((called & (truth > 0)).sum())
    return 2 * right / max(1.0, float(called.sum() + (truth > 0).sum()))


def _targets(video: TruthVideo, count: int) -> Floats:
    """Return ``(L, 3)``: is the snippet's centre inside an action, near a start, near an end."""
    centres = (np.arange(count) + 0.5) / count
    start, end = video.segments.double().numpy().T[:, :, None]
    inside = ((start <= centres) & (centres < end)).any(axis=0)
    near = [(np.abs(times - centres) <= 1 / count).any(axis=0) for times in (start, end)]
    return np.stack([inside, *near], axis=1).astype(np.float64)


def _rows(features: Tensor) -> Floats:
    """Return ``(L, 3 C)`` for ``(C, L)``: each snippet with its neighbours; at the ends itself in their place."""
    rows = features.double().numpy().T
    before, after = np.concatenate([rows[:1], rows[:-1]]), np.concatenate([rows[1:], rows[-1:]])
    return np.concatenate([before, rows, after], axis=1)


def _fit(data: FeatureSet) -> tuple[Floats, Floats]:
    """Return weights ``(3 C, 3)`` and bias ``(3,)`` of the ridge regressions, from sums over the videos."""
    width = 3 * data.channels
    gram, moment = np.zeros((width + 1, width + 1)), np.zeros((width + 1, 3))
    for video, features in zip(data.videos, data.features, strict=True):
        x = _rows(features)
        x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
        gram += x.T @ x
        moment += x.T @ _targets(video, len(x))
    rows = gram[-1, -1]
    mean, middle = gram[-1, :-1] / rows, moment[-1] / rows
    covariance = gram[:-1, :-1] / rows - np.outer(mean, mean)
    scale = np.sqrt(np.maximum(np.diag(covariance), 0)) + 1e-9
    normal = covariance / np.outer(scale, scale) + STRENGTH * np.eye(width)
    weights = np.linalg.solve(normal, (moment[:-1] / rows - np.outer(mean, middle)) / scale[:, None]) / scale[:, None]
    return weights, middle - mean @ weights


def _predict(data: FeatureSet, fitted: tuple[Floats, Floats]) -> Floats:
    weights, bias = fitted
    return np.concatenate([_rows(features) @ weights + bias for features in data.features])
