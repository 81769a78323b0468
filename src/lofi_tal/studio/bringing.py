"""Bring in what a detection has found: drafts of each video as soon as it is done, and how sure the model is of it.

``sureness.json`` in the work folder keeps, for each video, the job that its drafts are of and the value of every
measure; what is in it is not brought in again after a restart.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from lofi_tal.errors import DataError, LofiError
from lofi_tal.evaluation.sureness import measure_doubt
from lofi_tal.files import inside, read_json, write_json
from lofi_tal.model_folders import find_model
from lofi_tal.showing import Shown
from lofi_tal.studio.drafts import MODEL, drafts_of, read_detections, shown_by, source_of
from lofi_tal.studio.jobs import Job
from lofi_tal.writers import unique_names

DETECT = "detect"
_AT_ONCE = 200  # videos whose drafts are handed over together


class Bringing:
    """What was brought in of which video.

    Args:
        path: ``sureness.json``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
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
            waiting = self._waiting(job)
            if not waiting:
                return
            shown = shown_by(find_model(Path(job.facts["path"])))
            limit = job.facts["threshold"]
            asked = shown if limit is None else Shown(float(limit))
            source, done = source_of(MODEL, str(job.facts["model"])), checked()
            while waiting:
                some, waiting = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
                drafts = {}
                for video_id, path in some:
                    with contextlib.suppress(LofiError):
                        for segments in read_detections(read_json(path), path.name)[:1]:
                            self._all()[video_id] = {"job": job.id, "values": measure_doubt(segments, shown)}
                            if video_id not in done:
                                drafts[video_id] = drafts_of(segments, asked, source)
                yield drafts
                write_json(self.path, self._all())

    def _waiting(self, job: Job) -> list[tuple[str, Path]]:
        """Return the videos whose results are there and were not brought in: id and file."""
        folder = Path(job.facts["found"])
        videos: Mapping[str, str] = job.facts["videos"]
        there = set()
        with contextlib.suppress(OSError):
            there = {entry.name for entry in os.scandir(folder)}
        names = unique_names([Path(path) for path in videos.values()])
        files = {video_id: inside(folder, name, ".json") for video_id, name in zip(videos, names, strict=True)}
        known = self._all()
        return [
            (video_id, path)
            for video_id, path in files.items()
            if path.name in there and known.get(video_id, {}).get("job", "") < job.id
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
