"""Tables in text files, as spreadsheets and tools write them: separated by commas, semicolons, tabs or bars."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from lofi_tal.errors import DataError
from lofi_tal.files import read_text

DELIMITERS = (",", ";", "\t", "|")
_FIRST_LINE = re.compile(r"sep=(.)\r?\n")  # Excel's note on which delimiter follows


@dataclass(frozen=True)
class Table:
    """A text file as rows of fields.

    Args:
        path: The file.
        text: Its content.
        delimiter: Between fields.
    """

    path: Path
    text: str
    delimiter: str

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the last line of each row, and its fields without outer blanks; empty rows are passed over.

        Raises:
            DataError: If a quote is not closed, or the like.
        """
        reader = csv.reader(io.StringIO(self.text, newline=""), delimiter=self.delimiter, strict=True)
        try:
            for fields in reader:
                if any(fields):
                    yield reader.line_num, [field.strip() for field in fields]
        except csv.Error as error:
            raise DataError(f"{self.path}, line {reader.line_num}: not CSV: {error}.") from error

    def records(self, header: list[str]) -> Iterator[tuple[int, dict[str, str] | str]]:
        """Yield the line and the values by column of each row below ``header``, or what is wrong with the row."""
        below = False
        for line, fields in self.rows():
            if not below:
                below = _lowered(fields) == header
            elif len(fields) > len(header) and any(fields[len(header) :]):
                reason = f"{len(fields)} values, but the header has {len(header)} columns; quote values that hold "
                yield line, reason + repr(self.delimiter) + "."
            else:
                yield line, dict.fromkeys(header, "") | dict(zip(header, fields, strict=False))


def read_tables(path: Path, what: str = "CSV") -> list[Table]:
    """Return a file as a table of each delimiter that it may have.

    Raises:
        DataError: If it cannot be read or is not UTF-8.
    """
    text = read_text(path, what)
    said = _FIRST_LINE.match(text)
    if said:
        return [Table(path, "\n" + text[said.end() :], said[1])]
    return [Table(path, text, delimiter) for delimiter in DELIMITERS]


def find_header(tables: list[Table], columns: Collection[str], within: int = 1) -> tuple[Table, list[str]] | None:
    """Return the first table with a row that has all ``columns``, and that row, lowered; None if there is none.

    Args:
        tables: Of :func:`read_tables`.
        columns: Names in lower case.
        within: So many rows are looked at; a preamble may come before the header.

    Raises:
        DataError: If these rows are not CSV.
    """
    for table in tables:
        for number, (_, fields) in enumerate(table.rows()):
            if number >= within:
                break
            header = _lowered(fields)
            if set(columns) <= set(header):
                return table, header
    return None


def _lowered(fields: list[str]) -> list[str]:
    return [name.lower() for name in fields]
