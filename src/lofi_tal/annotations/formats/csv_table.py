"""A table ``video,start,end,label`` with the optional columns ``subset`` and ``duration``.

Times are seconds, with a decimal point or comma, or ``hh:mm:ss.mmm``; with a frame rate, plain numbers count frames
from 0. A row with only a video (and subset, duration) makes a video without actions known. Other columns are ignored.
Tables of other programs are read by naming their columns: ``--columns video=filename,start=onset,end=offset``. A JSON
list of flat objects is such a table too (Create ML's action classifier:
https://developer.apple.com/documentation/createml/building-an-action-classifier-data-source).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lofi_tal.annotations.formats.collecting import Collector
from lofi_tal.annotations.formats.tables import Table, find_header, read_tables
from lofi_tal.annotations.values import read_time, shown
from lofi_tal.cells import unguarded
from lofi_tal.errors import DataError, nearest
from lofi_tal.files import read_json

COLUMNS = ("video", "start", "end", "label")
"""The columns that the header must have."""

LENGTH = "length"
"""A column that may stand for ``end``: how long the segment lasts."""

_MORE = ("subset", "duration")
_ALL = (*COLUMNS, LENGTH, *_MORE)


def read_csv(path: Path, into: Collector) -> None:
    """Read one table; commas separate the values, or semicolons, tabs or bars if only so the header has its columns.

    ``options.columns`` names columns of the table by ours. Where it names any and there is no column of videos, the
    table is of one video, the one with the table's own name.

    Raises:
        DataError: If the file is no such table.
    """
    rows, names = _json_rows(path, into) if path.suffix.lower() == ".json" else _rows(path, into)
    for where, row in rows:
        with into.part():
            if isinstance(row, str):
                raise DataError(f"{where}: {row}")
            given = {name: row.get(column) or None for name, column in names.items()}
            reference = given["video"] if "video" in names else path.stem
            video = into.declare(where, reference, subset=given.get("subset"), duration=given.get("duration"))
            if any(given.get(name) for name in ("start", "end", LENGTH, "label")):
                start, end = _span(where, given, into.options.fps)
                into.add(where, video, start, end, given["label"])


_Rows = Iterator[tuple[str, dict[str, str] | str]]


def _rows(path: Path, into: Collector) -> tuple[_Rows, dict[str, str]]:
    """Return where each row of a table stands and its values, and which column holds what."""
    table, header, names = _named(path, read_tables(path), into.options.columns)
    rows = ((line, _texts(row)) for line, row in table.records(header))
    return ((f"{path}, line {line}", row) for line, row in rows), names


def _texts(row: dict[str, str] | str) -> dict[str, str] | str:
    """Return a row without the apostrophes that guard its texts against spreadsheets."""
    return row if isinstance(row, str) else {column: unguarded(cell) for column, cell in row.items()}


def is_records(document: Any) -> bool:
    """Say whether the content of a JSON file is a table: a list of flat objects, such as Create ML's."""
    rows = document if isinstance(document, list) else []
    return bool(rows) and all(isinstance(row, dict) and not any(map(_is_nested, row.values())) for row in rows)


def _is_nested(value: Any) -> bool:
    return isinstance(value, list | dict)


def _json_rows(path: Path, into: Collector) -> tuple[_Rows, dict[str, str]]:
    """Return the same of a list of flat objects; their keys are the columns."""
    document = read_json(path)
    if not is_records(document):
        raise DataError(f"{path}: expected a list of objects with {', '.join(COLUMNS)}, found {shown(document)}.")
    rows = [{key.lower(): "" if value is None else str(value) for key, value in row.items()} for row in document]
    text = io.StringIO()
    csv.writer(text).writerow(dict.fromkeys(key for row in rows for key in row))
    _, _, names = _named(path, [Table(path, text.getvalue(), ",")], into.options.columns)
    return ((f"{path}, object {number}", row) for number, row in enumerate(rows)), names


def _span(where: str, given: Mapping[str, str | None], rate: float | None) -> tuple[float, float]:
    """Return start and end in seconds."""
    start = read_time(given["start"], f"{where}, start", rate)
    if LENGTH in given:
        return start, start + read_time(given[LENGTH], f"{where}, {LENGTH}", rate)
    return start, read_time(given["end"], f"{where}, end", rate)


def _named(path: Path, tables: list[Table], chosen: Mapping[str, str]) -> tuple[Table, list[str], dict[str, str]]:
    """Return the first table that has the columns, its header, and which column holds what."""
    names = {name: chosen.get(name, name).strip().lower() for name in COLUMNS}
    if LENGTH in chosen and "end" not in chosen:
        names.pop("end")
        names[LENGTH] = chosen[LENGTH].strip().lower()
    needed = {column for name, column in names.items() if not (name == "video" and chosen and name not in chosen)}
    needed |= {chosen[name].strip().lower() for name in _MORE if name in chosen}
    found = find_header(tables, needed)
    if found is None:
        raise DataError(_not_found(path, tables, names, needed, chosen))
    table, header = found
    names |= {name: chosen.get(name, name).strip().lower() for name in _MORE}
    names = {name: column for name, column in names.items() if column in header}
    for column in names.values():
        if header.count(column) > 1:
            raise DataError(f"{path}, line 1: the column {column!r} stands twice.")
    return table, header, names


def _not_found(
    path: Path, tables: list[Table], names: Mapping[str, str], needed: set[str], chosen: Mapping[str, str]
) -> str:
    """Return what to say of a table that lacks columns: what it has, and how to name them."""
    headers = [next((fields for _, fields in table.rows()), []) for table in tables]
    header = max(headers, key=len, default=[])
    listed = ", ".join(map(repr, header))[:300] or "nothing"
    if chosen:
        lacking = sorted(needed - {name.lower() for name in header})
        hint = nearest(lacking[0], [name.lower() for name in header]) if lacking else ""
        return f"{path}, line 1: has no column {', '.join(map(repr, lacking))} (--columns); it has {listed}.{hint}"
    return (
        f"{path}, line 1: expected a header with the columns {','.join(COLUMNS)} (and optionally {','.join(_MORE)}), "
        f"found {listed}. Say which of your columns is which: --columns video=...,start=...,end=...,label=... "
        f"({LENGTH}=... may stand for end)."
    )


def parse_columns(text: str) -> dict[str, str]:
    """Return the columns of ``ours=theirs,...``; a comma or a blank in their name is no hindrance.

    Raises:
        DataError: If the text is not of that form, or names what a table cannot hold.
    """
    columns: dict[str, str] = {}
    for part in text.split(","):
        name, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals and columns:  # a comma inside a name
            last = next(reversed(columns))
            columns[last] += f",{part}"
            continue
        if name not in _ALL:
            raise DataError(f"--columns {text!r}: {name!r} is none of {', '.join(_ALL)}.{nearest(name, _ALL)}")
        if not column or name in columns:
            raise DataError(f"--columns {text!r}: expected {name}=<column of the table>, once.")
        columns[name] = column
    return columns
