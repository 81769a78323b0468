"""Which way arrays of features lie: (time steps, channels) or (channels, time steps).

All files of a source have the same channels, and their numbers of features follow the durations of the videos. Where
neither tells, as with features that were resized to a fixed number, the usual numbers of channels do; where these speak
against the documented order, the source is refused.

Shapes: T features, C channels.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lofi_tal.errors import DataError

AXES = ("TC", "CT")
_USUAL = frozenset((200, 201, 256, 384, 400, 512, 768, 1024, 1152, 1280, 1408, 1536, 2048, 2304, 3072, 4096))
"""Numbers of channels of public encoders: class scores and embeddings, alone and as two streams."""
_FASTEST = 120.0
"""Features a second above which they would be more than the frames of a video."""
_WORDS = {"TC": "(time steps, channels)", "CT": "(channels, time steps)"}

logger = logging.getLogger("lofi_tal")

Shape = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """How the arrays of a source lie.

    Args:
        axes: ``TC`` or ``CT``.
        channels: C of most of its arrays.
    """

    axes: str
    channels: int

    def lies_other_way(self, shape: tuple[int, ...]) -> bool:
        """Say whether an array lies the other way round than most."""
        time, channels = (0, 1) if self.axes == "TC" else (1, 0)
        return shape[channels] != self.channels and shape[time] == self.channels


def decide_layout(
    source: Path, shapes: Mapping[str, Shape], durations: Mapping[str, float], declared: str | None
) -> Layout | None:
    """Return how the arrays of a source lie; None if it has none.

    Args:
        source: What to call it.
        shapes: Of its arrays, by video id.
        durations: Seconds, by video id.
        declared: What the recipe says, if it says something.

    Raises:
        DataError: If the arrays contradict what is declared, or may lie either way.
    """
    if not shapes:
        return None
    by_axis = [Counter(shape[axis] for shape in shapes.values()).most_common(1)[0] for axis in (0, 1)]
    layouts = {"TC": Layout("TC", by_axis[1][0]), "CT": Layout("CT", by_axis[0][0])}
    if declared is not None:
        _check_declared(source, declared, shapes, by_axis)
        return layouts[declared]
    everywhere = Counter(size for shape in shapes.values() for size in set(shape))
    (channels, most), *others = everywhere.most_common(2)
    if most > len(shapes) / 2 and len(shapes) > 1 and (not others or others[0][1] <= len(shapes) / 2):
        axes = "TC" if 2 * sum(shape[1] == channels for shape in shapes.values()) >= most else "CT"
        return _told(source, Layout(axes, channels), "their number of channels is the same")
    return _by_length(source, shapes, durations, layouts)


def _check_declared(
    source: Path, declared: str, shapes: Mapping[str, Shape], by_axis: Sequence[tuple[int, int]]
) -> None:
    """Refuse an order in which channels differ from file to file, if they are equal in the other one."""
    ours, theirs = by_axis[1 if declared == "TC" else 0], by_axis[0 if declared == "TC" else 1]
    if ours[1] <= len(shapes) / 2 < theirs[1] == len(shapes):
        other = "CT" if declared == "TC" else "TC"
        raise DataError(
            f"features {source}: as features.axes {declared}, {_WORDS[declared]}, the number of channels differs from "
            f"file to file, and all {len(shapes)} arrays have {theirs[0]} features. Set features.axes: {other}."
        )


def _by_length(
    source: Path, shapes: Mapping[str, Shape], durations: Mapping[str, float], layouts: Mapping[str, Layout]
) -> Layout:
    """Decide by durations, and where these do not tell, by the usual numbers of channels."""
    known = [(shape, durations[name]) for name, shape in shapes.items() if durations.get(name, 0) > 0]
    seconds = np.array([length for _, length in known])
    rates = {axes: np.array([shape[place] for shape, _ in known]) for place, axes in enumerate(AXES)}
    if len(known):
        slow = [axes for axes in AXES if np.median(rates[axes] / seconds) <= _FASTEST]
        if len(slow) == 1:
            return _told(source, layouts[slow[0]], "the other way there would be more features than frames")
        follow = [axes for axes in AXES if _follows(rates[axes], seconds)]
        if len(follow) == 1:
            return _told(source, layouts[follow[0]], "their lengths follow the durations")
    shape = Counter(shapes.values()).most_common(1)[0][0]
    if shape[0] in _USUAL and shape[1] not in _USUAL:
        raise DataError(
            f"features {source}: most arrays have shape {shape}, and {shape[0]} is a usual number of channels: "
            f"they may be {_WORDS['CT']} instead of {_WORDS['TC']}. Set features.axes: CT, or TC if {shape[1]} is the "
            "number of channels."
        )
    if shape[1] in _USUAL and shape[0] not in _USUAL:
        return _told(source, layouts["TC"], f"{shape[1]} is a usual number of channels")
    logger.warning(
        "Features %s: arrays of shape %s may lie either way and are read as %s. Set features.axes if that is wrong.",
        source, shape, _WORDS["TC"],
    )  # fmt: skip
    return layouts["TC"]


def _follows(lengths: NDArray[np.int64], seconds: NDArray[np.float64]) -> bool:
    """Say whether lengths differ as durations do."""
    if len(seconds) < 3 or lengths.std() < 0.05 * lengths.mean() or seconds.std() < 0.05 * seconds.mean():
        return False
    rate = lengths / seconds
    return bool(rate.std() < 0.1 * rate.mean())


def _told(source: Path, layout: Layout, why: str) -> Layout:
    logger.info("Features %s: arrays are %s, %d channels: %s.", source, _WORDS[layout.axes], layout.channels, why)
    return layout
