"""Folders that one process holds: a lock that ends with it, says whose it is, and works where files cannot be locked.

The lock is the kernel's (``flock``), which knows when its holder ends, on network file systems too. It is the holder's
alone: processes that the holder makes do not inherit it. Where a file system has no such locks, a lease takes its
place, with signs of life that others look for; see :mod:`lofi_tal.leases`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lofi_tal.errors import LofiError
from lofi_tal.files import hash_object
from lofi_tal.lease_files import read_holder, status_of
from lofi_tal.leases import PATIENCE, Leases
from lofi_tal.processes import is_gone, is_here, this_process

logger = logging.getLogger("lofi_tal")
_NO_LOCKS = frozenset((errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS))
_ALONE, _TOGETHER = "alone", "together-"  # names of leases in the place of a lock
_NAMED = 3  # holders, in a refusal
_LONGEST = 65536  # bytes that are read of a lock file

_held: set[int] = set()


def _close_in_child() -> None:
    """Let a process that this one makes hold none of its locks: alive, it would keep them after this one's death."""
    for handle in _held:
        with contextlib.suppress(OSError):
            os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


@contextlib.contextmanager
def locked(
    path: Path, refusal: str, *, wait: bool = False, shared: bool = False, patience: float = PATIENCE
) -> Iterator[None]:
    """Hold a lock file, so that a second process stays out or waits; its folder is made.

    Args:
        path: The lock file, which stays.
        refusal: What to say if another process holds it; which one does is added.
        wait: Wait for it instead.
        shared: Hold it together with others that do so, and keep out those that do not.
        patience: Where files cannot be locked: seconds without a sign of life after which a holder on another machine
            is taken for dead.

    Raises:
        LofiError: If another process holds it and is not waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    _held.add(handle)
    try:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise LofiError(f"{refusal}{_named(_holders(handle))}") from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise LofiError(
                    f"{path} cannot be locked: {error.strerror}. Choose a folder on another file system."
                ) from error
            with _leased(path, refusal, error.strerror or str(error), wait=wait, shared=shared, patience=patience):
                yield
            return
        _sign(handle, alone=not shared)
        yield
        _clear(handle)
    finally:
        _held.discard(handle)
        os.close(handle)


def _sign(handle: int, *, alone: bool) -> None:
    """Write whose the lock is; what dead holders have left goes."""
    with contextlib.suppress(OSError):  # a full disk: the lock is held all the same
        if alone:
            os.ftruncate(handle, 0)
        os.write(handle, f"{json.dumps(this_process())}\n".encode())


def _clear(handle: int) -> None:
    """Leave an empty file, unless others hold it too."""
    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)


def _holders(handle: int) -> list[dict[str, Any]]:
    """Return who has signed and, as far as this machine can tell, lives."""
    lines = os.pread(handle, _LONGEST, 0).splitlines()
    return [holder for line in lines if (holder := read_holder(line)) and not is_gone(holder)]


def _named(holders: Sequence[dict[str, Any]]) -> str:
    if not holders:  # it has just taken the lock, or is of an earlier version
        return ""
    named = ", ".join(f"process {holder['pid']} on {holder.get('host', 'a host')}" for holder in holders[:_NAMED])
    more = f" and {len(holders) - _NAMED} more" if len(holders) > _NAMED else ""
    return f" It is held by {named}{more}."


@contextlib.contextmanager
def _leased(path: Path, refusal: str, why: str, *, wait: bool, shared: bool, patience: float) -> Iterator[None]:
    """Hold a lease in the place of a lock."""
    logger.warning(
        "%s: files cannot be locked here (%s). A lease holds the folder instead: after a process on another machine "
        "was killed, it is free again in %g s.",
        *(path.parent, why, patience),
    )
    with Leases(path.with_name(f"{path.name}.leases"), patience, holders=None) as leases:
        before: dict[Path, int] = {}
        while (other := _take(leases, shared)) is not None:
            holder, changed = _holder_of(other), status_of(other)[1]
            lives = is_here(holder) or (changed and before.get(other, changed) != changed)
            if lives and not wait:
                raise LofiError(f"{refusal}{_named([holder] if holder else [])}")
            if not before:
                logger.info("Looking for signs of life of another process.%s", _named([holder] if holder else []))
            before.setdefault(other, changed)
            time.sleep(min(1.0, patience / 8))
        yield


def _holder_of(lease: Path) -> dict[str, Any]:
    try:
        return read_holder(lease.read_bytes())
    except OSError:  # it has just ended
        return {}


def _take(leases: Leases, shared: bool) -> Path | None:
    """Take a lease and return None, or return that of another process which is in the way.

    Each process creates its own lease before it looks for others: of two that come together, at most one goes on.
    """
    mine = f"{_TOGETHER}{hash_object([this_process(), time.monotonic_ns()])}" if shared else _ALONE
    if not leases.take(mine):
        return leases.files.lease(mine, leases.files.newest(mine))
    others = {_ALONE} if shared else {key for key in leases.files.items() if key.startswith(_TOGETHER)}
    for other in others:
        if leases.files.is_at_work(other):
            leases.release(mine)
            return leases.files.lease(other, leases.files.newest(other))
    return None
