"""Lines of `metrics.jsonl`: one JSON object an optimiser step. Lines that are damaged are skipped and counted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

_NUMBERS = ("epoch", "lr", "wait", "seconds")


def read_metrics(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the lines of a file of metrics, and how many lines could not be used.

    A last line without an end is under way and counts as neither. A file that is not there has no lines.
    """
    try:
        text = path.read_bytes().decode(errors="replace")
    except OSError:
        return [], 0
    whole, _, rest = text.rpartition("\n")
    rows = [_row(line) for line in whole.split("\n") if line] if whole else []
    last = _row(rest) if rest else None
    found = [row for row in [*rows, last] if row is not None]
    return found, rows.count(None)


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and "step" in row and all(_is_fit(*item) for item in row.items()) else None


def _is_fit(key: str, value: Any) -> bool:
    """Say whether a value is one that a stage notes: numbers, and a few texts."""
    if key == "step":
        return type(value) is int and value >= 1
    if key in _NUMBERS:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value is None or isinstance(value, str | int | float)
