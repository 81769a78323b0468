"""What a person is shown of what was found: few segments, of which each is likely right, or all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lofi_tal.segments import Segments, best_labels


@dataclass(frozen=True)
class Shown:
    """Which segments are shown.

    Args:
        limit: Lowest score of classes without a limit of their own; infinity shows none.
        limits: Lowest score by label.
        one_label: Each span is shown once, with the label that scores best.

    >>> found = Segments("match", [2, 2, 12], [5, 5, 15], ("jump", "throw", "run"), [0.4, 0.9, 0.1])
    >>> Shown(0.3).of(found).label
    ('throw',)
    >>> Shown(0.3, one_label=False).of(found).label
    ('jump', 'throw')
    """

    limit: float
    limits: Mapping[str, float] = field(default_factory=dict)
    one_label: bool = True

    def of(self, segments: Segments) -> Segments:
        """Return the segments that are shown, in the order that they have."""
        return segments[self.positions(segments)]

    def positions(self, segments: Segments) -> NDArray[np.int64]:
        """Return the positions of the segments that are shown."""
        lowest = np.array([self.limits.get(label, self.limit) for label in segments.label], dtype=np.float64)
        enough = segments.score >= lowest
        if not self.one_label:
            return np.flatnonzero(enough)
        best = best_labels(segments)
        return best[enough[best]]

    def to_json(self) -> dict[str, Any]:
        """Return the choice as a JSON-like dict; a limit of None shows none, unless ``everything`` is true."""
        return {
            "everything": self.limit == -np.inf,
            "limit": _finite(self.limit),
            "limits": {label: _finite(limit) for label, limit in self.limits.items()},
            "one_label": self.one_label,
        }

    def __str__(self) -> str:
        """Say from which score on segments are shown.

        >>> str(Shown(0.25)), str(Shown(0.25, {"jump": 0.5}))
        ('0.25', '0.25 to 0.5, by class')
        """
        values = sorted(value for value in {self.limit, *self.limits.values()} if value < np.inf)
        if not values:
            return "more than any score"
        ends = [f"{values[0]:.3g}", f"{values[-1]:.3g}"]
        return ends[0] if len(set(ends)) == 1 else f"{ends[0]} to {ends[1]}, by class"


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


EVERYTHING = Shown(-np.inf, one_label=False)
"""All segments with all their labels."""
