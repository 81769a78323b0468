"""How mAP grows with the number of labelled videos, and what more of them would give.

There are two models of two parameters, for a few points cannot tell three: ``mAP(n) = c - a / sqrt(n)``, a power law
that flattens, and ``mAP(n) = c + a log2(n)``, by which every doubling gains as much; ``a ≥ 0``. Both are among the laws
that fit measured learning curves (T. Viering and M. Loog, *The Shape of Learning Curves: a Review*, 2021). Fitted
without the largest number of videos, each has to predict the figure there: the one that misses less is taken, and its
error told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lofi_tal.errors import LofiError

Floats = NDArray[np.float64]
MODELS: dict[str, Callable[[Any], Any]] = {
    "c - a / sqrt(videos)": lambda count: -1 / np.sqrt(count),
    "c + a log2(videos)": np.log2,
}
"""What the figure is linear in, by the formula."""
EVENTS = "events"
"""Name of the average mAP of point events over tolerances of 1 to 5 s."""
_DRAWS = 2000  # bootstrap over draws
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class CurvePoint:
    """Figures of one training.

    Args:
        videos: Number of training videos.
        instances: Number of segments in them.
        draw: Number of the random order from which the videos are taken.
        scores: Average mAP by name: ``fused``, ``agnostic``, ``oracle``; of point events :data:`EVENTS`, too.
        classes: Average precision, with the system's own class scores, by label.
    """

    videos: int
    instances: int
    draw: int
    scores: Mapping[str, float]
    classes: Mapping[str, float]

    @property
    def figure(self) -> float:
        """The figure of the curve: average mAP with the system's own class scores, of events where there are some."""
        return self.scores.get(EVENTS, self.scores["fused"])


@dataclass(frozen=True)
class Foreseen:
    """What the model says of another number of videos.

    Args:
        videos: That number.
        value: mAP there.
        gain: Of the model, from the largest number that was tried to this one: the luck of the draws there is no gain.
        low: Lower end of the 95 % interval of the gain, over draws.
        high: Upper end.
        error: Of the model at the largest number, fitted without it; None with less than three numbers of videos.
        model: Its formula.
    """

    videos: int
    value: float
    gain: float
    low: float
    high: float
    error: float | None
    model: str


def means(points: Sequence[CurvePoint]) -> dict[int, tuple[float, float, float]]:
    """Return mean, smallest and largest figure by number of videos."""
    found: dict[int, list[float]] = {}
    for point in points:
        found.setdefault(point.videos, []).append(point.figure)
    return {count: (float(np.mean(values)), min(values), max(values)) for count, values in sorted(found.items())}


def foresee(videos: Sequence[int], values: Sequence[Sequence[float]], at: int, seed: int = 0) -> Foreseen:
    """Return what ``at`` videos would give.

    Args:
        videos: Numbers that were tried, rising.
        values: mAP of every draw, for each of them.
        at: Another number.
        seed: Of the bootstrap over draws.

    Raises:
        LofiError: If less than two numbers were tried.
    """
    if len(videos) < 2:
        raise LofiError(f"A curve needs at least two numbers of videos; {len(videos)} was tried.")
    generator = np.random.default_rng(seed)
    mean = np.array([np.mean(draws) for draws in values])
    misses = {name: _at(name, videos[:-1], mean[:-1], videos[-1]) - mean[-1] for name in MODELS} if videos[2:] else {}
    model = min(misses, key=lambda name: abs(misses[name])) if misses else next(iter(MODELS))
    gains = []
    for _ in range(_DRAWS):
        drawn = np.array([np.mean(generator.choice(draws, len(draws))) for draws in values])
        gains.append(_at(model, videos, drawn, at) - _at(model, videos, drawn, videos[-1]))
    low, high = np.quantile(gains, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    value, now, error = _at(model, videos, mean, at), _at(model, videos, mean, videos[-1]), misses.get(model)
    told = None if error is None else float(error)
    return Foreseen(at, float(value), float(value - now), float(low), float(high), told, model)


def _at(model: str, videos: Sequence[int], mean: Floats, count: int) -> float:
    """Return the figure of a model, by least squares; from 0 to 1, and never falling with more videos."""
    place = MODELS[model]
    places = place(np.asarray(videos, dtype=float))
    centred = places - places.mean()
    slope = max(0.0, float((centred * (mean - mean.mean())).sum() / (centred**2).sum()))
    return min(1.0, float(mean.mean() + slope * (place(np.float64(count)) - places.mean())))
