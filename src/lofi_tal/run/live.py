"""The report of a run while it is at work: its state, the curves so far, and the first batches.

Figures are drawn between two steps of training, and so seldom that they take a hundredth of the time. A thread gives
signs of life in between: it writes the page that was drawn last, with the time.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from lofi_tal.errors import LofiError, one_line
from lofi_tal.files import write_text
from lofi_tal.progress import followed
from lofi_tal.report import Report, Status, report_page, status_html
from lofi_tal.report.status import REFRESH
from lofi_tal.run.report import first_batches, run_facts, segment_lengths, stage_summaries
from lofi_tal.run.run import Run
from lofi_tal.runtime import InterruptedRunError

logger = logging.getLogger("lofi_tal")
_MARK = "<!-- status -->"
_SHARE = 0.01  # of the time that may go into drawing


@contextlib.contextmanager
def live_report(
    run: Run, command: str = "", *, replaced: bool = False, again: str = "The same command with --resume"
) -> Iterator[Path]:
    """Keep ``report.html`` of a run up to date while the block runs; yields its path.

    The report of a finished run stays until something is done again. The last page says how the block ended.

    Args:
        run: The run, whose folder is held.
        command: How it was started.
        replaced: If the block succeeds, the report of the finished run is written at once.
        again: What goes on where the block was stopped.
    """
    page = run.output / "report.html"
    if not run.first or run.folder.patience is not None:  # of several that share their work, none speaks for all
        yield page
        return
    live = _Live(run, page, command)
    logger.info("Report: %s (open it now: it follows the run)", page)
    with live.beating(), followed(live.advanced):
        try:
            yield page
        except (InterruptedRunError, KeyboardInterrupt):
            live.end("stopped", f"{again} goes on from the last checkpoint.")
            raise
        except Exception as error:
            live.end("failed", one_line(str(error)))
            raise
        if not replaced:
            live.end("ended", "Next: lofi run, which evaluates and writes the whole report.")


class _Live:
    """The page of a run at work."""

    def __init__(self, run: Run, page: Path, command: str) -> None:
        self.run, self.page, self.command = run, page, command
        self.stage, self.done, self.total, self.detail = "", 0, 0, ""
        self.began = self.advanced_at = self.stage_began = time.time()
        self.first = 0  # units of the stage that an earlier run had done
        self.text = ""
        self.due = 0.0
        self.lock, self.over = threading.Lock(), threading.Event()
        if not _is_finished(page):
            self.draw()

    def advanced(self, title: str, done: int, total: int, detail: str) -> None:
        """Take note of what has been done, and draw if it is time."""
        now = time.time()
        if title != self.stage:
            self.stage, self.stage_began, self.first, self.detail = title, now, done, ""
        self.done, self.total, self.detail, self.advanced_at = done, total, detail or self.detail, now
        if time.monotonic() >= self.due and (self.text or done > self.first):
            self.draw()

    def draw(self) -> None:
        """Draw the page and write it; what goes wrong is a warning, and ends no run."""
        began = time.monotonic()
        try:
            text = self._drawn()
        except Exception as error:
            logger.warning("The report cannot be drawn: %s: %s", type(error).__name__, error)
            self.due = math.inf
            return
        with self.lock:
            self.text = text
        self.write("running")
        took = time.monotonic() - began
        self.due = time.monotonic() + max(REFRESH, took / _SHARE)

    def _drawn(self) -> str:
        data = self.run.known_data
        report = Report(
            title=self.run.recipe.name,
            subtitle="What this run is doing; results come at the end.",
            stages=stage_summaries(self.run, running=True),
            facts={"command": self.command} if data is None else run_facts(self.run, self.command),
            lengths={} if data is None else segment_lengths(data),
            links=first_batches(self.run),
        )
        return report_page(self.page, report, status=_MARK)

    def write(self, state: str, message: str = "") -> None:
        """Write the page that was drawn last; a disk that is full ends no run here."""
        with self.lock, contextlib.suppress(OSError, LofiError):
            if self.text and not (state == "running" and self.over.is_set()):  # the thread may be late
                write_text(self.page, self.text.replace(_MARK, status_html(self._status(state, message)), 1))

    def _status(self, state: str, message: str) -> Status:
        seconds_left = None
        if self.first < self.done < self.total:
            seconds_left = (self.advanced_at - self.stage_began) / (self.done - self.first) * (self.total - self.done)
        return Status(
            state=state,
            stage=self.stage,
            done=self.done,
            total=self.total,
            detail=self.detail,
            seconds_left=seconds_left if state == "running" else None,
            started=self.began,
            advanced=self.advanced_at,
            updated=time.time(),
            message=message,
        )

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Give signs of life from a thread of its own."""
        thread = threading.Thread(target=self._beat, name="live report", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.over.set()
            thread.join()

    def _beat(self) -> None:
        while not self.over.wait(REFRESH):
            self.write("running")

    def end(self, state: str, message: str) -> None:
        """Write the last page: it refreshes itself no more."""
        self.over.set()
        if self.text:
            self.draw()
        self.write(state, message)


def _is_finished(page: Path) -> bool:
    """Say whether a page is the report of a finished run, which stays as long as nothing is done."""
    try:
        return "data-updated" not in page.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
