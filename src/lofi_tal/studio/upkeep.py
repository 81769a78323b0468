"""What goes on while pages are open: labels are written, other programs' changes are noticed, files are examined."""

from __future__ import annotations

import logging
import threading
import time

from lofi_tal.errors import LofiError
from lofi_tal.studio.book import Book
from lofi_tal.studio.events import Bell
from lofi_tal.studio.shelf import Shelf

logger = logging.getLogger("lofi_tal")

_DELAY = 0.5  # seconds from a change to its place in the labels file
_LOOKS = 1.0  # between two looks at whether somebody else has changed it
_SCANS = 10.0  # between two looks at the folder
_TELLS = 1.0  # between two events about files that have been examined
_PATIENCE = 5.0  # before a write that failed is tried again


class Upkeep:
    """Two threads, one for the labels file and one for the videos.

    Args:
        book: The labels.
        lock: Held while they are used.
        shelf: The videos.
        bell: Is told what changes.
    """

    def __init__(self, book: Book, lock: threading.RLock, shelf: Shelf, bell: Bell) -> None:
        self.book, self.lock, self.shelf, self.bell = book, lock, shelf, bell
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._pace = _DELAY
        self._told = 0.0
        self.unread = self.unwritten = ""
        """Why the labels file cannot be read, and why it cannot be written; empty if it can."""

    @property
    def problem(self) -> str:
        """What is wrong with the labels file, in words."""
        return self.unread or self.unwritten

    def start(self) -> None:
        """Begin, until :meth:`close`."""
        self._threads = [
            threading.Thread(target=self._keep, name="labels", daemon=True),
            threading.Thread(target=self._examine, name="videos", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End the threads, and write what is left; what cannot be written is in the journal."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_PATIENCE)  # one that waits for a file that hangs ends with the process
        self.look_outside()
        self._try_to_flush()

    def flush(self) -> None:
        """Write what the labels file does not have yet.

        Raises:
            RunError: If it cannot be written.
        """
        with self._writing:
            begun = time.monotonic()
            with self.lock:
                writing = self.book.prepare()
            if writing is not None and writing.write():
                with self.lock:
                    self.book.finish(writing)
            self._pace = max(_DELAY, 4 * (time.monotonic() - begun))  # a file of many megabytes is not always written

    def look_outside(self) -> None:
        """Take what somebody else has changed in the labels file, and tell all pages."""
        try:
            with self._writing, self.lock:
                changed = self.book.outside()
        except (LofiError, OSError) as error:
            self._note(unread=f"The labels file is left alone until it can be read: {error}")
            return
        if changed is not None:
            self._note(unread="")
            self.bell.tell({"kind": "labels"})

    def _keep(self) -> None:
        tried = 0.0
        while not self._stop.wait(min(_LOOKS, self._pace) / 2):
            self.look_outside()
            if time.monotonic() - tried >= (_PATIENCE if self.unwritten else self._pace / 2):
                tried = time.monotonic()
                self._try_to_flush()

    def _try_to_flush(self) -> None:
        try:
            self.flush()
        except (LofiError, OSError) as error:
            self._note(unwritten=f"The labels file cannot be written; the journal has all changes: {error}")
        else:
            self._note(unwritten="")

    def _note(self, *, unread: str | None = None, unwritten: str | None = None) -> None:
        before = self.problem
        self.unread = self.unread if unread is None else unread
        self.unwritten = self.unwritten if unwritten is None else unwritten
        if self.problem != before:
            if self.problem:
                logger.warning("%s", self.problem)
            self.bell.tell({"kind": "problem", "text": self.problem})

    def _examine(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            begun = time.monotonic()
            try:
                if self.shelf.scan():
                    self.bell.tell({"kind": "videos"})
                pause = max(_SCANS, 20 * (time.monotonic() - begun))  # of many files, not all the time
                self.shelf.examine(self._seen, self._stop)
            except (LofiError, OSError) as error:
                logger.warning("%s", error)
                pause = _SCANS
            self._tell_videos(at_once=True)

    def _seen(self, video_id: str) -> None:
        self._told = self._told or time.monotonic()
        self._tell_videos()

    def _tell_videos(self, *, at_once: bool = False) -> None:
        """Tell pages that more is known of videos: not of each, which would have them read a long list all the time."""
        if self._told and (at_once or time.monotonic() - self._told >= _TELLS):
            self._told = 0.0
            self.bell.tell({"kind": "videos"})
