"""Calibrated probabilities: a score of 0.8 that is right in 8 of 10 at tIoU 0.5, and how far scores are from that.

A score s becomes the probability p with ``logit p = low · ln s - high · ln(1 - s) + offset``: beta calibration (Kull et
al., "Beta calibration", AISTATS 2017). With low = high it is Platt scaling of the logit, and temperature scaling (Guo
et al., "On Calibration of Modern Neural Networks", 2017) with an offset; detections need the offset, since most of them
are wrong. Both slopes are positive, so the order within a class stays, and with it its average precision. Scores that
differ by less than :data:`EDGE` from 0 or 1 become one.

Legend: N detections, K bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lofi_tal.errors import DataError
from lofi_tal.evaluation.verdicts import Verdicts
from lofi_tal.segments import Segments

Floats = NDArray[np.float64]

EDGE = 1e-12
"""Scores are kept so far from 0 and 1, whose logits are infinite."""
ENOUGH = 20
"""Right and wrong detections from which on a class has a calibration, and a threshold, of its own."""
FEWEST = 5
"""Right detections, of all classes together, below which nothing is calibrated."""
BINS = 10
_SLOPES = (0.05, 20.0)
_PRIOR = 1.0  # how firmly each slope is held at 1, in nats a squared unit


@dataclass(frozen=True)
class Curve:
    """What turns a score into a probability.

    Args:
        low: Slope at small scores; positive.
        high: Slope at scores near 1; positive.
        offset: Added to it.

    Raises:
        DataError: If a slope is not from 0.01 to 100, or the offset not from -100 to 100.
    """

    low: float
    high: float
    offset: float

    def __post_init__(self) -> None:
        slopes = (self.low, self.high)
        if not (all(0.01 <= slope <= 100 for slope in slopes) and -100 <= self.offset <= 100):
            raise DataError(
                f"calibration with slopes {self.low} and {self.high} and offset {self.offset}: allowed are slopes from "
                "0.01 to 100 and offsets from -100 to 100."
            )

    def __call__(self, score: ArrayLike) -> Floats:
        """Return the probability of each score.

        >>> Curve(1.0, 1.0, 0.0)(0.25).item()
        0.25
        """
        low, high = _parts(score)
        return _sigmoid(self.low * low + self.high * high + self.offset)


@dataclass(frozen=True)
class Calibration:
    """The curves of a model.

    Args:
        pooled: Of classes without one of their own.
        classes: By label.
    """

    pooled: Curve
    classes: Mapping[str, Curve] = field(default_factory=dict)

    def probability(self, score: ArrayLike, label: Sequence[str]) -> Floats:
        """Return the probability of each score ``(N,)``, given its label."""
        scores = np.asarray(score, dtype=np.float64).reshape(-1)
        found = self.pooled(scores)
        for name, curve in self.classes.items():
            ours = np.array([one == name for one in label], dtype=bool)
            found[ours] = curve(scores[ours])
        return found

    def of(self, segments: Segments) -> Segments:
        """Return segments whose scores are probabilities, by falling probability; ``raw_score`` has what they were."""
        probability = self.probability(segments.score, segments.label)
        return replace(segments, score=probability, raw_score=segments.score).sorted()

    def to_json(self) -> dict[str, Any]:
        """Return the curves as a JSON-like dict."""
        return {"pooled": vars(self.pooled), "classes": {name: vars(curve) for name, curve in self.classes.items()}}


def fit_calibration(verdicts: Verdicts) -> Calibration | None:
    """Fit the curves to detections that training has not seen.

    A class has a curve of its own from :data:`ENOUGH` right and as many wrong detections on; the others share one,
    which is fitted to all detections. Nothing is calibrated where fewer than :data:`FEWEST` are right, or all are.

    Args:
        verdicts: On those detections.
    """
    if verdicts.right.sum() < FEWEST or verdicts.right.all():
        return None
    classes = {}
    for number in own_classes(verdicts):
        ours = verdicts.label == number
        classes[verdicts.labels[number]] = fit_curve(verdicts.score[ours], verdicts.right[ours])
    return Calibration(fit_curve(verdicts.score, verdicts.right), classes)


def own_classes(verdicts: Verdicts) -> list[int]:
    """Return the classes with :data:`ENOUGH` right and wrong detections to be judged by themselves."""
    right = np.bincount(verdicts.label[verdicts.right], minlength=len(verdicts.labels))
    wrong = np.bincount(verdicts.label[~verdicts.right], minlength=len(verdicts.labels))
    return np.flatnonzero((right >= ENOUGH) & (wrong >= ENOUGH)).tolist()


def fit_curve(score: Floats, right: NDArray[np.bool_]) -> Curve:
    """Return the curve of greatest likelihood, by Newton's method.

    The targets are Platt's ("Probabilistic Outputs for Support Vector Machines", 1999), (right + 1) / (right + 2) and
    1 / (wrong + 2) in place of 1 and 0, so that few detections give no certainty. The slopes are held near 1 by a weak
    prior.

    Args:
        score: ``(N,)``.
        right: ``(N,)``.
    """
    design = np.stack([*_parts(score), np.ones(len(score))], 1)
    count, usual, prior = int(right.sum()), np.array([1.0, 1.0, 0.0]), np.array([_PRIOR, _PRIOR, 1e-9])
    target = np.where(right, (count + 1) / (count + 2), 1 / (len(right) - count + 2))
    guess = usual.copy()
    for _ in range(200):
        p = _sigmoid(design @ guess)
        gradient = design.T @ (p - target) + prior * (guess - usual)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(prior) + 1e-9 * np.eye(3)
        step = np.linalg.solve(hessian, gradient)
        step *= min(1.0, 2.0 / float(np.abs(step).max() or 1.0))
        guess -= step
        guess[:2] = np.clip(guess[:2], *_SLOPES)
        if np.abs(step).max() < 1e-10:
            break
    low, high, offset = guess.tolist()
    return Curve(low, high, float(np.clip(offset, -100, 100)))


@dataclass(frozen=True)
class Reliability:
    """How often detections of like score are right.

    Args:
        error: Expected calibration error: mean over the detections of |share that is right - mean score| of their bin.
        edges: ``K + 1`` edges of the bins, from 0 to 1.
        count: Detections in each bin.
        score: Mean score of each bin; NaN if it is empty.
        right: Share of them that is right; NaN if it is empty.
    """

    error: float
    edges: tuple[float, ...]
    count: tuple[int, ...]
    score: tuple[float, ...]
    right: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the bins as a JSON-like dict; what is unknown is None."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        for name in ("score", "right"):
            plain[name] = [None if np.isnan(value) else value for value in plain[name]]
        return plain


def reliability(score: ArrayLike, right: ArrayLike, bins: int = BINS) -> Reliability:
    """Return how often detections of like score are right, in bins of equal width (Guo et al., 2017).

    Args:
        score: ``(N,)``; what lies outside [0, 1] belongs to the first or the last bin.
        right: ``(N,)``.
        bins: K.
    """
    scores, verdict = np.asarray(score, dtype=np.float64), np.asarray(right, dtype=bool)
    place = np.clip((scores * bins).astype(np.int64), 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, weights=scores, minlength=bins) / count
        share = np.bincount(place, weights=verdict, minlength=bins) / count
    error = float(np.nansum(count * np.abs(share - mean)) / max(1, len(scores)))
    edges = np.linspace(0, 1, bins + 1)
    return Reliability(error, tuple(edges.tolist()), tuple(count.tolist()), tuple(mean.tolist()), tuple(share.tolist()))


def _parts(score: ArrayLike) -> tuple[Floats, Floats]:
    """Return ``ln s`` and ``-ln(1 - s)``, whose sum is the logit."""
    inside = np.clip(np.asarray(score, dtype=np.float64), EDGE, 1 - EDGE)
    return np.log(inside), -np.log1p(-inside)


def _sigmoid(x: Floats) -> Floats:
    small = np.exp(-np.abs(x))
    share: Floats = np.where(x >= 0, 1.0, small) / (1.0 + small)
    return share
