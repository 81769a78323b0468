"""Bring in what a detection has found: drafts of each video as soon as it is done, and how sure the model is of it.

``sureness.json`` in the work folder keeps, for each video, the job that its drafts are of and the value of every
measure; what is in it is not brought in again after a restart.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lofi_tal.errors import DataError, LofiError
from lofi_tal.evaluation.sureness import MEASURES, Doubt, measure_doubt
from lofi_tal.files import inside, read_json, write_json
from lofi_tal.segments import Segments, detections_from_activitynet
from lofi_tal.showing import Shown
from lofi_tal.studio.drafts import MODEL, drafts_of, read_shown, source_of
from lofi_tal.studio.jobs import Job
from lofi_tal.writers import unique_names

DETECT = "detect"
"""Kind of the jobs that detect; their facts are ``model``, ``shown``, ``found``, ``threshold`` and ``videos``."""
_AT_ONCE = 200  # videos whose drafts are handed over together


IMPORTED = Shown(0.5)
"""What counts as shown of drafts from files, whose model nobody knows here."""


def doubt_of(entry: Mapping[str, Any], by: str) -> float:
    """Return a measure of a video that has drafts from a file alone: from these drafts.

    Args:
        entry: What the API says of the video.
        by: Name of the measure.
    """
    rows = [
        {"segment": (one["start"], one["end"]), "label": one["label"], "score": one["score"]} for one in entry["drafts"]
    ]
    return MEASURES[by].value(Doubt(Segments.from_activitynet(entry["id"], rows), IMPORTED))


class Bringing:
    """What was brought in of which video.

    Args:
        work: The work folder.
    """

    def __init__(self, work: Path) -> None:
        self.path, self.found = work / "sureness.json", work / "found"
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, Any]] | None = None

    def values(self) -> dict[str, dict[str, float]]:
        """Return the measures of each video that a model has looked at."""
        with self._lock:
            return {name: one["values"] for name, one in self._all().items()}

    def news(self, job: Job, checked: Callable[[], Collection[str]]) -> Iterator[dict[str, list[dict[str, Any]]]]:
        """Yield drafts of videos that a job has done since the last call, some hundred at once.

        A video that is checked gets no drafts, but its measures. Files that cannot be read are passed over: the log
        of the job says why.

        Args:
            job: A detection.
            checked: Returns the ids of videos that a person has looked through.
        """
        with self._lock:
            task = _task_of(job)
            waiting = [] if task is None else self._waiting(task)
            if task is None or not waiting:
                return
            done = checked()
            while waiting:
                some, waiting = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
                drafts = {}
                for video_id, path in some:
                    with contextlib.suppress(LofiError):
                        for segments in detections_from_activitynet(read_json(path), path.name)[:1]:
                            self._all()[video_id] = {"job": job.id, "values": measure_doubt(segments, task.shown)}
                            if video_id not in done:
                                drafts[video_id] = drafts_of(segments, task.asked, task.source)
                yield drafts
                write_json(self.path, self._all())

    def _waiting(self, task: _Task) -> list[tuple[str, Path]]:
        """Return the videos whose results are there and were not brought in: id and file."""
        folder = inside(self.found, task.found)
        there = set()
        with contextlib.suppress(OSError):
            there = {entry.name for entry in os.scandir(folder)}
        names = unique_names([Path(path) for path in task.videos.values()])
        files = {video_id: inside(folder, name, ".json") for video_id, name in zip(task.videos, names, strict=True)}
        known = self._all()
        return [
            (video_id, path)
            for video_id, path in files.items()
            if path.name in there and known.get(video_id, {}).get("job", "") < task.job
        ]

    def _all(self) -> dict[str, dict[str, Any]]:
        if self._known is None:
            try:
                self._known = {
                    str(name): {"job": str(one["job"]), "values": {k: float(v) for k, v in one["values"].items()}}
                    for name, one in read_json(self.path).items()
                }
            except (DataError, OSError, KeyError, TypeError, ValueError, AttributeError):
                self._known = {}  # none yet, or damaged: it is made anew
        return self._known


@dataclass(frozen=True)
class _Task:
    """A detection: its job, its folder of results, files by video, what the model shows, what becomes drafts."""

    job: str
    found: str
    videos: dict[str, str]
    shown: Shown
    asked: Shown
    source: str


def _task_of(job: Job) -> _Task | None:
    """Return what a job detects; None if its facts are not as this program writes them."""
    try:
        facts = job.facts
        limit, shown = facts["threshold"], read_shown(facts["shown"])
        asked = shown if limit is None else Shown(float(limit))
        videos = {str(name): str(path) for name, path in facts["videos"].items()}
        return _Task(job.id, str(facts["found"]), videos, shown, asked, source_of(MODEL, str(facts["model"])))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
