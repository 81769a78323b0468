"""Follow jobs while the server runs: tell the pages how they go, and bring in what they find."""

from __future__ import annotations

import logging
import threading

from lofi_tal.studio.bringing import DETECT, Bringing
from lofi_tal.studio.desk import Desk
from lofi_tal.studio.drafts import MODEL
from lofi_tal.studio.jobs import Job, Jobs

logger = logging.getLogger("lofi_tal")
NEWS = 1.0
"""Seconds between two looks at the jobs."""


class Follower:
    """Looks at the jobs from a thread of its own.

    Args:
        desk: What takes the drafts and tells the pages.
        jobs: The jobs.
        bringing: What was brought in.
    """

    def __init__(self, desk: Desk, jobs: Jobs, bringing: Bringing) -> None:
        self.desk, self.jobs, self.bringing = desk, jobs, bringing
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._told: dict[str, tuple[str, float | None, str]] = {}

    def start(self) -> None:
        """Begin."""
        self._over.clear()
        self._thread = threading.Thread(target=self._follow, name="studio jobs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End; the jobs go on."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _follow(self) -> None:
        while True:
            try:
                self.look()
            except Exception as error:  # a full disk, say; the next look may do better, and the server goes on
                logger.warning("Jobs cannot be followed: %s: %s", type(error).__name__, error)
            if self._over.wait(NEWS):
                return

    def look(self) -> None:
        """Bring in what jobs have found since the last look, and tell of those that have changed."""
        for job in self.jobs.all():
            said = (job.state, job.share, job.text)
            if self._told.get(job.id) == said and job.state != "running":
                continue
            if job.kind == DETECT:
                self._bring(job)
            if self._told.get(job.id) != said:
                self._told[job.id] = said
                self.desk.tell({"kind": "job", "id": job.id})

    def _bring(self, job: Job) -> None:
        """Make drafts of what a job has found so far."""
        for drafts in self.bringing.news(job, self._checked):
            put = self.desk.put_drafts(drafts, MODEL)
            self.jobs.note_found(job, len(drafts), put)

    def _checked(self) -> set[str]:
        return {one["id"] for one in self.desk.entries() if one["state"] == "checked"}
