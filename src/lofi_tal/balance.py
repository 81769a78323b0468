"""Rare classes: drawn more often, or given more weight in the losses.

Legend: V videos, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lofi_tal.settings import LaterSection

Floats = NDArray[np.float64]

BETA = 0.999
"""Of the effective number of samples (0.9 to 0.9999 in its paper)."""


class BalanceSection(LaterSection):
    """What is done for rare classes; nothing unless it is set."""

    later = frozenset({"sampling", "weights"})

    sampling: bool = False
    """Draw training videos with rare classes more often, in stage 2 and for the head."""
    weights: Literal["balanced", "effective"] | None = None
    """Weights of classes in the class loss of stage 2, of heads that score classes, and of the class scores: one over
    the number of instances (balanced), or over their effective number, which is milder."""


NO_BALANCE = BalanceSection()
"""Nothing is done."""


def class_weights(counts: Sequence[int], way: str) -> Floats:
    """Return the weight of each class in a loss: ``(K,)``, with a mean of 1 over all instances.

    Args:
        counts: Instances of each class; one without any has weight 0.
        way: ``balanced``: 1 / n; ``effective``: (1 - β) / (1 - β^n), the inverse of the effective number of samples
            (Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019).

    >>> class_weights([30, 10], "balanced").round(3).tolist()
    [0.667, 2.0]
    """
    number = np.asarray(counts, dtype=np.float64)
    size = number if way == "balanced" else (1 - BETA**number) / (1 - BETA)
    weights = np.divide(1.0, size, out=np.zeros_like(size), where=number > 0)
    mean = float((weights * number).sum() / max(1.0, number.sum()))
    return weights / mean if mean else weights


def video_shares(labels: Sequence[Sequence[int]]) -> Floats:
    """Return how often each video is drawn in an epoch, on average: ``(V,)``, with a mean of 1.

    A video counts as its rarest class, as in repeat-factor sampling (Gupta et al., "LVIS", CVPR 2019): a class in a
    share f of the videos with actions counts sqrt(t / f) times, at least once, t being the mean share of a class.

    Args:
        labels: Classes of the instances of each video; one without instances counts once.

    >>> video_shares([[0], [0], [0], [0], [0], [0], [0], [0], [0], [1]]).round(2)[[0, -1]].tolist()
    [0.89, 1.99]
    """
    sets = [set(map(int, one)) for one in labels]
    with_actions = max(1, sum(map(bool, sets)))
    names = sorted(set().union(*sets))
    share = {name: sum(name in one for one in sets) / with_actions for name in names}
    usual = float(np.mean(list(share.values()))) if names else 1.0
    factors = np.array([max([1.0, *((usual / share[name]) ** 0.5 for name in one)]) for one in sets])
    shares: Floats = factors * (len(factors) / factors.sum())
    return shares


def draw(shares: Floats, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return as many positions as there are shares, each as often as its share says, rounded at random.

    The draw is systematic: a position whose share is s comes floor(s) or ceil(s) times.

    Args:
        shares: ``(V,)`` with a mean of 1.
        generator: Of the draw.
    """
    count = len(shares)
    order = generator.permutation(count)
    ends = np.cumsum(shares[order]) * (count / shares.sum())
    places = np.searchsorted(ends, np.arange(count) + generator.random(), side="right")
    drawn: NDArray[np.int64] = order[np.minimum(places, count - 1)]
    return drawn
