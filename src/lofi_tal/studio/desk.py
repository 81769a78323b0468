"""What all parts of the studio work at: videos and their labels, for any thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lofi_tal.errors import LofiError
from lofi_tal.files import is_companion
from lofi_tal.studio.book import Book
from lofi_tal.studio.contents import Content, in_order, read_content, read_drafts
from lofi_tal.studio.events import Bell
from lofi_tal.studio.media import Media
from lofi_tal.studio.shelf import Film, Shelf

logger = logging.getLogger("lofi_tal")

_DELAY = 0.5  # seconds from a change to its place in the labels file
_LOOKS = 1.0  # between two looks at whether somebody else has changed it
_SCANS = 10.0  # between two looks at the folder
_PATIENCE = 5.0  # before a write that failed is tried again


class ConflictError(LofiError):
    """A change of something that is no longer as the page knows it."""


class MissingError(LofiError):
    """Something that is not there."""


class Desk:
    """Videos and labels.

    Args:
        folder: Of the videos.
        labels: The labels file.
        model: Run or model folder that suggests drafts.
        device: Where it runs.
        recursive: Search all folders in ``folder``.

    Raises:
        LofiError: If something cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        labels: Path,
        *,
        model: Path | None = None,
        device: str = "auto",
        recursive: bool = False,
    ) -> None:
        self.folder, self.labels = folder.resolve(), labels.resolve()
        self.model, self.device, self.recursive = model, device, recursive
        self.work = work_folder(self.labels)
        self.work.mkdir(parents=True, exist_ok=True)
        self.bell = Bell()
        self.shelf = Shelf(
            self.folder, self.work / "videos.jsonl", (self.labels.parent / "runs", self.work), recursive=recursive
        )
        self.media = Media(self.shelf, self.work, self.bell)
        self._lock = threading.RLock()
        self._writing = threading.Lock()
        self._book = Book(self.labels, self.work / "journal", self._facts)
        self._pace = _DELAY
        self.problem = ""

    def files(self) -> Mapping[str, Path]:
        """Return the files of all videos that may be opened."""
        return {id: film.path for id, film in self.films().items() if film is not None and not film.barred}

    def video_ids(self) -> list[str]:
        """Return the ids of all videos."""
        return list(self.films())

    def entries(self) -> Iterator[Mapping[str, Any]]:
        """Yield what the API says of each video."""
        for video_id in list(self.films()):
            yield self.entry(video_id)

    def entry(self, video_id: str) -> dict[str, Any]:
        """Return what the API says of one video.

        Raises:
            MissingError: If there is no such video.
        """
        with self._lock:
            self._require(video_id)
            content, history = self._book.content(video_id), self._book.histories.get(video_id)
            record = self._book.document.videos.get(video_id)
            revision = self._book.revision(video_id)
            can = (history.can_undo, history.can_redo) if history else (False, False)
        film = self.shelf.find(video_id)
        clock = None if film is None else film.clock
        return {
            "id": video_id,
            "revision": revision,
            "state": content.state,
            "subset": content.subset,
            "segments": [_plain(one) for one in content.segments],
            "drafts": [one.to_json() for one in content.drafts],
            "ignored": [] if record is None else record.ignored.tolist(),
            "duration": clock.end if clock else None if record is None else record.duration,
            "fps": film.fps if film and film.fps else None if record is None else record.fps,
            "clock": None if clock is None else {"start": clock.start, "end": clock.end},
            "can_undo": can[0],
            "can_redo": can[1],
        }

    def change(self, video_id: str, revision: Any, body: Mapping[str, Any], did: str = "Change") -> dict[str, Any]:
        """Replace what is said of a video, and return its entry.

        Raises:
            MissingError: If there is no such video.
            ConflictError: If it has changed since ``revision``.
            LofiError: If a value cannot be used, or the change cannot be kept.
        """
        with self._lock:
            self._expect(video_id, revision)
            film = self.shelf.find(video_id)
            content = read_content(body, self._book.content(video_id), None if film is None else film.clock)
            self._tell(self._book.apply({video_id: content}, did))
            return self.entry(video_id)

    def undo(self, video_id: str, revision: Any) -> dict[str, Any]:
        """Take back the last change of a video, and return its entry; see :meth:`change`."""
        with self._lock:
            self._expect(video_id, revision)
            self._tell([video_id] if self._book.undo(video_id) else [])
            return self.entry(video_id)

    def redo(self, video_id: str, revision: Any) -> dict[str, Any]:
        """Do again what was undone last, and return the video's entry; see :meth:`change`."""
        with self._lock:
            self._expect(video_id, revision)
            self._tell([video_id] if self._book.redo(video_id) else [])
            return self.entry(video_id)

    def apply(self, contents: Mapping[str, Content], did: str, classes: list[dict[str, Any]] | None = None) -> int:
        """Replace what is said of many videos, and the class list; return how many videos differ."""
        with self._lock:
            more = {} if classes is None else {"classes": classes}
            changed = self._book.apply(contents, did, **more)
            self._tell(changed, classes=classes is not None)
            return len(changed)

    def put_drafts(self, found: Mapping[str, list[dict[str, Any]]], kind: str) -> None:
        """Replace the drafts of a kind of source; see :class:`~lofi_tal.studio.contents.Draft`.

        Args:
            found: By video; of each, drafts of the same kind go.
            kind: What their sources begin with, before a colon.
        """
        with self._lock:
            contents = {}
            for name, drafts in found.items():
                if (video_id := self.resolve(name)) is None:
                    continue
                before = self._book.content(video_id)
                new = read_drafts(drafts)
                names = {one.id for one in new}
                kept = [one for one in before.drafts if not one.source.startswith(f"{kind}:") and one.id not in names]
                state = "draft" if new and before.state == "new" else before.state
                contents[video_id] = Content(state, before.subset, before.segments, in_order([*kept, *new]))
            self.apply(contents, "Drafts")

    @property
    def book(self) -> Book:
        """The labels; to be used by one who holds :meth:`lock`."""
        return self._book

    @property
    def lock(self) -> threading.RLock:
        """Held while several things of the labels are read together."""
        return self._lock

    def flush(self) -> None:
        """Write what the labels file does not have yet.

        Raises:
            RunError: If it cannot be written.
        """
        with self._writing:
            begun = time.monotonic()
            with self._lock:
                writing = self._book.prepare()
            if writing is not None and writing.write():
                with self._lock:
                    self._book.finish(writing)
            self._pace = max(_DELAY, 4 * (time.monotonic() - begun))  # a file of many megabytes is not always written

    def look_outside(self) -> None:
        """Take what somebody else has changed in the labels file, and tell all pages."""
        try:
            with self._writing, self._lock:
                changed = self._book.outside()
        except LofiError as error:
            self._say_problem(f"The labels file is left alone until it can be read: {error}")
            return
        if changed is not None:
            self._say_problem("")
            self.bell.tell({"kind": "labels"})

    def tell(self, event: Mapping[str, Any]) -> None:
        """Tell all pages."""
        self.bell.tell(event)

    def start(self) -> None:
        """Begin to look after the labels file and the folder, until :meth:`close`."""
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep, name="labels", daemon=True),
            threading.Thread(target=self._examine, name="videos", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self.media.start()

    def close(self) -> None:
        """Write everything and end what :meth:`start` began."""
        self._stop.set()
        self.bell.close()
        self.media.close()
        self._threads[0].join()
        self.look_outside()
        self.flush()

    def _keep(self) -> None:
        tried = 0.0
        while not self._stop.wait(min(_LOOKS, self._pace) / 2):
            self.look_outside()
            if time.monotonic() - tried < (_PATIENCE if self.problem else self._pace / 2):
                continue
            tried = time.monotonic()
            try:
                self.flush()
            except (LofiError, OSError) as error:
                self._say_problem(f"The labels file cannot be written, and the journal has all changes: {error}")

    def _examine(self) -> None:
        pause = _SCANS
        while True:
            try:
                self.shelf.examine(self._seen, self._stop)
                if self._stop.wait(pause):
                    return
                begun = time.monotonic()
                if self.shelf.scan():
                    self.bell.tell({"kind": "videos"})
                pause = max(_SCANS, 20 * (time.monotonic() - begun))  # of many files, not all the time
            except LofiError as error:
                logger.warning("%s", error)
                if self._stop.wait(_SCANS):
                    return

    def _seen(self, video_id: str) -> None:
        if self._stop.is_set():
            raise SystemExit  # ends the thread, and the processes that read for it
        self.bell.tell({"kind": "videos"})

    def _say_problem(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            if problem:
                logger.warning("%s", problem)
            self.bell.tell({"kind": "problem", "text": problem})

    def _tell(self, video_ids: Iterable[str], *, classes: bool = False) -> None:
        changed = list(video_ids)
        if classes or len(changed) > 20:
            self.bell.tell({"kind": "labels"})
            return
        for video_id in changed:
            self.bell.tell({"kind": "video", "id": video_id, "revision": self._book.revision(video_id)})

    def films(self) -> dict[str, Film | None]:
        """Return all videos: those of the labels file, then the others; None without a file."""
        with self._lock:
            labelled = list(self._book.contents)
        films: dict[str, Film | None] = {id: self.shelf.find(id) for id in labelled}
        found = {id(film) for film in films.values() if film is not None}
        return films | {name: film for name, film in self.shelf.films.items() if id(film) not in found}

    def resolve(self, video_id: str) -> str | None:
        """Return the id that a video has here, which may lack or have ActivityNet's ``v_``; None if there is none."""
        known = self._book.contents
        for name in (video_id, f"v_{video_id}", video_id.removeprefix("v_")):
            if name in known or name in self.shelf.films:
                return name
        return None

    def _require(self, video_id: str) -> None:
        if video_id not in self._book.contents and video_id not in self.shelf.films:
            raise MissingError(f"There is no video {video_id!r} in {self.folder} or {self.labels}.")

    def _expect(self, video_id: str, revision: Any) -> None:
        self._require(video_id)
        if self._book.revision(video_id) != revision:
            raise ConflictError(
                f"{video_id!r} has changed meanwhile, in another window or by another program: look at it again."
            )

    def _facts(self, video_id: str) -> dict[str, float]:
        film = self.shelf.find(video_id)
        if film is None or film.clock is None:
            return {}
        return {"duration": round(film.clock.end, 6)} | ({"fps": round(film.fps, 6)} if film.fps else {})


def _plain(one: Any) -> dict[str, Any]:
    return {"id": one.id, "start": one.start, "end": one.end, "label": one.label}


def work_folder(labels: Path) -> Path:
    """Return the folder beside a labels file for all that has no place in it."""
    folder = labels.with_name(f".{labels.name}.studio")
    assert is_companion(folder.name)
    return folder
