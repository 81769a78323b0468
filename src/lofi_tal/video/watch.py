"""Files that hang: what gives nothing for :data:`SILENCE_SECONDS` is given up.

FFmpeg looks at the clock between two reads, and so gives up by itself in most loops and on storage that hardly answers.
One call that never comes back (a read from a dead file server, an endless loop of a decoder) ends only with its
process. So files are read in processes that are there for nothing else, and watched: see :func:`watch_this_process`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

SILENCE_SECONDS = 300.0
"""A healthy file answers at once, and one on a slow disk within seconds."""

_LOOKS = 100  # at a file within that time: a process that was stopped for a while has not looked meanwhile

_PARENT_SECONDS = 1.0  # between two looks at whether the parent lives

_MEMORY_SECONDS = 0.2  # between two looks at how large this process is

_reading: Path | None = None
_signs = 0
_hanging: frozenset[Path] = frozenset()


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say that this process reads a file."""
    global _reading
    before, _reading = _reading, path
    note_sign_of_life()
    try:
        yield
    finally:
        _reading = before
        note_sign_of_life()


def note_sign_of_life() -> None:
    """Say that something has come from the file that is being read."""
    global _signs
    _signs += 1


def watch_this_process(
    tell: Callable[[Path], None] = lambda path: None, hanging: Collection[Path] = frozenset()
) -> None:
    """End this process, from now on, as soon as a file that it reads hangs.

    It ends with status 0: of a loader process, any other would raise an error wherever the main process happens to be.

    Args:
        tell: Called with the file before.
        hanging: Files that are known to hang, and are not tried.
    """
    global _hanging
    _hanging = frozenset(hanging)

    def watch() -> None:
        looks, known = 0, -1
        while True:
            time.sleep(SILENCE_SECONDS / _LOOKS)
            path, signs = _reading, _signs
            looks, known = (looks + 1 if path is not None and signs == known else 0), signs
            if path is not None and looks == _LOOKS:
                tell(path)
                os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def end_with_parent() -> None:
    """End this process when its parent has: a parent that is killed tells nobody, and its locks would be held on."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_SECONDS)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def limit_memory(most: int) -> None:
    """End this process, from now on, as soon as one file makes it grow by more than ``most`` bytes.

    A decoder may keep many frames of any size that a file claims. The largest size of the process so far counts.
    """

    def watch() -> None:
        path, before = None, 0
        while True:
            size = _largest_size()
            if _reading is None or _reading != path:
                path, before = _reading, size
            elif size - before > most:
                os._exit(0)
            time.sleep(_MEMORY_SECONDS)

    threading.Thread(target=watch, daemon=True).start()


def _largest_size() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def is_known_to_hang(path: Path) -> bool:
    """Say whether a file need not be tried in this process."""
    return path in _hanging


def silence(path: Path) -> str:
    """Return what to say of a file that hangs."""
    return f"{path}: hangs (it gave nothing for {SILENCE_SECONDS:g} s)"
