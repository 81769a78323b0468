"""Comparisons that were started from the page: where each writes its page, and which page is a job's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lofi_tal.errors import LofiError
from lofi_tal.studio.jobs import Job
from lofi_tal.studio.refusals import MissingError

COMPARE = "compare"
MOST_COMPARED = 12
PAGE = "page.html"


def comparisons_of(work: Path) -> Path:
    """Return the folder of all comparisons in a work folder."""
    return work.absolute() / "comparisons"


def read_names(body: Mapping[str, Any]) -> list[str]:
    """Return the names of the runs that a request wants compared.

    Raises:
        LofiError: If they are no list of names, or too many.
    """
    names = body.get("runs")
    if not isinstance(names, list) or len(names) > MOST_COMPARED or not all(isinstance(one, str) for one in names):
        raise LofiError(f"runs: expected a list of 2 to {MOST_COMPARED} names of runs.")
    return names


def page_of(work: Path, job: Job) -> Path:
    """Return the page that a comparison writes; what another job says of its place is not believed.

    Raises:
        MissingError: If the job is no comparison.
    """
    folder = str(job.facts.get("page", ""))
    if job.kind != COMPARE or not (folder.isascii() and folder.isdigit()):
        raise MissingError(f"Job {job.id!r} writes no page.")
    return comparisons_of(work) / folder / PAGE
