"""How sure a mean over seeds and a difference of two systems are: Student's t over seeds, the bootstrap over videos.

Seeds stand for all chance in training; systems are compared seed by seed, because the rows of a seed share data split,
stage 1 and order. The evaluated videos are the same for every seed: how far the seeds lie apart says nothing of how
another choice of videos would move them all. So both kinds of chance are in a mean, and in a difference: half-widths of
the two intervals are added in quadrature. The luck of a seed on one video is in both and so counted twice, which is on
the safe side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """A mean over seeds.

    Args:
        mean: The mean.
        seeds: Half-width of the t-interval over seeds; None for one seed.
        videos: Half-width of the bootstrap interval over videos of the mean over seeds; None where it was not drawn.
        count: Number of seeds.
    """

    mean: float
    seeds: float | None
    videos: float | None
    count: int

    @property
    def both(self) -> float | None:
        """Half-width for seeds and videos together."""
        if self.seeds is None or self.videos is None:
            return None
        return math.hypot(self.seeds, self.videos)

    def to_json(self) -> dict[str, Any]:
        """Return the spread as a dict."""
        return {**vars(self), "both": self.both}


def t_quantile(degrees: int, confidence: float = CONFIDENCE) -> float:
    """Return t with ``P(|T| < t) = confidence`` for Student's distribution.

    Bisection of the closed form for whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4).
    """
    low, high = 0.0, 1.0
    while _t_within(high, degrees) < confidence:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_within(middle, degrees) < confidence else (low, middle)
    return high


def _t_within(t: float, degrees: int) -> float:
    """Return ``P(|T| < t)``."""
    angle = math.atan(t / math.sqrt(degrees))
    odd = degrees % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for k in range(odd, degrees - 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (k + 1) / (k + 2)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def spread(values: Sequence[float], replicates: Sequence[Floats | None]) -> Spread:
    """Return the mean of a figure over seeds and how sure it is.

    Args:
        values: The figure for each seed (of a difference, the paired differences).
        replicates: For each seed its bootstrap replicates ``(R,)``, on the same draws of videos.
    """
    numbers = np.asarray(values, dtype=np.float64)
    seeds = None
    if len(numbers) > 1:
        seeds = t_quantile(len(numbers) - 1) * float(numbers.std(ddof=1)) / math.sqrt(len(numbers))
    videos = None
    if replicates and all(one is not None for one in replicates):
        mean = np.mean([one for one in replicates if one is not None], axis=0)
        low, high = np.quantile(mean, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        videos = float(high - low) / 2
    return Spread(float(numbers.mean()), seeds, videos, len(numbers))


def paired(
    first: Mapping[int, tuple[float, Floats | None]], second: Mapping[int, tuple[float, Floats | None]]
) -> Spread | None:
    """Return ``first`` minus ``second`` over the seeds that both have, or None if there is none.

    Args:
        first: Figure and replicates by seed.
        second: Those of the other system.
    """
    common = sorted(set(first) & set(second))
    if not common:
        return None
    return spread(
        [first[seed][0] - second[seed][0] for seed in common], [_minus(first[s][1], second[s][1]) for s in common]
    )


def _minus(first: Floats | None, second: Floats | None) -> Floats | None:
    return None if first is None or second is None or len(first) != len(second) else first - second
