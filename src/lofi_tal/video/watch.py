"""Files that hang: what gives nothing for :data:`SILENCE_SECONDS` is given up.

FFmpeg looks at the clock between two reads, and so gives up by itself in most loops and on storage that hardly answers.
One call that never comes back (a read from a dead file server, an endless loop of a decoder) ends only with its
process. So files are read in processes that are there for nothing else, and watched: see :func:`watch_this_process`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SILENCE_SECONDS = 300.0
"""A healthy file answers at once, and one on a slow disk within seconds."""

_reading: Path | None = None
_heard = 0.0


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
    global _heard
    _heard = time.monotonic()


def watch_this_process(tell: Callable[[Path], None] = lambda path: None) -> None:
    """End this process, from now on, as soon as a file that it reads hangs.

    It ends with status 0: of a loader process, any other would raise an error wherever the main process happens to be.

    Args:
        tell: Called with the file before.
    """

    def watch() -> None:
        while True:
            time.sleep(SILENCE_SECONDS / 100)
            path = _reading
            if path is not None and time.monotonic() - _heard > SILENCE_SECONDS:
                tell(path)
                os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def silence(path: Path) -> str:
    """Return what to say of a file that hangs."""
    return f"{path}: hangs (it gave nothing for {SILENCE_SECONDS:g} s)"
