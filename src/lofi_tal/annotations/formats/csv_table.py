"""A table ``video,start,end,label`` with the optional columns ``subset`` and ``duration``; times in seconds.

A row with only a video (and subset, duration) makes a video without actions known. Other columns are ignored.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from lofi_tal.annotations.formats.collecting import Collector
from lofi_tal.errors import DataError
from lofi_tal.files import read_text

COLUMNS = ("video", "start", "end", "label")
"""The columns that the header must have."""

_MORE = ("subset", "duration")
_DELIMITERS = (",", ";", "\t")


def read_csv(path: Path, into: Collector) -> None:
    """Read one table; commas separate the values, or semicolons or tabs if only so the header has its columns.

    Raises:
        DataError: If the file is no such table.
    """
    for line, row in _rows(path):
        where = f"{path}, line {line}"
        with into.part():
            if isinstance(row, str):
                raise DataError(f"{where}: {row}")
            given = {name: row.get(name, "").strip() or None for name in (*COLUMNS, *_MORE)}
            video = into.declare(where, given["video"], subset=given["subset"], duration=given["duration"])
            if any(given[name] for name in COLUMNS[1:]):
                into.add(where, video, given["start"], given["end"], given["label"])


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Yield the last line of each row, and its values by column or what is wrong with it."""
    text = read_text(path, "CSV")
    delimiter, header = _header(path, text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        next(reader)
        for fields in reader:
            if len(fields) > len(header):
                reason = f"{len(fields)} values, but the header has {len(header)} columns; quote values that hold "
                yield reader.line_num, reason + repr(delimiter) + "."
            elif fields:
                yield reader.line_num, dict(zip(header, fields, strict=False))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV: {error}.") from error


def _header(path: Path, text: str) -> tuple[str, list[str]]:
    first = ""
    for delimiter in _DELIMITERS:
        try:
            fields = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), [])
        except csv.Error as error:
            raise DataError(f"{path}, line 1: not CSV: {error}.") from error
        header = [name.strip().lower() for name in fields]
        first = first or ",".join(header)
        if set(COLUMNS) <= set(header):
            twice = next((name for name in (*COLUMNS, *_MORE) if header.count(name) > 1), None)
            if twice:
                raise DataError(f"{path}, line 1: the column {twice!r} stands twice.")
            return delimiter, header
    raise DataError(
        f"{path}, line 1: expected a header with the columns {','.join(COLUMNS)} (and optionally {','.join(_MORE)}), "
        f"found {first[:200] or 'nothing'}."
    )
