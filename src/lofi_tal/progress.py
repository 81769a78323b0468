"""Progress of a task: shown by what a front end puts here, as lines of the log otherwise, or not at all."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import ClassVar, Protocol

from lofi_tal.errors import one_line

logger = logging.getLogger("lofi_tal")


def duration_text(seconds: float) -> str:
    """Return ``m:ss`` or ``h:mm:ss``."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


class Bar(Protocol):
    """What a front end shows of one task."""

    def update(self, done: int, detail: str) -> None:
        """Show how much is done."""

    def close(self) -> None:
        """End."""


MakeBar = Callable[[str, int, int], Bar | None]
"""Makes what shows a task, from its title, its units of work, and those done already; None where nothing can."""


Follow = Callable[[str, int, int, str], None]
"""Is told of a task's title, units done, all units, and a detail."""


class _Shown:
    make: MakeBar = staticmethod(lambda title, total, done: None)
    followers: ClassVar[list[Follow]] = []


def show_progress(make: MakeBar) -> None:
    """Let a front end show the progress of every task from now on."""
    _Shown.make = staticmethod(make)


@contextlib.contextmanager
def followed(follow: Follow) -> Iterator[None]:
    """Tell ``follow`` of every task that begins, and of all that it does, whether it is shown or not."""
    _Shown.followers.append(follow)
    try:
        yield
    finally:
        _Shown.followers.remove(follow)


class Progress:
    """Progress of one task.

    Args:
        title: What is done.
        total: Units of work.
        done: Units that an earlier run has finished.
        every: Seconds between two lines of the log, where nothing else shows it.
        quiet: Show nothing.
    """

    def __init__(self, title: str, total: int, *, done: int = 0, every: float = 15.0, quiet: bool = False) -> None:
        self.title, self.total, self.done, self.every, self.quiet = title, total, done, every, quiet
        self.started = self.spoken = time.monotonic()
        self.first = done
        self.bar: Bar | None = None

    def __enter__(self) -> Progress:
        if not self.quiet:
            self.bar = _Shown.make(self.title, self.total, self.done)
        self._tell("")
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.close()

    def advance(self, detail: str = "", units: int = 1) -> None:
        """Count ``units`` more as done and show ``detail``, on the same line."""
        self.done += units
        detail = one_line(detail)
        self._tell(detail)
        if self.bar:
            self.bar.update(self.done, detail)
            return
        now = time.monotonic()
        if not self.quiet and (now - self.spoken >= self.every or self.done == self.total):
            self.spoken = now
            elapsed = now - self.started
            left = duration_text(elapsed / max(1, self.done - self.first) * (self.total - self.done))
            done = f"{self.title} {self.done}/{self.total} {duration_text(elapsed)}"
            logger.info("%s ETA %s %s", done, left, detail)

    def _tell(self, detail: str) -> None:
        for follow in _Shown.followers:
            follow(self.title, self.done, self.total, detail)
