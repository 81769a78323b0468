"""Events that BORIS exports as tables (TSV, CSV), and its project files.

Source: ``boris/export_observation.py``, ``boris/config.py`` and ``tests/files`` of
https://github.com/olivierfriard/BORIS, versions 6 to 9. *Tabular events* have a row for each START and STOP of a
behaviour (column ``Status``, since version 8 ``Behavior type``), before version 8 below a preamble; *aggregated events*
have a row for each behaviour with ``Start (s)`` and ``Stop (s)``. Times are seconds of the observation. Point events
have no length and are no segments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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
    events = _Events(path, table, header, into)
    points = events.aggregated() if set(_AGGREGATED) <= set(header) else events.tabular()
    into.passed_over(str(path), points, "event", "points in time")


def find_boris(tables: list[Table]) -> _Found | None:
    """Return the table and the lowered header if a file has BORIS's columns."""
    for columns in (_AGGREGATED, *_TABULAR):
        found = find_header(tables, columns, _PREAMBLE)
        if found:
            return found
    return None


class _Events:
    """The rows of one table, which become segments."""

    def __init__(self, path: Path, table: Table, header: list[str], into: Collector) -> None:
        self.path, self.into = path, into
        self.rows = table.records(header)
        self.media: dict[str, str] = {}

    def aggregated(self) -> int:
        """Add the segments of aggregated events, and return how many events are points."""
        points = 0
        for line, row in self.rows:
            where = f"{self.path}, line {line}"
            with self.into.part():
                event = self.event(where, row)
                if event is None:
                    continue
                video, values = event
                start, end = (read_time(values[name], f"{where}, {name}") for name in _AGGREGATED[1:])
                if values.get("behavior type", "").upper() == "POINT" or start == end:
                    points += 1
                else:
                    self.into.add(where, video, start, end, values["behavior"])
        return points

    def tabular(self) -> int:
        """Add the segments from START to STOP, and return how many events are points."""
        points = 0
        begun: dict[tuple[str, ...], tuple[str, float]] = {}
        for line, row in self.rows:
            where = f"{self.path}, line {line}"
            with self.into.part():
                event = self.event(where, row)
                if event is not None:
                    points += self.state(where, *event, begun)
        for key, (where, _) in begun.items():
            with self.into.part():
                raise DataError(f"{where}: {key[3]!r} starts and never stops.")
        return points

    def state(
        self, where: str, video: str, row: Mapping[str, str], begun: dict[tuple[str, ...], tuple[str, float]]
    ) -> bool:
        """Begin or end a behaviour; return whether the event is a point instead."""
        kind = (row.get("behavior type") or row.get("status") or "").upper()
        modifiers = tuple(value for name, value in row.items() if name.startswith("modifier"))
        key = (video, row.get("observation id", ""), row.get("subject", ""), row["behavior"], *modifiers)
        time = read_time(row["time"], f"{where}, time")
        if kind == "START" and key not in begun:
            begun[key] = where, time
        elif kind == "STOP" and key in begun:
            self.into.add(where, video, begun.pop(key)[1], time, row["behavior"])
        elif kind != "POINT":
            raise DataError(f"{where}: {shown(kind)} of {row['behavior']!r}; expected START, then STOP, or POINT.")
        return kind == "POINT"

    def event(self, where: str, row: Mapping[str, str] | str) -> tuple[str, Mapping[str, str]] | None:
        """Declare the video of an event, and return it and the values; None if the observation is not to be read.

        The video is its medium, or the observation where the table has no such column.
        """
        if isinstance(row, str):
            raise DataError(f"{where}: {row}")
        observation = row.get("observation id", "")
        if self.into.options.layers and observation not in self.into.options.layers:
            return None
        column = next((name for name in _MEDIA if name in row), None)
        medium = _PLAYER.sub("", row[column]) if column else observation or self.path.stem
        if medium.upper() in ("", "NA", "NOT FOUND"):
            raise DataError(f"{where}: the observation {observation!r} has no video: it is live, or of pictures.")
        if ";" in medium or self.media.setdefault(observation, medium) != medium:
            raise DataError(
                f"{where}: the observation {observation!r} joins several videos, and a table does not say where each "
                "begins: give the project file (.boris) instead."
            )
        return self.into.declare(where, medium, is_file=column is not None), row
