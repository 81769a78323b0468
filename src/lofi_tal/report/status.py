"""What a run is doing, as a part of its report: the page refreshes itself until the run ends or falls silent.

The run writes the page again every few seconds with the time. A page whose time is :data:`SILENT` seconds old says that
there is no news, and refreshes itself no more.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from lofi_tal.report.theme import duration, fill_page

REFRESH = 10
"""Seconds between two looks of the page for news, and between two signs of life of the run."""
SILENT = 90
"""Seconds without a sign of life after which a run counts as dead."""
HEADINGS = {"running": "Running", "ended": "Ended", "stopped": "Stopped", "failed": "Failed"}


@dataclass(frozen=True)
class Status:
    """What a run is doing; times are seconds since 1970.

    Args:
        state: A key of :data:`HEADINGS`.
        stage: What is done.
        done: Units of work that are done.
        total: All units; 0 before anything is known.
        detail: Figures of the last unit.
        seconds_left: Until ``stage`` ends, if that is known.
        started: When the run began.
        advanced: When a unit was done last.
        updated: Now.
        message: What to do, or why it failed.
    """

    state: str
    stage: str = ""
    done: int = 0
    total: int = 0
    detail: str = ""
    seconds_left: float | None = None
    started: float = 0.0
    advanced: float = 0.0
    updated: float = 0.0
    message: str = ""


def status_html(status: Status) -> str:
    """Return a status as a part of a page."""
    heading = HEADINGS[status.state]
    if status.stage and status.state != "ended":
        heading += f": {status.stage}" if status.state == "running" else f" in {status.stage}"
    values = {
        **vars(status),
        "running": status.state == "running",
        "heading": heading,
        "left": None if status.seconds_left is None else duration(status.seconds_left),
        "started": _clock(status.started),
        "advanced": _clock(status.advanced),
        "told": _clock(status.updated),
        "updated": round(status.updated),
        "refresh": REFRESH,
        "silent": SILENT,
    }
    return fill_page("status.html", status=values)


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
