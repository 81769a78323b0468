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
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from lofi_tal.errors import DataError, LofiError, one_line
from lofi_tal.files import inside, read_json, write_json

Item = TypeVar("Item")

PATIENCE = 120.0
"""Seconds without a sign of life after which a lease is taken over: longer than network file systems remember times."""
_SIGNS = 4  # of life, in the time that others are patient
_LONGEST = 15.0  # seconds between two signs, whatever the patience
_POLLS = 2.0  # seconds between two looks at what others are doing
_HOLDERS = 5  # lost in the middle of one item, after which it is the item that is to blame
_TRIES = 20  # at a folder that another process removes while it is used


class Leases:
    """What a process holds of the work in a common folder.

    Used as a context: at its end, leases that are still held are given up.

    Args:
        folder: Where leases and failures are kept; made if need be, and removed when empty.
        patience: Seconds after which another holder that shows no sign of life is taken for dead; the longer one of it
            and the holder's own counts.
        results: Folder in which results appear, if they are files. It is looked at anew when an item has been taken: a
            network file system remembers for a while that a file is not there.

    Raises:
        LofiError: If the patience is not positive or the folder cannot be written.
    """

    def __init__(self, folder: Path, patience: float = PATIENCE, *, results: Path | None = None) -> None:
        if not patience > 0:
            raise LofiError(f"patience={patience:g} seconds: it must be above 0.")
        self.folder, self.patience, self.results = folder, patience, results
        self.held: dict[str, tuple[Path, int]] = {}  # lease and its inode
        self.finished: set[str] = set()  # released or failed by this process
        self._seen: dict[Path, tuple[int, float]] = {}  # when another's lease changed, and since when we have known
        self._ended = threading.Event()
        self._signs = threading.Thread(target=self._show_signs, name="leases", daemon=True)

    def __enter__(self) -> Leases:
        began = inside(self.folder, f"{_machine()}-{os.getpid()}", ".began")
        with os.fdopen(self._create(began, os.O_CREAT | os.O_WRONLY), "w") as file:
            file.write(" ")
            file.flush()
            self.began = os.fstat(file.fileno()).st_mtime_ns  # by the clock of the file system
        began.unlink(missing_ok=True)
        self._signs.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._signs.join()
        for key in list(self.held):
            with contextlib.suppress(OSError):
                self.release(key)
        with contextlib.suppress(OSError):  # others are at work in it, or have removed it
            self.folder.rmdir()

    def rounds(
        self,
        items: Iterable[Item],
        *,
        key: Callable[[Item], str],
        done: Callable[[Item], bool],
        waiting: Callable[[int], None] = lambda left: None,
    ) -> Iterator[Iterator[Item]]:
        """Yield, until all items are done or have failed, those that are free now.

        An item is leased when it is asked for; the caller ends each with :meth:`release` or :meth:`fail`, and may ask
        for some ahead. It must exhaust a round before the next one. What it has ended is not offered to it again.

        Args:
            items: In the order in which they are tried.
            key: Name of an item, the same for all processes.
            done: Whether its result is there; looked at before and after it is leased.
            waiting: Called with their number when all that is left is at work elsewhere.
        """
        left = {key(item): item for item in items}

        def settled(name: str) -> bool:
            return bool(self.failure(name)) or done(left[name])

        def free() -> Iterator[Item]:
            for name in list(left):
                if name in self.finished:
                    del left[name]
                elif name in self.held or self._is_at_work(name):
                    continue
                elif settled(name):
                    del left[name]
                elif self._take(name):
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
        """Give up a lease: its item is done, or is left to others."""
        self.finished.add(key)
        lease, inode = self.held.pop(key, (None, 0))
        if lease is None:
            return
        generation = int(lease.suffix[1:])
        for earlier in self._generations(key):
            path = self._lease(key, earlier)
            if earlier < generation or (earlier == generation and _status(path)[0] == inode):
                path.unlink(missing_ok=True)

    def fail(self, key: str, reason: str) -> None:
        """Note why an item cannot be done, for all processes, and give up its lease."""
        write_json(self._failure(key), {"reason": one_line(reason)})
        self.release(key)

    def failure(self, key: str) -> str:
        """Return why an item cannot be done, as found since this process began; what failed before is tried again."""
        path = self._failure(key)
        try:
            return str(read_json(path)["reason"]) if path.stat().st_mtime_ns >= self.began else ""
        except (OSError, DataError, KeyError, TypeError):
            return ""

    def _failure(self, key: str) -> Path:
        return inside(self.folder / "failed", key, ".json")

    def _lease(self, key: str, generation: int) -> Path:
        return inside(self.folder, key, f".{generation}")

    def _generations(self, key: str) -> list[int]:
        stem = f"{self._lease(key, 0).stem}."
        try:
            names = os.listdir(self.folder)  # noqa: PTH208 (names alone, of a folder that may be long)
        except OSError:
            return []
        return sorted(int(name[len(stem) :]) for name in names if name.startswith(stem) and name[len(stem) :].isdigit())

    def _is_at_work(self, key: str) -> bool:
        """Say whether a living process holds an item."""
        newest = max(self._generations(key), default=-1)
        return newest >= 0 and not self._is_stale(self._lease(key, newest))

    def _take(self, key: str) -> bool:
        """Lease an item, unless another process holds it and lives."""
        newest = max(self._generations(key), default=-1)
        stale = self._lease(key, newest)
        before, _ = _status(stale)
        if newest >= 0 and not self._is_stale(stale):
            return False
        if newest + 1 >= _HOLDERS:
            self.fail(key, f"{newest + 1} processes ended in the middle of it; the next start tries it again.")
            for generation in self._generations(key):
                self._lease(key, generation).unlink(missing_ok=True)
            return False
        lease = self._lease(key, newest + 1)
        try:
            handle = self._create(lease, os.O_CREAT | os.O_EXCL | os.O_WRONLY)  # of several processes, one can
        except FileExistsError:
            return False
        with os.fdopen(handle, "w") as file:
            json.dump({**_this_process(), "patience": self.patience}, file)
        if _status(stale)[0] != before:  # it was taken over, done and begun again while we looked
            lease.unlink(missing_ok=True)
            return False
        self.held[key] = (lease, _status(lease)[0])
        return True

    def _create(self, path: Path, flags: int) -> int:
        """Open a file in the folder, which others may be removing because it is empty."""
        for _ in range(_TRIES):
            with contextlib.suppress(FileNotFoundError):
                with contextlib.suppress(FileExistsError):
                    self.folder.mkdir(parents=True, exist_ok=True)
                return os.open(path, flags, 0o644)
        raise LofiError(f"{self.folder} cannot be used: it vanishes whenever it is made.")

    def _look_anew(self) -> None:
        """Let a network file system ask its server which results there are."""
        if self.results is not None:
            with contextlib.suppress(OSError):
                os.close(os.open(self.results, os.O_RDONLY | os.O_DIRECTORY))

    def _is_stale(self, lease: Path) -> bool:
        try:
            with lease.open("rb") as file:  # opening asks the server, where a network file system would remember
                changed = os.fstat(file.fileno()).st_mtime_ns
                holder = _read_holder(file.read())
        except PermissionError:
            changed, holder = _status(lease)[1], {}
        except OSError:  # its item is done, or will be free at the next look
            return False
        if _is_gone(holder):
            return True
        now = time.monotonic()
        before, since = self._seen.setdefault(lease, (changed, now))
        if before != changed:
            self._seen[lease] = (changed, now)
            return False
        return now - since >= max(self.patience, float(holder.get("patience", 0.0)))

    def _show_signs(self) -> None:
        while not self._ended.wait(min(self.patience / _SIGNS, _LONGEST)):
            for lease, _ in list(self.held.values()):
                with contextlib.suppress(OSError):  # taken over and done, or the file system does not answer
                    os.utime(lease)


