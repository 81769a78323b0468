"""The file that a process reads: what gives nothing for :data:`SILENCE_SECONDS` is given up.

FFmpeg looks at the clock between two reads, and so gives up by itself in most loops and on storage that hardly answers.
One call that never comes back (a read from a dead file server, an endless loop of a decoder) ends only with its
process. So files are read in processes that are there for nothing else, and watched: see :mod:`lofi_tal.video.readers`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from lofi_tal.video.limits import MAX_MEMORY

SILENCE_SECONDS = 300.0
"""A healthy file answers at once, and one on a slow disk within seconds."""

HANGS = 75
"""Status of a process that ended because its file hangs."""
TOO_LARGE = 76
"""Status of a process that ended because its file takes too much memory."""

_LOOKS = 100  # at a file within that time: a process that was stopped for a while has not looked meanwhile
_LONGEST = 4096  # bytes of a path, on Linux


class Slot:
    """Memory in which a process says what it reads, for another one to look at when it has died."""

    def __init__(self) -> None:
        self._size = multiprocessing.RawValue("i", 0)
        self._text = multiprocessing.RawArray("c", _LONGEST)

    def write(self, path: Path | None) -> None:
        """Say what is read now."""
        self._size.value = 0  # so that a death between these lines leaves nothing, not half a path
        if path is not None and len(text := os.fsencode(path)) <= _LONGEST:
            self._text[: len(text)] = text
            self._size.value = len(text)

    def read(self) -> Path | None:
        """Return what was read last, None if nothing was."""
        text: bytes = self._text[: self._size.value]
        return Path(os.fsdecode(text)) if text else None


_STATUS = Path("/proc/self/statm")
_MEMORY_SECONDS = 0.2  # between two looks at how large this process is

_reading: Path | None = None
_size_before: int | None = None  # bytes that this process held when it began to read that file, if memory is limited
_signs = 0
_given_up: Mapping[Path, str] = {}
_slot: Slot | None = None


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say that this process reads a file."""
    before = _reading
    _read(path)
    try:
        yield
    finally:
        _read(before)


def _read(path: Path | None) -> None:
    global _reading, _size_before
    if _size_before is not None:
        _size_before = _resident_size()
    _reading = path
    note_sign_of_life()
    if _slot is not None:
        _slot.write(path)


def keep_slot() -> None:
    """Leave in the slot of this process what is read now: it ends, and unwinds before."""
    global _slot
    _slot = None


def note_sign_of_life() -> None:
    """Say that something has come from the file that is being read."""
    global _signs
    _signs += 1


def watch_this_process(slot: Slot | None = None) -> None:
    """End this process with status :data:`HANGS`, from now on, as soon as a file that it reads hangs.

    Args:
        slot: Is told which file is read.
    """
    global _slot
    _slot = slot

    def watch() -> None:
        looks, known = 0, -1
        while True:
            time.sleep(SILENCE_SECONDS / _LOOKS)
            path, signs = _reading, _signs
            looks, known = (looks + 1 if path is not None and signs == known else 0), signs
            if path is not None and looks == _LOOKS:
                os._exit(HANGS)

    threading.Thread(target=watch, daemon=True).start()


def give_up(files: Mapping[Path, str]) -> None:
    """Let this process try no more some files, each with the reason."""
    global _given_up
    _given_up = files


def given_up(path: Path) -> str:
    """Return why a file need not be tried in this process; empty if it may."""
    return _given_up.get(path, "")


def limit_memory(most: int) -> None:
    """End this process, from now on, as soon as one file makes it grow by more than ``most`` bytes.

    A decoder may keep many frames of any size that a file claims.
    """
    global _size_before
    _size_before = _resident_size()

    def watch() -> None:
        while True:
            if _reading is not None and _resident_size() - (_size_before or 0) > most:
                os._exit(TOO_LARGE)
            time.sleep(_MEMORY_SECONDS)

    threading.Thread(target=watch, daemon=True).start()


def _resident_size() -> int:
    """Return the resident size of this process in bytes: now on Linux, at most so far elsewhere."""
    if _STATUS.exists():
        return int(_STATUS.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def why_it_ended(path: Path, status: int | None) -> str:
    """Return what a process said of the file that it read with the status that it ended with; empty if nothing."""
    if status == TOO_LARGE:
        return f"{path}: takes more memory than one file may ({MAX_MEMORY / 2**30:g} GiB)"
    return silence(path) if status == HANGS else ""


def silence(path: Path) -> str:
    """Return what to say of a file that hangs."""
    return f"{path}: hangs (it gave nothing for {SILENCE_SECONDS:g} s)"
