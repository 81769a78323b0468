"""What one system finds that another misses, and the reverse: the actions behind a difference, video by video.

Legend: G instances, V videos.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from lofi_tal.evaluation.documents import GroundTruth
from lofi_tal.evaluation.mistakes import MISTAKES, Mistakes

FOUND = "found"


@dataclass(frozen=True)
class Change:
    """An action that one of two systems finds and the other does not.

    Args:
        video_id: Id of the video.
        label: Class name.
        start: Seconds.
        end: Seconds.
        before: :data:`FOUND`, or what is wrong in the first system: ``wrong label``, ``boundaries`` or ``missed``.
        after: The same of the second.
    """

    video_id: str
    label: str
    start: float
    end: float
    before: str
    after: str

    @property
    def fixed(self) -> bool:
        """Whether the second system finds it; the first does otherwise."""
        return self.after == FOUND


@dataclass(frozen=True)
class VideoChanges:
    """What differs between two systems in one video.

    Args:
        video_id: Its id.
        instances: Actions in it.
        fixed: Actions that only the second system finds, by time.
        broken: Actions that only the first one finds, by time.
        false_alarms: False alarms and doubles of both systems.
    """

    video_id: str
    instances: int
    fixed: tuple[Change, ...]
    broken: tuple[Change, ...]
    false_alarms: tuple[int, int]

    @property
    def size(self) -> int:
        """Number of actions that are found by one system only."""
        return len(self.fixed) + len(self.broken)

    def to_json(self) -> dict[str, Any]:
        """Return the changes as a JSON-like dict."""
        return {
            **vars(self),
            "fixed": [vars(one) for one in self.fixed],
            "broken": [vars(one) for one in self.broken],
            "false_alarms": list(self.false_alarms),
        }


def find_changes(truth: GroundTruth, first: Mistakes, second: Mistakes) -> tuple[VideoChanges, ...]:
    """Return what differs between what two systems show, the videos with the largest change first.

    Videos in which both find the same actions and have as many false alarms are left out.

    Args:
        truth: The instances.
        first: Mistakes of the system that is compared with, on this truth.
        second: Mistakes of the other one.
    """
    changed: dict[str, list[Change]] = defaultdict(list)
    for row in ((first.state < 0) != (second.state < 0)).nonzero()[0].tolist():
        name = truth.videos[truth.video[row]]
        start, end = truth.segment[row].tolist()
        states = (_named(int(one.state[row])) for one in (first, second))
        changed[name].append(Change(name, truth.labels[truth.label[row]], start, end, *states))
    alarms = [{one.video_id: _alarms(one.counts) for one in mistakes.videos} for mistakes in (first, second)]
    instances = np.bincount(truth.video, minlength=len(truth.videos)).tolist()
    found = []
    for name, count in zip(truth.videos, instances, strict=True):
        actions = sorted(changed.get(name, ()), key=lambda one: (one.start, one.end))
        before, after = (one.get(name, 0) for one in alarms)
        if actions or before != after:
            fixed, broken = (tuple(one for one in actions if one.fixed is way) for way in (True, False))
            found.append(VideoChanges(name, count, fixed, broken, (before, after)))
    return tuple(sorted(found, key=lambda one: (-one.size, -abs(one.false_alarms[1] - one.false_alarms[0]))))


def _named(state: int) -> str:
    return FOUND if state < 0 else MISTAKES[state]


def _alarms(counts: dict[str, int]) -> int:
    return counts["false alarm"] + counts["double"]
