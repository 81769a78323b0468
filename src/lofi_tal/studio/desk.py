"""What all parts of the studio work at: videos and their labels, for any thread."""

from __future__ import annotations

import threading
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lofi_tal.annotations import VideoAnnotation
from lofi_tal.files import is_companion
from lofi_tal.studio.book import Book
from lofi_tal.studio.contents import Content, read_content, with_drafts
from lofi_tal.studio.events import Bell
from lofi_tal.studio.media import Media
from lofi_tal.studio.refusals import ConflictError, MissingError
from lofi_tal.studio.shelf import Film, Shelf
from lofi_tal.studio.steps import Classes
from lofi_tal.studio.upkeep import Upkeep
from lofi_tal.video import known_as


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
        self._book = Book(self.labels, self.work / "journal", self._facts)
        self._upkeep = Upkeep(self._book, self._lock, self.shelf, self.bell)

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
            can = {"can_undo": bool(history and history.can_undo), "can_redo": bool(history and history.can_redo)}
        told = {"id": video_id, "revision": revision, "state": content.state, "subset": content.subset}
        spans = {"segments": [_plain(one) for one in content.segments], "drafts": [d.to_json() for d in content.drafts]}
        return {**told, **spans, **_facts_of(record, self.shelf.find(video_id)), **can}

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
        """Take back the last change of a video, and return its entry with the number of videos that it changes."""
        with self._lock:
            self._expect(video_id, revision)
            return self._step(video_id, "undo")

    def redo(self, video_id: str, revision: Any) -> dict[str, Any]:
        """Do again what was undone last, and return the video's entry; see :meth:`change`."""
        with self._lock:
            self._expect(video_id, revision)
            return self._step(video_id, "redo")

    def _step(self, video_id: str, kind: str) -> dict[str, Any]:
        changed = self._book.step(video_id, kind)
        self._tell(changed, classes=len(changed) > 1)
        return self.entry(video_id) | {"changed": len(changed)}

    def apply(
        self, contents: Mapping[str, Content], did: str, classes: Classes | None = None, *, together: bool = True
    ) -> int:
        """Replace what is said of videos (undone at once if ``together``) and the class list; count what differs."""
        with self._lock:
            more = {} if classes is None else {"classes": classes}
            changed = self._book.apply(contents, did, together=together, **more)
            self._tell(changed, classes=classes is not None)
            return len(changed)

    def put_drafts(self, found: Mapping[str, list[dict[str, Any]]], kind: str) -> int:
        """Replace the drafts of a kind of source by those that are no actions yet, and return how many these are.

        Args:
            found: By video; of each, drafts of the same kind go.
            kind: What their sources begin with, before a colon.
        """
        with self._lock:
            known = {video_id: some for name, some in found.items() if (video_id := self.resolve(name)) is not None}
            films = {id: self.shelf.find(id) for id in known}
            clocks = {id: film.clock for id, film in films.items() if film is not None}
            contents = {id: with_drafts(self._book.content(id), known[id], kind, clocks.get(id)) for id in known}
            self.apply(contents, "Drafts", together=False)
            return sum(one.source.startswith(f"{kind}:") for content in contents.values() for one in content.drafts)

    @property
    def book(self) -> Book:
        """The labels; to be used by one who holds :meth:`lock`."""
        return self._book

    @property
    def lock(self) -> threading.RLock:
        """Held while several things of the labels are read together."""
        return self._lock

    @property
    def problem(self) -> str:
        """What is wrong with the labels file, in words; empty if nothing is."""
        return self._upkeep.problem

    def flush(self) -> None:
        """Write what the labels file does not have yet.

        Raises:
            RunError: If it cannot be written.
        """
        self._upkeep.flush()

    def look_outside(self) -> None:
        """Take what somebody else has changed in the labels file, and tell all pages."""
        self._upkeep.look_outside()

    def tell(self, event: Mapping[str, Any]) -> None:
        """Tell all pages."""
        self.bell.tell(event)

    def start(self) -> None:
        """Begin what goes on in the background, until :meth:`close`."""
        self._upkeep.start()
        self.media.start()

    def close(self) -> None:
        """Write everything and end what :meth:`start` began."""
        self.bell.close()
        self.media.close()
        self._upkeep.close()

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
        return known_as(video_id, ChainMap[str, Any](self._book.contents, self.shelf.films))

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


def _facts_of(record: VideoAnnotation | None, film: Film | None) -> dict[str, Any]:
    """Return what the labels file and the video file say of a video; the latter knows better."""
    clock = None if film is None else film.clock
    return {
        "ignored": [] if record is None else record.ignored.tolist(),
        "duration": clock.end if clock else None if record is None else record.duration,
        "fps": film.fps if film and film.fps else None if record is None else record.fps,
        "clock": None if clock is None else {"start": clock.start, "end": clock.end},
    }


def _plain(one: Any) -> dict[str, Any]:
    return {"id": one.id, "start": one.start, "end": one.end, "label": one.label}


def work_folder(labels: Path) -> Path:
    """Return the folder beside a labels file for all that has no place in it."""
    folder = labels.with_name(f".{labels.name}.studio")
    assert is_companion(folder.name)
    return folder