class Alone:
    """The same for a process that shares its items with no other."""

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


def _this_process() -> dict[str, str | int]:
    pid = os.getpid()
    return {"machine": _machine(), "host": socket.gethostname(), "pid": pid, "born": _born(pid)}


def _machine() -> str:
    """Return what tells this machine, and the space in which its process ids mean something."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(Path("/proc/self/ns/pid").readlink().name)
    return "-".join(part.translate({ord(letter): "_" for letter in "[]:/"}) for part in parts)


def _born(pid: int) -> str:
    """Return when a process began, in the kernel's units: a number that is used again is another process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _status(path: Path) -> tuple[int, int]:
    """Return the inode of a file and when it changed; zeros without one."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns


def _read_holder(content: bytes) -> dict[str, Any]:
    """Return who holds a lease; nothing if it died, or has just created it, before it said so."""
    try:
        holder = json.loads(content)
        return {**holder, "pid": int(holder["pid"]), "patience": float(holder.get("patience", 0.0))}
    except (ValueError, KeyError, TypeError):
        return {}


def _is_gone(holder: dict[str, Any]) -> bool:
    """Say whether the holder of a lease was a process of this machine that has ended."""
    if holder.get("machine") != _machine():
        return False
    pid = holder["pid"]
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
    born = _born(pid)  # unknown where processes of other users are hidden
    return bool(born) and born != holder.get("born")
