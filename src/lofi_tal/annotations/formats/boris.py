"""Events that BORIS exports as tables (TSV, CSV), and its project files.

Source: ``boris/export_observation.py``, ``boris/config.py`` and ``tests/files`` of
https://github.com/olivierfriard/BORIS, versions 6 to 9. *Tabular events* have a row for each START and STOP of a
behaviour (column ``Status``, since version 8 ``Behavior type``), before version 8 below a preamble; *aggregated events*
have a row for each behaviour with ``Start (s)`` and ``Stop (s)``. Times are seconds of the observation. Point events
have no length and are no segments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from lofi_tal.annotations.formats.boris_project import read_project
from lofi_tal.annotations.formats.collecting import Collector
from lofi_tal.annotations.formats.tables import Table, find_header, read_tables
from lofi_tal.annotations.values import read_time, shown
from lofi_tal.errors import DataError

_AGGREGATED = ("behavior", "start (s)", "stop (s)")
_TABULAR = (("behavior", "time", "behavior type"), ("behavior", "time", "status"))
_MEDIA = ("media file name", "media file path", "media file")
_PREAMBLE = 200  # rows before the header: the observation and its independent variables
_PLAYER = re.compile(r"^player #\d+:\s*", re.IGNORECASE)

_Found = tuple[Table, list[str]]


def read_boris(path: Path, into: Collector) -> None:
    """Read one table of events, or one project; ``options.layers`` names the observations to read.

    A behaviour is paired by observation, subject and modifiers, and its label is the behaviour alone.

    Raises:
        DataError: If the file is neither, or an observation joins several videos (a table does not say where).
    """
    if path.suffix.lower() in (".boris", ".gz", ".json"):
        read_project(path, into)
        return
    found = find_boris(read_tables(path))
    if found is None:
        raise DataError(
            f"{path}: expected BORIS's tabular events (columns Time, Behavior, and Status or Behavior type), its "
            "aggregated events (Behavior, Start (s), Stop (s)) or a project file (.boris)."
        )
    table, header = found
    known: dict[str, str] = {}
    rows = _rows(path, table, header, into, known)
    points = _aggregated(rows, into) if set(_AGGREGATED) <= set(header) else _tabular(rows, into)
    into.passed_over(str(path), points, "events are points in time, no segments.")


def find_boris(tables: list[Table]) -> _Found | None:
    """Return the table and the lowered header if a file has BORIS's columns."""
    for columns in (_AGGREGATED, *_TABULAR):
        found = find_header(tables, columns, _PREAMBLE)
        if found:
            return found
    return None


def _rows(
    path: Path, table: Table, header: list[str], into: Collector, known: dict[str, str]
) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield where each event stands, its video and its values."""
    for line, row in table.records(header):
        where = f"{path}, line {line}"
        with into.part():
            if isinstance(row, str):
                raise DataError(f"{where}: {row}")
            observation = row.get("observation id", "")
            if not into.options.layers or observation in into.options.layers:
                yield where, _video(where, path, observation, row, into, known), row


def _video(
    where: str, path: Path, observation: str, row: Mapping[str, str], into: Collector, known: dict[str, str]
) -> str:
    """Declare and return the video of an event: its medium, or the observation where the table has no such column."""
    column = next((name for name in _MEDIA if name in row), None)
    medium = _PLAYER.sub("", row[column]) if column else observation or path.stem
    if medium.upper() in ("", "NA", "NOT FOUND"):
        raise DataError(f"{where}: the observation {observation!r} has no video: it is live, or of pictures.")
    if ";" in medium or known.setdefault(observation, medium) != medium:
        raise DataError(
            f"{where}: the observation {observation!r} joins several videos, and a table does not say where each "
            "begins: give the project file (.boris) instead."
        )
    return into.declare(where, medium, is_file=column is not None)


def _aggregated(rows: Iterator[tuple[str, str, dict[str, str]]], into: Collector) -> int:
    """Add the segments of aggregated events, and return how many events are points."""
    points = 0
    for where, video, row in rows:
        start, end = (read_time(row.get(name), f"{where}, {name}") for name in _AGGREGATED[1:])
        if row.get("behavior type", "").upper() == "POINT" or start == end:
            points += 1
        else:
            into.add(where, video, start, end, row["behavior"])
    return points


def _tabular(rows: Iterator[tuple[str, str, dict[str, str]]], into: Collector) -> int:
    """Add the segments from START to STOP, and return how many events are points."""
    points = 0
    begun: dict[tuple[str, ...], tuple[str, float]] = {}
    for where, video, row in rows:
        kind = (row.get("behavior type") or row.get("status") or "").upper()
        modifiers = tuple(value for name, value in row.items() if name.startswith("modifier"))
        key = (video, row.get("observation id", ""), row.get("subject", ""), row["behavior"], *modifiers)
        time = read_time(row.get("time"), f"{where}, time")
        if kind == "POINT":
            points += 1
        elif kind == "START" and key not in begun:
            begun[key] = where, time
        elif kind == "STOP" and key in begun:
            into.add(where, video, begun.pop(key)[1], time, row["behavior"])
        else:
            raise DataError(f"{where}: {shown(kind)} of {row['behavior']!r}; expected START, then STOP, or POINT.")
    for key, (where, _) in begun.items():
        with into.part():
            raise DataError(f"{where}: {key[3]!r} starts and never stops.")
    return points
