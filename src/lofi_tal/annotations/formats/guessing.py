"""Which built-in format a file or folder has: told from what is in it, and from its name where that says nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lofi_tal.annotations.formats.audacity import is_audacity
from lofi_tal.annotations.formats.boris import find_boris
from lofi_tal.annotations.formats.boris_project import is_project
from lofi_tal.annotations.formats.coin import is_coin
from lofi_tal.annotations.formats.csv_table import COLUMNS, is_records
from lofi_tal.annotations.formats.elan_text import is_elan_text
from lofi_tal.annotations.formats.frame_wise import frame_files, is_frame_wise
from lofi_tal.annotations.formats.soccernet_games import is_soccernet
from lofi_tal.annotations.formats.tables import find_header, read_tables
from lofi_tal.annotations.formats.thumos import class_files, is_class_file
from lofi_tal.annotations.formats.video_events import has_events
from lofi_tal.annotations.soccernet import LABELS
from lofi_tal.errors import DataError
from lofi_tal.files import read_json, read_text

_SUFFIXES = {".eaf": "elan", ".xml": "cvat", ".boris": "boris"}
_THUMOS = re.compile(r"\s*\S+\s+[\d.]+\s+[\d.]+\s*")  # video, start, end
_LINES = 200  # that are looked at


def built_in_format(path: Path) -> str | None:
    """Return the name of the format, or None if it is none of ours.

    Raises:
        DataError: If a file that has to be looked into cannot be read.
    """
    if path.is_dir():
        if class_files(path):
            return "thumos"
        files = frame_files(path)
        if files and is_frame_wise(_lines(files[0])):
            return "frame-wise"
        return "soccernet" if any(next(path.rglob(name), None) for name in LABELS) else None
    if path.name.lower().endswith(".boris.gz"):
        return "boris"
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _of_json(read_json(path))
    if suffix in (".csv", ".tsv", ".txt"):
        return _of_text(path)
    return _SUFFIXES.get(suffix)


def content_of(path: Path) -> str:
    """Return what a file of no known format begins with, for a message."""
    try:
        if path.suffix.lower() == ".json":
            document = read_json(path)
            keys = ", ".join(map(repr, document)) if isinstance(document, dict) else ""
            return f" (an object with the keys {keys[:200]})" if keys else ""
        lines = _lines(path) if path.suffix.lower() == ".txt" else []
        return f" (it begins with {lines[0][:80]!r})" if lines else ""
    except DataError:
        return ""


def _of_json(document: Any) -> str | None:
    if has_events(document):
        return "events"
    if isinstance(document, list):
        return "csv" if is_records(document) and not any("data" in row for row in document) else "label-studio"
    if is_coin(document):
        return "coin"
    if is_project(document):
        return "boris"
    if isinstance(document, dict) and "database" in document:
        return "activitynet"
    if is_soccernet(document):
        return "soccernet"
    return "via" if isinstance(document, dict) and "metadata" in document else None


def _of_text(path: Path) -> str | None:
    """Return the format of a table or a plain text."""
    is_text = path.suffix.lower() == ".txt"
    try:
        lines, tables = _lines(path), read_tables(path)
        if find_boris(tables):
            return "boris"
        if is_audacity(lines) or (is_text and not lines and not is_class_file(path)):  # or a track without labels
            return "audacity"
        if is_elan_text(lines):
            return "elan-text"
        if is_text and is_frame_wise(lines):
            return "frame-wise"
        if is_text and all(_THUMOS.fullmatch(line) for line in lines):
            return "thumos"
        if is_text and not is_class_file(path) and not find_header(tables, COLUMNS):
            return None
    except DataError:
        if is_text and not is_class_file(path):
            raise
    return "thumos" if is_text and is_class_file(path) else "csv"


def _lines(path: Path) -> list[str]:
    """Return the first lines that hold something."""
    return [line for line in read_text(path).splitlines() if line.strip()][:_LINES]
