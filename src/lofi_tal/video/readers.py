"""Processes that read video files, and may die of them: FFmpeg crashes, hangs, or takes all the memory.

A process that dies is replaced by another one, which is given what it had. The second process that dies while it reads
the same file was the last: the file is given up, and is to all processes one that cannot be read. So a process that is
killed by chance costs nothing, and a file costs only itself.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

from lofi_tal.errors import LofiError, RunError
from lofi_tal.processes import end_with_parent
from lofi_tal.video import watch

AHEAD = 2
"""Keys that a process is given ahead."""
_DEATHS_OF_A_FILE = 2  # processes that may die while they read it
_DEATHS_WITHOUT_A_FILE = 3  # processes that may die of one key, while they read no file
_UNWOUND = 128  # and the number of the signal are the status of a process that has unwound
_SECONDS_TO_LEAVE = 2.0  # and to delete what is half written
_Key = TypeVar("_Key")
_Item = TypeVar("_Item")


def read_in_processes(
    read: Callable[[_Key], _Item],
    keys: Iterable[_Key],
    workers: int,
    *,
    in_order: bool = True,
    begin: Callable[[], object] = lambda: None,
) -> Iterator[_Item]:
    """Yield what ``read`` gives for each of ``keys``; it is called in other processes.

    Args:
        read: What :func:`lofi_tal.video.watch.given_up` names it must not try.
        keys: At most :data:`AHEAD` for each process are asked for before they are needed.
        workers: Processes; 0 reads in this one.
        in_order: Yield in the order of the keys, not as it comes.
        begin: Called in each process before it reads.

    Raises:
        RunError: If processes die again and again, and it is no file that they die of.
        LofiError: What ``read`` raises.
    """
    if not workers:
        yield from map(read, keys)
        return
    crew = _Crew(read, keys, workers, begin)
    try:
        yield from crew.items(in_order)
    finally:
        crew.end()


_starting = threading.Lock()


def _start_anew() -> None:
    """Let a process that another thread makes meanwhile start processes of its own."""
    global _starting
    _starting = threading.Lock()


os.register_at_fork(after_in_child=_start_anew)
_crews: weakref.WeakSet[_Crew[Any, Any]] = weakref.WeakSet()


@atexit.register
def _end_crews() -> None:
    """End what callers have left, before :mod:`multiprocessing` waits for it, however long it takes."""
    for crew in list(_crews):
        crew.end()


class _Raised:
    """An error in another process, instead of an item."""

    def __init__(self, error: LofiError | None, text: str) -> None:
        self.error, self.text = error, text

    def again(self) -> Exception:
        return self.error or RuntimeError(f"In a process that reads videos:\n{self.text}")


class _Reader:
    """One process, and the numbers of the keys that it has been given, the one that it reads first."""

    def __init__(self, read: Callable[[Any], Any], begin: Callable[[], object]) -> None:
        self.slot, self.given = watch.Slot(), deque[int]()
        with _starting:  # or the process that another thread starts would hold their end of the pipe too
            self.pipe, theirs = multiprocessing.Pipe()
            try:
                self.process = multiprocessing.Process(
                    target=_serve, args=(theirs, self.slot, read, begin), name="reader", daemon=True
                )
                self.process.start()
            except OSError as error:
                raise RunError(f"No process can be started to read videos: {error.strerror}.") from error
            finally:
                theirs.close()  # now its death ends the pipe

    def give(self, number: int, key: Any, given_up: dict[Path, str]) -> None:
        self.given.append(number)
        with contextlib.suppress(OSError):  # it is dead, which is seen where its answers are awaited
            self.pipe.send((number, key, given_up))

    def heard(self) -> Iterator[tuple[int, Any]]:
        """Yield what it has sent; EOFError if it has died."""
        while self.pipe.poll():
            try:
                number, item = self.pipe.recv()
            except OSError as error:  # a tensor must be fetched from the process that sent it
                self.process.join(_SECONDS_TO_LEAVE)
                if self.process.exitcode is None:
                    raise
                raise EOFError from error
            self.given.popleft()
            yield number, item

    def wait(self) -> int | None:
        """Return its exit status when it has ended.

        A thread that starts a process looks after all that have ended: it may have taken the status of this one, and be
        about to note it.
        """
        self.process.join()
        limit = time.monotonic() + _SECONDS_TO_LEAVE
        while self.process.exitcode is None and time.monotonic() < limit:
            time.sleep(0.001)
        return self.process.exitcode

    def end(self) -> None:
        self.wait()
        self.process.close()
        self.pipe.close()


class _Crew(Generic[_Key, _Item]):
    """The processes and what is asked of them. ``tasks`` are keys, by number, whose items have not been yielded."""

    def __init__(
        self, read: Callable[[_Key], _Item], keys: Iterable[_Key], workers: int, begin: Callable[[], object]
    ) -> None:
        self.read, self.keys, self.workers, self.begin = read, iter(keys), workers, begin
        self.owner, self.asked = os.getpid(), 0
        self.tasks: dict[int, _Key] = {}
        self.waiting: deque[int] = deque()  # tasks that no process has
        self.found: dict[int, _Item | _Raised] = {}
        self.readers: list[_Reader] = []
        self.deaths: Counter[Path | int] = Counter()
        self.given_up: dict[Path, str] = {}
        _crews.add(self)

    def items(self, in_order: bool) -> Iterator[_Item]:
        self._ask()
        while self.tasks:
            first = next(iter(self.tasks))
            ready = [first] if first in self.found else [] if in_order else list(self.found)
            if not ready:
                self._listen()
                continue
            item = self.found.pop(ready[0])
            del self.tasks[ready[0]]
            if isinstance(item, _Raised):
                raise item.again()
            self._ask()  # the processes go on while the caller uses the item
            yield item

    def _ask(self) -> None:
        """Ask for more keys, and give the processes all they can take."""
        while len(self.tasks) < self.workers * AHEAD:
            try:
                key = next(self.keys)
            except StopIteration:
                break
            self.tasks[self.asked] = key
            self.waiting.append(self.asked)
            self.asked += 1
        while self.waiting:
            reader = min(self.readers, key=lambda reader: len(reader.given), default=None)
            if reader is None or (reader.given and len(self.readers) < self.workers):
                reader = _Reader(self.read, self.begin)
                self.readers.append(reader)
            number = self.waiting.popleft()
            reader.give(number, self.tasks[number], self.given_up)

    def _listen(self) -> None:
        """Wait until something has come, or a process has died."""
        wait([end for reader in self.readers for end in (reader.pipe, reader.process.sentinel)])
        for reader in list(self.readers):
            try:
                self.found.update(reader.heard())
            except EOFError:
                self.readers.remove(reader)
                self._bury(reader)
        self._ask()

    def _bury(self, reader: _Reader) -> None:
        """Take back what a dead process had been given, and give up the file that it died of, or everything."""
        status = reader.wait()
        path, how = reader.slot.read(), _how_it_ended(status)
        known = "" if path is None else watch.why_it_ended(path, status)
        reader.end()
        self.waiting.extendleft(reversed(reader.given))
        if not reader.given:
            return
        blamed = reader.given[0] if path is None else path
        self.deaths[blamed] += 1
        if path is not None and (known or self.deaths[path] >= _DEATHS_OF_A_FILE):
            reason = known or f"{path}: crashes FFmpeg, or what reads it was ended ({how})"
            self.given_up = {**self.given_up, path: f"{reason}."}
        elif self.deaths[blamed] >= _DEATHS_WITHOUT_A_FILE:
            raise RunError(
                f"Processes that read videos ended {self.deaths[blamed]} times at the same place, none of them in a "
                f"file ({how}). Lower data.workers if memory is short; with 0, nothing is read in other processes."
            )

    def end(self) -> None:
        """End the processes; those that are idle leave, the others are told to, and then ended."""
        if os.getpid() != self.owner:  # a process that reads collects what it has inherited
            return
        readers, self.readers = self.readers, []  # at the exit, a thread may end its own at the same time
        for reader in readers:
            with contextlib.suppress(OSError):
                reader.process.terminate() if reader.given else reader.pipe.send(None)
        limit = time.monotonic() + _SECONDS_TO_LEAVE
        for reader in readers:
            reader.process.join(max(0.0, limit - time.monotonic()))
            reader.process.kill()
            reader.end()


def _how_it_ended(status: int | None) -> str:
    if status is not None and status > _UNWOUND:
        status = _UNWOUND - status
    if status is None or status >= 0:
        return f"exit status {status}"
    name = signal.Signals(-status).name if -status in list(signal.Signals) else f"signal {-status}"
    return f"{name}, as where memory runs out" if status == -signal.SIGKILL else name


def _serve(
    pipe: Connection, slot: watch.Slot, read: Callable[[Any], Any], begin: Callable[[], object]
) -> None:  # pragma: no cover (in other processes)
    """Read what is asked for until there is no more.

    An interruption by the terminal goes to all processes: the main one decides what happens to this one. SIGTERM, with
    which it does so, unwinds, so that nothing half written stays.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, _leave)
    end_with_parent()
    watch.watch_this_process(slot)
    begin()
    with contextlib.suppress(EOFError, ConnectionError):  # the main process has ended
        while (task := pipe.recv()) is not None:
            number, key, given_up = task
            watch.give_up(given_up)
            pipe.send((number, _tried(read, key)))


def _leave(number: int, frame: FrameType | None) -> None:
    watch.keep_slot()
    sys.exit(_UNWOUND + number)


def _tried(read: Callable[[Any], Any], key: Any) -> Any:
    try:
        return read(key)
    except LofiError as error:
        return _Raised(error, "")
    except Exception:
        return _Raised(None, traceback.format_exc())
