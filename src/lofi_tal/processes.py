"""Which process this is, whether another one lives, and children that end with their parent."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import multiprocessing
import os
import socket
import threading
from collections.abc import Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

_ENDED = ("Z", "X")  # states of a process that has ended, and of which nobody has taken note


def this_process() -> dict[str, str | int]:
    """Return what tells this process from all others: machine, host, process id, and when the process began."""
    pid = os.getpid()
    return {"machine": machine(), "host": socket.gethostname(), "pid": pid, "born": born(pid)}


@functools.cache
def machine() -> str:
    """Return what tells this machine, and the space in which its process ids mean something."""
    names = [socket.gethostname()]
    with contextlib.suppress(OSError):
        names.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        names.append(Path("/proc/self/ns/pid").readlink().name)
    return "-".join(name.translate({ord(letter): "_" for letter in "[]:/"}) for name in names)


def born(pid: int) -> str:
    """Return when a process began, in the kernel's units: a number that is used again is another process."""
    return _status(pid)[1]


def _status(pid: int) -> tuple[str, str]:
    """Return the state of a process and when it began; empty texts where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return "", ""


def is_here(holder: Mapping[str, Any]) -> bool:
    """Say whether what :func:`this_process` returned is of this machine, where nobody need guess whether it lives."""
    return bool(holder.get("machine") == machine())


def is_gone(holder: Mapping[str, Any]) -> bool:
    """Say whether what :func:`this_process` returned is of a process of this machine that has ended."""
    return is_here(holder) and _has_ended(holder["pid"], holder.get("born", ""))


def _has_ended(pid: int, since: str) -> bool:
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
    state, now = _status(pid)  # unknown where processes of other users are hidden
    return state in _ENDED or (bool(now) and now != since)


def tag() -> str:
    """Return a short form of :func:`this_process`, for names of files."""
    pid = os.getpid()
    return f"{_machine_tag()}-{pid}-{born(pid) or 0}"


def is_tag_of_ended(text: str) -> bool | None:
    """Say whether the process of a :func:`tag` has ended; None if it is of another machine, or no tag."""
    kept, _, rest = text.partition("-")
    pid, _, since = rest.partition("-")
    if kept != _machine_tag() or not pid.isdigit():
        return None
    return _has_ended(int(pid), since)


@functools.cache
def _machine_tag() -> str:
    return hashlib.sha256(machine().encode()).hexdigest()[:8]


def end_with_parent(pid: int | None = None) -> None:
    """End this process as soon as its parent has: a parent that is killed tells nobody.

    Linux tells it at once. Elsewhere a pipe of :mod:`multiprocessing` does, which later children hold as well: they
    end one after the other.

    Args:
        pid: Of the parent, where :mod:`multiprocessing` does not know it.
    """
    parent = multiprocessing.parent_process()
    pid = parent.pid if pid is None and parent is not None else pid
    assert pid is not None
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        os._exit(1)
    except (AttributeError, OSError):  # another system, or an old kernel
        if parent is None:
            return
        handle = parent.sentinel

    def watch() -> None:
        wait([handle])
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
