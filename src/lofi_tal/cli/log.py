"""What the library logs, as lines on stderr, and its progress as bars where there is a terminal."""

from __future__ import annotations

import logging

from rich.console import Console

from lofi_tal.cli.common import say
from lofi_tal.progress import Bar, show_progress


class _Lines(logging.Handler):
    """Shows what the library logs as lines of information; a warning that was shown already is not repeated."""

    def __init__(self) -> None:
        super().__init__()
        self._warned: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            if text in self._warned:
                return
            self._warned.add(text)
        say(text)


def _bar(title: str, total: int, done: int) -> Bar | None:
    """Return a bar if stderr is a terminal."""
    if not Console(stderr=True).is_terminal:
        return None
    from lofi_tal.cli.bars import TerminalBar

    return TerminalBar(title, total, done)


def show_log(quiet: bool = False) -> None:
    """Show what the library logs: information too, unless the user wants quiet."""
    logger = logging.getLogger("lofi_tal")
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.handlers = [_Lines()]
    logger.propagate = False
    show_progress(_bar)
