"""The journal of a labels file: each change a line with a check word, on the disk before the page hears of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash

from lofi_tal.errors import DataError
from lofi_tal.files import append_line, json_line

_CHECK = 16  # letters of a check word, which begins a line


class Journal:
    """Lines of records that several starts of the studio append.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, record: Mapping[str, Any]) -> None:
        """Append a record and wait until it is on the disk.

        Raises:
            RunError: If it cannot be written.
        """
        text = json_line({"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **record})
        append_line(self.path, f"{_word(text)} {text}", sync=True)

    def read(self) -> list[dict[str, Any]]:
        """Return all records; a line that was cut short, by a crash or a full disk, was never acknowledged.

        Raises:
            DataError: If a record that was acknowledged has been damaged.
        """
        if not self.path.exists():
            return []
        records: list[dict[str, Any]] = []
        last = 0
        for number, line in enumerate(self.path.read_bytes().decode(errors="replace").split("\n"), start=1):
            word, _, text = line.partition(" ")
            if not line or word != _word(text):
                continue
            record = json.loads(text)
            if record["n"] not in (last, last + 1):
                raise DataError(
                    f"{self.path}: before line {number}, changes {last + 1} to {record['n'] - 1} are damaged, without "
                    "which later ones cannot be followed. Move the file away to go on from the labels file alone."
                )
            last = record["n"]
            records.append(record)
        return records


def _word(text: str) -> str:
    return xxhash.xxh3_64_hexdigest(text.encode(errors="replace"))[:_CHECK]
