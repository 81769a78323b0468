"""The videos of a folder: which there are, and what is known of their files, which are examined in the background."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from lofi_tal.errors import LofiError
from lofi_tal.files import file_stamp, plain_file
from lofi_tal.studio.refusals import MissingError
from lofi_tal.video import Clock, VideoError, VideoManifest, VideoRecord, everywhere, find_videos, known_as

_WORKERS = 2  # processes that examine files
_BATCH = 64  # files that are examined before new ones are looked for


class _StoppedError(Exception):
    """Files are no longer to be examined."""


@dataclass(frozen=True)
class Film:
    """A video file.

    Args:
        path: The file.
        name: Its path within the folder.
        record: What is known of it, None until it has been examined.
        problem: Why it cannot be used, or what is odd about it.
        barred: It is not to be opened: it leads out of the folder, or is no plain file.
    """

    path: Path
    name: str
    record: VideoRecord | None = None
    problem: str = ""
    barred: bool = False

    @property
    def clock(self) -> Clock | None:
        """The player's clock of the video, None as long as it is not known."""
        return None if self.record is None or self.record.error else self.record.clock

    @property
    def fps(self) -> float | None:
        """Mean frames a second."""
        known = self.record is not None and not self.record.error
        return self.record.frames / self.record.duration if known and self.record is not None else None


class Shelf:
    """Video files by id, as :func:`~lofi_tal.video.find_videos` finds them.

    Args:
        folder: Of the videos.
        manifest: File that keeps what is known of them.
        apart: Folders whose files are none of the user's videos.
        recursive: Search all folders, not only those in ``folder`` itself.

    Raises:
        VideoError: If the folder cannot be read.
    """

    def __init__(
        self, folder: Path, manifest: Path | None, apart: Iterable[Path] = (), recursive: bool = False
    ) -> None:
        self.folder, self._apart = folder, tuple(apart)
        self._where = everywhere(folder, recursive)
        self._manifest = VideoManifest(manifest, workers=_WORKERS)
        self.films: dict[str, Film] = {}
        self._forms: dict[str, str] = {}
        self.scan()

    def scan(self) -> bool:
        """Look for files; say whether there are others than before.

        Raises:
            VideoError: If the folder cannot be read.
        """
        films = {}
        index, inside = find_videos(self._where), dict[Path, bool]()
        for video_id in index:
            paths = [path for path in index.files[video_id] if not any(path.is_relative_to(one) for one in self._apart)]
            if not paths:
                continue
            before = self.films.get(video_id)
            same = before is not None and before.path == paths[0] and _is_as_it_was(before)
            films[video_id] = before if before is not None and same else self._judged(paths, inside)
        changed = films.keys() != self.films.keys() or any(
            films[video_id].path != film.path for video_id, film in self.films.items()
        )
        self.films = films
        return changed

    def find(self, video_id: str) -> Film | None:
        """Return the file of a video: its stem is the id, or the id with or without ActivityNet's ``v_``."""
        films = self.films
        name = known_as(video_id, films)
        return None if name is None else films[name]

    def open_path(self, video_id: str) -> Path:
        """Return the real path of a video's file.

        Raises:
            MissingError: If there is none.
            DataError: If it leads out of the folder, or is no plain file.
        """
        film = self.find(video_id)
        if film is None:
            raise MissingError(f"There is no video file for {video_id!r} in {self.folder}.")
        plain_file(film.path, self.folder)
        return film.path.resolve()

    def examine(self, seen: Callable[[str], None], stop: threading.Event) -> None:
        """Examine all files that are new or have changed.

        Args:
            seen: Called with the id of each, as soon as it is known.
            stop: Ends it soon.
        """
        todo = {film.path: video_id for video_id, film in self.films.items() if self._is_new(film)}
        paths = list(todo)

        def learn(path: Path, record: VideoRecord) -> None:
            if stop.is_set():
                raise _StoppedError
            self._learn(todo[path], path, record, seen)

        try:
            for first in range(0, len(paths), _BATCH):
                self._manifest.examine(paths[first : first + _BATCH], seen=learn)
        except _StoppedError:  # which ends the processes that read
            return

    def examine_now(self, video_ids: Iterable[str]) -> None:
        """Examine some videos, if they are not known yet."""
        wanted = {film.path for id in video_ids if (film := self.find(id)) is not None and self._is_new(film)}
        names = {film.path: name for name, film in self.films.items() if film.path in wanted} if wanted else {}
        self._manifest.examine(names, seen=lambda path, record: self._learn(names[path], path, record, _nobody))

    def record(self, video_id: str) -> VideoRecord:
        """Return what is known of a video, after examining it if need be.

        Raises:
            VideoError: If it has no file that may be opened.
        """
        self.examine_now([video_id])
        film = self.find(video_id)
        if film is None or film.record is None:
            raise VideoError(film.problem if film else f"There is no video file for {video_id!r} in {self.folder}.")
        return film.record

    def _is_new(self, film: Film) -> bool:
        return film.record is None and not film.barred

    def _learn(self, video_id: str, path: Path, record: VideoRecord, seen: Callable[[str], None]) -> None:
        film = self.films.get(video_id)
        if film is not None and film.path == path:
            self.films[video_id] = replace(film, record=record, problem=record.error or film.problem)
            seen(video_id)

    def _judged(self, paths: list[Path], inside: dict[Path, bool]) -> Film:
        """Return a film with what is wrong with it at first sight.

        Args:
            paths: Of all files of its name, the first of which counts.
            inside: Whether folders lie in that of the videos, as far as somebody has looked.
        """
        path, *others = paths
        name = str(path.relative_to(self.folder))
        if path.parent not in inside:
            inside[path.parent] = path.parent.resolve().is_relative_to(self.folder)
        if not inside[path.parent] or not stat.S_ISREG(path.lstat().st_mode):  # a link, which may lead anywhere
            try:
                plain_file(path, self.folder)
            except LofiError as error:
                return Film(path, name, None, str(error), barred=True)
        if others:
            some = ", ".join(str(other.relative_to(self.folder)) for other in others[:3])
            return Film(path, name, None, f"{some} has the same name and is not used: rename it.")
        return Film(path, name)


def _is_as_it_was(film: Film) -> bool:
    try:
        return film.record is not None and film.record.stamp == file_stamp(film.path)
    except OSError:
        return False


def _nobody(video_id: str) -> None:
    """Tell nobody that a video is known."""
