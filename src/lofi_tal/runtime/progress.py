"""Progress: a live bar on a terminal, single lines elsewhere, silence when asked. Always on stderr."""

from __future__ import annotations

import contextlib
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from lofi_tal.errors import one_line


def duration_text(seconds: float) -> str:
    """Return ``m:ss`` or ``h:mm:ss``."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


class Progress:
    """Progress of one task.

    Args:
        title: What is done.
        total: Units of work.
        done: Units that an earlier run has finished.
        every: Seconds between two lines where there is no terminal.
        quiet: Show nothing.
    """

    def __init__(self, title: str, total: int, *, done: int = 0, every: float = 15.0, quiet: bool = False) -> None:
        self.title, self.total, self.done, self.every, self.quiet = title, total, done, every, quiet
        self.started = self.spoken = time.monotonic()
        self.first = done
        self.console = Console(stderr=True)
        self.bar: Bar | None = None
        if self.console.is_terminal and not quiet:
            self.bar = Bar(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("ETA"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[detail]}", markup=False),
                console=self.console,
            )
            self.task = self.bar.add_task(title, total=total, completed=done, detail="")

    def __enter__(self) -> Progress:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.bar:
            with contextlib.suppress(OSError):  # the terminal may have been closed
                self.bar.stop()

    def advance(self, detail: str = "", units: int = 1) -> None:
        """Count ``units`` more as done and show ``detail``, on the same line."""
        self.done += units
        detail = one_line(detail)
        if self.bar:
            self.bar.update(self.task, completed=self.done, detail=detail)
            return
        now = time.monotonic()
        if not self.quiet and (now - self.spoken >= self.every or self.done == self.total):
            self.spoken = now
            elapsed = now - self.started
            left = elapsed / max(1, self.done - self.first) * (self.total - self.done)
            self.console.print(
                f"{self.title} {self.done}/{self.total} {duration_text(elapsed)} ETA {duration_text(left)} {detail}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
