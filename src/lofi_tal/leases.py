"""Work that processes share through a common folder: they never talk to each other, and may come, go and die.

Before a process begins an item it creates a lease, a small file that only one process can create, and touches it while
the item is being worked on. A lease that nobody touches any more is taken over by creating the next generation of it.
So an item is lost to no death; at worst, after a pause longer than the patience of the others, it is done twice, which
results that are written in one step and are the same whoever makes them stand.

Clocks are not compared between machines: a lease is stale if an observer has seen it unchanged for so long by its own
clock, or if its holder was a process of the observer's machine and is gone. What an item left behind, or why it failed,
is for the caller to write and to look for; reasons of failures can be left here.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar

from lofi_tal.errors import DataError, LofiError, one_line
from lofi_tal.files import read_json, write_json
from lofi_tal.lease_files import LeaseFiles, status_of
from lofi_tal.processes import this_process

Item = TypeVar("Item")

PATIENCE = 120.0
"""Seconds without a sign of life after which a lease is taken over: longer than network file systems remember times."""
_SIGNS = 4  # of life, in the time that others are patient
_LONGEST = 15.0  # seconds between two signs, whatever the patience
_POLLS = 2.0  # seconds between two looks at what others are doing
_HOLDERS = 5  # lost in the middle of one item, after which it is the item that is to blame


class Work(Protocol):
    """Items that somebody has to do, each of them once: what :class:`Leases` and :class:`Alone` offer."""

    def rounds(
        self,
        items: Iterable[Item],
        *,
        key: Callable[[Item], str],
        done: Callable[[Item], bool],
        waiting: Callable[[int], None] = ...,
    ) -> Iterator[Iterator[Item]]:
        """Yield, until all items are done or have failed, those that are free now.

        The caller ends each item with :meth:`release` or :meth:`fail`, and may ask for some ahead. It must exhaust a
        round before the next one. What it has ended is not offered to it again.

        Args:
            items: In the order in which they are tried.
            key: Name of an item, the same for all processes.
            done: Whether its result is there.
            waiting: Called with their number when all that is left is at work elsewhere.
        """

    def release(self, key: str) -> None:
        """Give up an item: it is done, or is left to others."""

    def fail(self, key: str, reason: str) -> None:
        """Note why an item cannot be done, and give it up."""

    def failure(self, key: str) -> str:
        """Return why an item cannot be done; empty if nothing says so."""


class Leases(Work):
    """What a process holds of the work in a common folder.

    Used as a context: at its end, leases that are still held are given up.

    Args:
        folder: Where leases and failures are kept; made if need be, and removed when empty.
        patience: Seconds after which another holder that shows no sign of life is taken for dead; the longer one of it
            and the holder's own counts.
        results: Folder in which results appear, if they are files. It is looked at anew when an item has been taken: a
            network file system remembers for a while that a file is not there.
        holders: Processes that may be lost in the middle of one item, after which it is the item that is to blame; any
            number with None.

    Raises:
        LofiError: If the patience is not positive or the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        patience: float = PATIENCE,
        *,
        results: Path | None = None,
        holders: int | None = _HOLDERS,
    ) -> None:
        if not patience > 0:
            raise LofiError(f"patience={patience:g} seconds: it must be above 0.")
        self.files, self.patience, self.results = LeaseFiles(folder, patience), patience, results
        self.holders = holders
        self.held: dict[str, tuple[Path, int]] = {}  # lease and its inode
        self.finished: set[str] = set()  # released or failed by this process
        self._ended = threading.Event()
        self._signs = threading.Thread(target=self._show_signs, name="leases", daemon=True)

    def __enter__(self) -> Leases:
        self.began = self.files.clock()
        self._signs.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._signs.join()
        for key in list(self.held):
            with contextlib.suppress(OSError):
                self._give_up(key)
        self.files.remove_folder()

    def rounds(
        self,
        items: Iterable[Item],
        *,
        key: Callable[[Item], str],
        done: Callable[[Item], bool],
        waiting: Callable[[int], None] = lambda left: None,
    ) -> Iterator[Iterator[Item]]:
        """Yield, until all items are done or have failed, those that are free now.

        An item is leased when it is asked for; ``done`` is looked at before and after that. See :meth:`Work.rounds`.
        """
        left = {key(item): item for item in items}

        def settled(name: str) -> bool:
            return bool(self.failure(name)) or done(left[name])

        def free() -> Iterator[Item]:
            for name in list(left):
                if name in self.finished:
                    del left[name]
                elif name in self.held or self.files.is_at_work(name):
                    continue
                elif settled(name):
                    del left[name]
                elif self.take(name):
                    self._look_anew()
                    if not settled(name):
                        yield left[name]
                        continue
                    self.release(name)  # another process has done it since we looked
                    del left[name]

        while left:
            items_now = free()
            first = list(itertools.islice(items_now, 1))  # a round without an item would begin loader processes in vain
            if first:
                yield itertools.chain(first, items_now)
            elif left:
                waiting(len(left))
                time.sleep(min(_POLLS, self.patience / _SIGNS))

    def release(self, key: str) -> None:
        """Give up a lease: its item is done, or is left to others; an earlier failure of it counts no more."""
        with contextlib.suppress(OSError):
            self.files.failure(key).unlink(missing_ok=True)
        self._give_up(key)

    def _give_up(self, key: str) -> None:
        self.finished.add(key)
        lease, inode = self.held.pop(key, (None, 0))
        if lease is None:
            return
        generation = int(lease.suffix[1:])
        for earlier in self.files.generations(key):
            path = self.files.lease(key, earlier)
            if earlier < generation or (earlier == generation and status_of(path)[0] == inode):
                path.unlink(missing_ok=True)

    def fail(self, key: str, reason: str) -> None:
        """Note why an item cannot be done, for all processes, and give up its lease."""
        write_json(self.files.failure(key), {"reason": one_line(reason)})
        self._give_up(key)

    def failure(self, key: str) -> str:
        """Return why an item cannot be done, as found since this process began; what failed before is tried again."""
        path = self.files.failure(key)
        try:
            return str(read_json(path)["reason"]) if path.stat().st_mtime_ns >= self.began else ""
        except (OSError, DataError, KeyError, TypeError):
            return ""

    def take(self, key: str) -> bool:
        """Lease an item, unless another process holds it and lives; say whether it is ours."""
        newest = self.files.newest(key)
        stale = self.files.lease(key, newest)
        before, _ = status_of(stale)
        if newest >= 0 and not self.files.is_stale(stale):
            return False
        if self.holders is not None and newest + 1 >= self.holders:
            self.fail(key, f"{newest + 1} processes ended in the middle of it; the next start tries it again.")
            for generation in self.files.generations(key):
                self.files.lease(key, generation).unlink(missing_ok=True)
            return False
        lease = self.files.lease(key, newest + 1)
        if not self.files.create(lease, {**this_process(), "patience": self.patience}):
            return False
        if status_of(stale)[0] != before:  # it was taken over, done and begun again while we looked
            lease.unlink(missing_ok=True)
            return False
        self.held[key] = (lease, status_of(lease)[0])
        return True

    def _look_anew(self) -> None:
        """Let a network file system ask its server which results there are."""
        if self.results is not None:
            with contextlib.suppress(OSError):
                os.close(os.open(self.results, os.O_RDONLY | os.O_DIRECTORY))

    def _show_signs(self) -> None:
        while not self._ended.wait(min(self.patience / _SIGNS, _LONGEST)):
            for lease, _ in list(self.held.values()):
                with contextlib.suppress(OSError):  # taken over and done, or the file system does not answer
                    os.utime(lease)


class Alone(Work):
    """All the work, for a process that shares it with no other."""

    def __init__(self) -> None:
        self.failures: dict[str, str] = {}

    def rounds(
        self,
        items: Iterable[Item],
        *,
        key: Callable[[Item], str],
        done: Callable[[Item], bool],
        waiting: Callable[[int], None] = lambda left: None,
    ) -> Iterator[Iterator[Item]]:
        """Yield all items that are not done, in one round."""
        yield (item for item in items if not done(item))

    def release(self, key: str) -> None:
        """Do nothing."""

    def fail(self, key: str, reason: str) -> None:
        """Note why an item cannot be done."""
        self.failures[key] = reason

    def failure(self, key: str) -> str:
        """Return why an item cannot be done."""
        return self.failures.get(key, "")
