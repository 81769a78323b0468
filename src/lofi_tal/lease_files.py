"""The files behind :mod:`lofi_tal.leases`: which leases a common folder holds, and whether their holders live.

A lease is a file ``<key>.<generation>`` that names a process. Clocks are not compared between machines; see there.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lofi_tal.errors import LofiError
from lofi_tal.files import inside
from lofi_tal.processes import is_gone, machine, this_process

_TRIES = 20  # at a folder that another process removes while it is used


class LeaseFiles:
    """The files of a common folder: which leases there are, who holds them, and whether those processes live.

    Args:
        folder: Made when a file is created in it.
        patience: See :class:`lofi_tal.leases.Leases`.

    Attributes:
        seen: For each lease of another process, when it changed, and since when we have known.
    """

    def __init__(self, folder: Path, patience: float) -> None:
        self.folder, self.patience = folder, patience
        self.seen: dict[Path, tuple[int, float]] = {}

    def failure(self, key: str) -> Path:
        """Return the file that says why an item cannot be done."""
        return inside(self.folder / "failed", key, ".json")

    def lease(self, key: str, generation: int) -> Path:
        """Return the file of a generation, from 0, of an item's lease."""
        return inside(self.folder, key, f".{generation}")

    def generations(self, key: str) -> list[int]:
        """Return the generations of an item's lease that are there, in order."""
        stem = f"{self.lease(key, 0).stem}."
        try:
            names = os.listdir(self.folder)  # noqa: PTH208 (names alone, of a folder that may be long)
        except OSError:
            return []
        return sorted(int(name[len(stem) :]) for name in names if name.startswith(stem) and name[len(stem) :].isdigit())

    def items(self) -> set[str]:
        """Return the names of the items of which there is a lease, as far as they are plain file names."""
        try:
            names = os.listdir(self.folder)  # noqa: PTH208 (names alone)
        except OSError:
            return set()
        return {key for key, _, generation in (name.rpartition(".") for name in names) if generation.isdigit()}

    def newest(self, key: str) -> int:
        """Return the newest generation of an item's lease, -1 without one."""
        return max(self.generations(key), default=-1)

    def is_at_work(self, key: str) -> bool:
        """Say whether a living process holds an item."""
        newest = self.newest(key)
        return newest >= 0 and not self.is_stale(self.lease(key, newest))

    def is_stale(self, lease: Path) -> bool:
        """Say whether the holder of a lease is gone, or has shown no sign of life for so long."""
        try:
            with lease.open("rb") as file:  # opening asks the server, where a network file system would remember
                changed = os.fstat(file.fileno()).st_mtime_ns
                holder = read_holder(file.read())
        except PermissionError:
            changed, holder = status_of(lease)[1], {}
        except OSError:  # its item is done, or will be free at the next look
            return False
        if is_gone(holder):
            return True
        now = time.monotonic()
        before, since = self.seen.setdefault(lease, (changed, now))
        if before != changed:
            self.seen[lease] = (changed, now)
            return False
        return now - since >= max(self.patience, float(holder.get("patience", 0.0)))

    def create(self, lease: Path, holder: Mapping[str, Any]) -> bool:
        """Create a lease that says who holds it; of several processes, one can.

        Raises:
            LofiError: If the folder cannot be used.
        """
        try:
            handle = self._open(lease, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        with os.fdopen(handle, "w") as file:
            json.dump(holder, file)
        return True

    def clock(self) -> int:
        """Return the time, in ns, by the clock of the folder's file system.

        Raises:
            LofiError: If the folder cannot be used.
        """
        probe = inside(self.folder, f"{machine()}-{os.getpid()}", ".began")
        with os.fdopen(self._open(probe, os.O_CREAT | os.O_WRONLY), "w") as file:
            json.dump(this_process(), file)  # so that what a killed process leaves is known for it
            file.flush()
            now = os.fstat(file.fileno()).st_mtime_ns
        probe.unlink(missing_ok=True)
        return now

    def remove_folder(self) -> None:
        """Remove the folder with what dead processes left in it, unless others are at work there, or have removed it.

        A process that is killed between writing its result and giving up the lease leaves the lease.
        """
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                if path.is_file() and is_gone(read_holder(path.read_bytes())):
                    path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # there is none, or something failed
                (self.folder / "failed").rmdir()
            self.folder.rmdir()

    def _open(self, path: Path, flags: int) -> int:
        """Open a file in the folder, which others may be removing because it is empty."""
        for _ in range(_TRIES):
            with contextlib.suppress(FileNotFoundError):
                with contextlib.suppress(FileExistsError):
                    self.folder.mkdir(parents=True, exist_ok=True)
                return os.open(path, flags, 0o644)
        raise LofiError(f"{self.folder} cannot be used: it vanishes whenever it is made.")


def status_of(path: Path) -> tuple[int, int]:
    """Return the inode of a file and when it changed; zeros without one."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns


def read_holder(content: bytes) -> dict[str, Any]:
    """Return who holds a lease or a lock; nothing if it died, or has just created it, before it said so."""
    try:
        holder = json.loads(content)
        return {**holder, "pid": int(holder["pid"]), "patience": float(holder.get("patience", 0.0))}
    except (ValueError, KeyError, TypeError):
        return {}
