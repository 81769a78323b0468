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
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from lofi_tal.errors import DataError, LofiError
from lofi_tal.files import inside, read_json, write_json

Item = TypeVar("Item")

PATIENCE = 120.0
"""Seconds without a sign of life after which a lease is taken over: longer than network file systems remember times."""
_SIGNS = 4  # of life, in the time that others are patient
_POLLS = 2.0  # seconds between two looks at what others are doing


class Leases:
    """What a process holds of the work in a common folder.

    Used as a context: at its end, leases that are still held are given up.

    Args:
        folder: Where leases and failures are kept; made if need be, and removed when empty.
        patience: Seconds after which another holder that shows no sign of life is taken for dead.

    Raises:
        LofiError: If the patience is not positive or the folder cannot be written.
    """

    def __init__(self, folder: Path, patience: float = PATIENCE) -> None:
        if not patience > 0:
            raise LofiError(f"patience={patience:g} seconds: it must be above 0.")
        self.folder, self.patience = folder, patience
        self.held: dict[str, Path] = {}
        self._seen: dict[Path, tuple[int, float]] = {}  # when another's lease changed, and since when we have known
        self._ended = threading.Event()
        self._signs = threading.Thread(target=self._show_signs, name="leases", daemon=True)

    def __enter__(self) -> Leases:
        began = inside(self.folder, f"{_machine()}-{os.getpid()}", ".began")
        write_json(began, self._holder())
        self.began = began.stat().st_mtime_ns  # by the clock of the file system
        began.unlink()
        self._signs.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._signs.join()
        for key in list(self.held):
            self.release(key)
        with contextlib.suppress(OSError):  # others are at work in it
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
        for some ahead. It must exhaust a round before the next one.

        Args:
            items: In the order in which they are tried.
            key: Name of an item, the same for all processes.
            done: Whether its result is there; looked at before and after it is leased.
            waiting: Called with their number when all that is left is at work elsewhere.
        """
        left = list(items)
        while left := [item for item in left if not (self.failure(key(item)) or done(item))]:
            taken = 0

            def free(left: list[Item] = left) -> Iterator[Item]:
                nonlocal taken
                for item in left:
                    if key(item) in self.held or not self._take(key(item)):
                        continue
                    if self.failure(key(item)) or done(item):  # by another process, since we looked
                        self.release(key(item))
                        continue
                    taken += 1
                    yield item

            yield free()
            if not taken:
                waiting(len(left))
                time.sleep(min(_POLLS, self.patience / _SIGNS))

    def release(self, key: str) -> None:
        """Give up a lease: its item is done, or is left to others."""
        lease = self.held.pop(key, None)
        if lease is None:
            return
        generation = int(lease.suffix[1:])
        for earlier in self._generations(key):
            if earlier <= generation:
                self._lease(key, earlier).unlink(missing_ok=True)

    def fail(self, key: str, reason: str) -> None:
        """Note why an item cannot be done, for all processes, and give up its lease."""
        write_json(self._failure(key), {"reason": reason})
        self.release(key)

    def failure(self, key: str) -> str:
        """Return why an item cannot be done, as found since this process began; what failed before is tried again."""
        path = self._failure(key)
        try:
            return str(read_json(path)["reason"]) if path.stat().st_mtime_ns >= self.began else ""
        except (OSError, DataError, KeyError, TypeError):
            return ""

    def _failure(self, key: str) -> Path:
        return inside(self.folder, key, ".failed")

    def _lease(self, key: str, generation: int) -> Path:
        return inside(self.folder, key, f".{generation}")

    def _generations(self, key: str) -> list[int]:
        stem = self._lease(key, 0).stem
        with contextlib.suppress(FileNotFoundError):
            names = [Path(name) for name in os.listdir(self.folder)]  # noqa: PTH208 (names alone are asked for)
            return sorted(int(name.suffix[1:]) for name in names if name.stem == stem and name.suffix[1:].isdigit())
        return []

    def _take(self, key: str) -> bool:
        """Lease an item, unless another process holds it and lives."""
        newest = max(self._generations(key), default=-1)
        if newest >= 0 and not self._is_stale(self._lease(key, newest)):
            return False
        lease = self._lease(key, newest + 1)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(lease, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)  # of several processes, one can
        except FileExistsError:
            return False
        with os.fdopen(handle, "w") as file:
            json.dump(self._holder(), file)
        self.held[key] = lease
        return True

    def _is_stale(self, lease: Path) -> bool:
        try:
            with lease.open() as file:  # opening asks the server, where a network file system would remember
                changed = os.fstat(file.fileno()).st_mtime_ns
                text = file.read()
        except FileNotFoundError:
            return False  # its item is done, or will be free at the next look
        if _is_gone(text):
            return True
        now = time.monotonic()
        before, since = self._seen.setdefault(lease, (changed, now))
        if before != changed:
            self._seen[lease] = (changed, now)
            return False
        return now - since >= self.patience

    def _show_signs(self) -> None:
        while not self._ended.wait(self.patience / _SIGNS):
            for lease in list(self.held.values()):
                with contextlib.suppress(OSError):  # taken over and done, or the file system does not answer
                    os.utime(lease)

    @staticmethod
    def _holder() -> dict[str, str | int]:
        return {"machine": _machine(), "host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid())}


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


def _machine() -> str:
    """Return what tells this machine, and the space in which its process ids mean something."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        parts = [boot, Path("/proc/self/ns/pid").readlink().name]
    return "-".join(part.translate({ord(letter): "_" for letter in "[]:/"}) for part in parts)


def _born(pid: int) -> str:
    """Return when a process began, in the kernel's units: a number that is used again is another process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_gone(text: str) -> bool:
    """Say whether the holder of a lease was a process of this machine that has ended."""
    try:
        holder = json.loads(text)
        if holder["machine"] != _machine():
            return False
        pid, born = int(holder["pid"]), str(holder["born"])
    except (ValueError, KeyError, TypeError):  # its holder died, or has just created it
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return _born(pid) != born
