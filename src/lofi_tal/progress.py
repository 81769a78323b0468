"""Progress of a task: shown by what a front end puts here, as lines of the log otherwise, or not at all."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Protocol

from lofi_tal.errors import one_line

logger = logging.getLogger("lofi_tal")
_LINE = re.compile(r"(\S.{0,200}?) (\d{1,12})/(\d{1,12}) [\d:]+ ETA ([\d:]+)(?: \(all: ([\d:]+)\))?(?: |$)")


def duration_text(seconds: float) -> str:
    """Return ``m:ss`` or ``h:mm:ss``."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def clock_text(seconds: float, digits: int) -> str:
    """Return a place in a video, ``m:ss`` with so many digits of a second."""
    minutes, rest = divmod(round(max(0.0, seconds), digits), 60)
    return f"{int(minutes)}:{rest:0{3 + digits}.{digits}f}"


def spoken(seconds: float) -> str:
    """Return a time in words, such as ``45 s``, ``14 min`` or ``2 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


@dataclass(frozen=True)
class Told:
    """What a line of the log tells of the progress of a task.

    Args:
        title: What is done.
        done: Units that are done.
        total: All units.
        left: Time until the task ends, as text.
        all: Time until everything ends, where it was foreseen; empty elsewhere.
    """

    title: str
    done: int
    total: int
    left: str
    all: str = ""


def told(line: str) -> Told | None:
    """Return what a line of the log, which another process may have written, tells of progress; None if nothing.

    >>> told("lofi 60/120 1:18 ETA 1:20 epoch 6/12 loss 2.803")
    Told(title='lofi', done=60, total=120, left='1:20', all='')
    >>> told("head 30/60 0:10 ETA 0:10 (all: 4:10)").all
    '4:10'
    """
    found = _LINE.match(line)
    return None if found is None else Told(found[1], int(found[2]), int(found[3]), found[4], found[5] or "")


class Expected:
    """What is still to come of all tasks, foreseen before they began and corrected by what they took.

    Args:
        tasks: Title and seconds of each task, in their order; a task that does not come up is taken for done.
    """

    def __init__(self, tasks: Sequence[tuple[str, float]]) -> None:
        self.tasks, self.at, self.known = list(tasks), -1, False
        self.foreseen = self.taken = 0.0

    def begin(self, title: str) -> None:
        """Go to the next task of this title; another one is none of those that were foreseen."""
        names = (title, title.split(" ")[0])
        found = next((i for i in range(self.at + 1, len(self.tasks)) if self.tasks[i][0] in names), None)
        self.known = found is not None
        self.at = self.at if found is None else found

    def left(self, share: float, elapsed: float) -> float:
        """Return the seconds that are left when ``share`` of the present task took ``elapsed`` seconds."""
        now, elapsed = (self.tasks[self.at][1], elapsed) if self.known else (0.0, 0.0)
        foreseen, taken = self.foreseen + share * now, self.taken + elapsed
        factor = taken / foreseen if foreseen > 0 and taken > 0 else 1.0
        later = sum(seconds for _, seconds in self.tasks[self.at + 1 :])
        return factor * ((1 - share) * now + later)

    def end(self, share: float, elapsed: float) -> None:
        """Note what the present task took."""
        if self.known:
            self.foreseen += share * self.tasks[self.at][1]
            self.taken += elapsed


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
    expected: Expected | None = None


def expect(tasks: Sequence[tuple[str, float]]) -> None:
    """Let every progress show what is left of all ``tasks``, given as titles and seconds."""
    _Shown.expected = Expected(tasks)


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
            if _Shown.expected:
                _Shown.expected.begin(self.title)
        self._tell("")
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.close()
        if _Shown.expected and not self.quiet:
            _Shown.expected.end(self._share, time.monotonic() - self.started)

    def advance(self, detail: str = "", units: int = 1) -> None:
        """Count ``units`` more as done and show ``detail``, on the same line."""
        self.done += units
        detail = one_line(detail)
        self._tell(detail)
        now = time.monotonic()
        overall = self._overall(now)
        if self.bar:
            self.bar.update(self.done, f"{overall}{detail}")
            return
        if not self.quiet and (now - self.spoken >= self.every or self.done == self.total):
            self.spoken = now
            elapsed = now - self.started
            left = duration_text(elapsed / max(1, self.done - self.first) * (self.total - self.done))
            done = f"{self.title} {self.done}/{self.total} {duration_text(elapsed)}"
            logger.info("%s ETA %s %s%s", done, left, overall, detail)  # `told` reads it

    def _tell(self, detail: str) -> None:
        for follow in _Shown.followers:
            follow(self.title, self.done, self.total, detail)

    @property
    def _share(self) -> float:
        """What this run has done, of what it found left."""
        return (self.done - self.first) / max(1, self.total - self.first)

    def _overall(self, now: float) -> str:
        """Return the time that is left of all tasks, where it was foreseen."""
        if not _Shown.expected or self.quiet:
            return ""
        return f"(all: {duration_text(_Shown.expected.left(self._share, now - self.started))}) "
