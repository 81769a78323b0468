"""Progress as a bar on a terminal."""

from __future__ import annotations

import contextlib

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lofi_tal.cli.common import terminal
from lofi_tal.errors import one_line


class TerminalBar:
    """A bar on a terminal.

    Args:
        title: What is done.
        total: Units of work.
        done: Units that are done already.
    """

    def __init__(self, title: str, total: int, done: int) -> None:
        self.bar = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=terminal(stderr=True),
        )
        self.task = self.bar.add_task(one_line(title), total=total, completed=done, detail="")
        self.bar.start()

    def update(self, done: int, detail: str) -> None:
        """Show how much is done."""
        self.bar.update(self.task, completed=done, detail=one_line(detail))

    def close(self) -> None:
        """End; the terminal may have been closed."""
        with contextlib.suppress(OSError):
            self.bar.stop()
