"""What the page plays and shows of videos: files as they are, proxies, thumbnails and frame times, each made once."""

from __future__ import annotations

import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from lofi_tal.errors import LofiError, RunError
from lofi_tal.files import file_stamp, inside, sweep, write_bytes
from lofi_tal.studio.events import Bell
from lofi_tal.studio.pictures import Make, frame_times, look_into, plays_everywhere, strip, thumbnail
from lofi_tal.studio.proxies import Share, make_proxy
from lofi_tal.studio.shelf import Shelf
from lofi_tal.video.readers import read_in_processes

logger = logging.getLogger("lofi_tal")

_AT_ONCE = 2  # processes that make pictures
_REMEMBERED = 32  # frame times of videos
_TELLS = 1.0  # seconds between two events about a proxy
_Key = TypeVar("_Key")
_Item = TypeVar("_Item")


@dataclass
class _Task:
    """A proxy that is made or could not be made."""

    share: Share
    problem: str = ""


class Media:
    """Media of the videos of a shelf.

    Args:
        shelf: The videos.
        work: Folder for what is made of them.
        bell: Is told when a proxy goes on.
    """

    def __init__(self, shelf: Shelf, work: Path, bell: Bell) -> None:
        self.shelf, self.bell = shelf, bell
        self.proxies, self.thumbs = work / "proxies", work / "thumbnails"
        self._lock = threading.Lock()
        self._reading = threading.Semaphore(_AT_ONCE)
        self._makes: dict[tuple[Path, str], Make | LofiError] = {}
        self._times: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._tasks: dict[Path, _Task] = {}
        self._forced: set[str] = set()
        self._queue: queue.Queue[tuple[str, Path, Path] | None] = queue.Queue()
        self._closed = False

    def start(self) -> None:
        """Begin to make proxies."""
        for folder in (self.proxies, self.thumbs):
            if folder.exists():
                sweep(folder)
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="proxies", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End what is being made."""
        self._closed = True
        self._queue.put(None)
        with self._lock:
            for task in self._tasks.values():
                task.share.stop()
        self._thread.join(timeout=5.0)

    def describe(self, video_id: str, *, proxy: bool = False) -> dict[str, Any]:
        """Return what the page is to play, after asking for a proxy where it needs one.

        Args:
            video_id: The video.
            proxy: Make a proxy whatever the file is.

        Raises:
            LofiError: If there is no such file, or it is no video.
        """
        path = self.shelf.open_path(video_id)
        stamp = file_stamp(path)
        film = self.shelf.find(video_id)
        make = self._make(path if film is None else film.path, path)
        clock = None if film is None else film.clock
        odd = film is not None and film.record is not None and bool(film.record.notes)
        output = inside(self.proxies, f"{video_id}-{stamp}", ".mp4")
        if proxy:
            self._forced.add(video_id)
            self._forget_failure(output)
        if plays_everywhere(make, path.suffix) and not odd and video_id not in self._forced:
            url = f"/media/{quote(video_id, safe='', errors='surrogatepass')}"
            return {"url": url, "state": "original", "share": 1.0, "problem": None, "offset": 0.0 - make.origin}
        start = clock.start if clock is not None else self._first(path, stamp)
        url = f"/proxy/{quote(video_id, safe='', errors='surrogatepass')}"
        if output.exists():
            return {"url": url, "state": "ready", "share": 1.0, "problem": None, "offset": start}
        task = self._ask(video_id, path, output)
        state = "failed" if task.problem else "making"
        return {
            "url": None, "state": state, "share": task.share.done, "problem": task.problem or None, "offset": start,
        }  # fmt: skip

    def plays(self, video_id: str) -> bool | None:
        """Say whether browsers play a video as it is, if that is known."""
        film = self.shelf.find(video_id)
        if film is None or film.barred or (film.record is not None and film.record.error):
            return False
        if film.record is None:
            return None
        make = self._makes.get((film.path, film.record.stamp))
        return plays_everywhere(make, film.path.suffix) if isinstance(make, Make) else None

    def proxy_path(self, video_id: str) -> Path:
        """Return the file of a video's proxy, which may not be there yet."""
        path = self.shelf.open_path(video_id)
        return inside(self.proxies, f"{video_id}-{file_stamp(path)}", ".mp4")

    def thumbnail_path(self, video_id: str) -> Path:
        """Return a JPEG of a video, after making it.

        Raises:
            LofiError: If it cannot be made.
        """
        path = self.shelf.open_path(video_id)
        output = inside(self.thumbs, f"{video_id}-{file_stamp(path)}", ".jpg")
        if not output.exists():
            write_bytes(output, self._read(thumbnail, path))
        return output

    def strip(self, video_id: str, first: float, last: float, count: int) -> bytes:
        """Return a JPEG of frames side by side.

        Raises:
            LofiError: If it cannot be made.
        """
        return self._read(strip, (self.shelf.open_path(video_id), first, last, count))

    def frames(self, video_id: str) -> bytes:
        """Return the time of each frame on the player's clock, as little-endian float64.

        Raises:
            LofiError: If the file cannot be read.
        """
        path = self.shelf.open_path(video_id)
        return self._frames(path, file_stamp(path))

    def _frames(self, path: Path, stamp: str) -> bytes:
        key = (str(path), stamp)
        with self._lock:
            known = self._times.pop(key, None)
        known = known or self._read(frame_times, path)
        with self._lock:
            self._times[key] = known
            while len(self._times) > _REMEMBERED:
                self._times.popitem(last=False)
        return known

    def _first(self, path: Path, stamp: str) -> float:
        import numpy as np

        return float(np.frombuffer(self._frames(path, stamp)[:8], "<f8")[0])

    def _make(self, name: Path, path: Path) -> Make:
        """Return how a file is made: ``name`` in the folder, which may be a link to ``path`` there."""
        key = (name, file_stamp(name))
        if key not in self._makes:
            try:
                self._makes[key] = self._read(look_into, path)
            except LofiError as error:
                self._makes[key] = error
        known = self._makes[key]
        if isinstance(known, LofiError):
            raise known
        return known

    def _read(self, read: Callable[[_Key], _Item], key: _Key) -> _Item:
        """Return what ``read`` gives, in another process."""
        with self._reading:
            return next(iter(read_in_processes(read, [key], 1)))

    def _ask(self, video_id: str, path: Path, output: Path) -> _Task:
        with self._lock:
            if output not in self._tasks:
                self._tasks[output] = _Task(Share())
                self._queue.put((video_id, path, output))
            return self._tasks[output]

    def _forget_failure(self, output: Path) -> None:
        with self._lock:
            if output in self._tasks and self._tasks[output].problem:
                del self._tasks[output]

    def _work(self) -> None:
        while (asked := self._queue.get()) is not None and not self._closed:
            video_id, path, output = asked
            task = self._tasks[output]
            teller = threading.Thread(target=self._tell_often, args=(video_id, task, done := threading.Event()))
            teller.start()
            try:
                make_proxy(path, output, task.share)
                with self._lock:
                    del self._tasks[output]
            except (LofiError, OSError) as error:
                task.problem = str(error) if isinstance(error, LofiError) else f"{path.name}: {error.strerror}."
                if not self._closed and isinstance(error, RunError):
                    logger.warning("%s", error)
            finally:
                done.set()
                teller.join()
                state = "failed" if task.problem else "ready"
                self.bell.tell({"kind": "media", "id": video_id, "state": state, "share": task.share.done})

    def _tell_often(self, video_id: str, task: _Task, done: threading.Event) -> None:
        told = -1.0
        while not done.wait(_TELLS):
            if task.share.done != told:
                told = task.share.done
                self.bell.tell({"kind": "media", "id": video_id, "state": "making", "share": told})
