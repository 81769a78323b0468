"""ELAN's export "Tab-delimited Text": an annotation a line, with or without a header.

Source: https://www.mpi.nl/tools/elan/docs/manual/Sec_Exporting_a_document_as_a_tab_delimited_text_file.html. What is
in a line is chosen in the export: tier and participant; then begin, end and duration, each in one to four notations
(``hh:mm:ss.ms``, ``ss.msec``, ``msec``, ``hh:mm:ss:ff``); then the annotation, or with a header one column a tier.
Begin and end are told by what they look like, so that a header in any language, or none, will do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lofi_tal.annotations.formats.collecting import Collector
from lofi_tal.errors import DataError, nearest
from lofi_tal.files import read_text

_KINDS = {
    "clock": re.compile(r"\d+:\d\d:\d\d[.,]\d+", re.ASCII),
    "frames": re.compile(r"\d+:\d\d:\d\d[:;]\d\d", re.ASCII),
    "seconds": re.compile(r"\d+[.,]\d+", re.ASCII),
    "msec": re.compile(r"\d+", re.ASCII),
}
_NOTATIONS = ("hh:mm:ss.ms", "ss.msec", "msec", "hh:mm:ss:ff", "smpte")
_SLACK = 0.002  # seconds by which begin + duration may differ from end


@dataclass(frozen=True)
class _Line:
    """Fields before the times, begin and end in seconds, fields after them, and the column of the first of these."""

    before: list[str]
    start: float
    end: float
    after: list[str]
    column: int


def is_elan_text(lines: list[str]) -> bool:
    """Say whether the first lines that are no header are such an export."""
    body = [line for line in lines if "\t" in line and not _is_header(line)]
    return bool(body) and all(_parse(line.split("\t")) is not None for line in body)


def read_elan_text(path: Path, into: Collector) -> None:
    """Read one file; ``options.layers`` names the tiers to read. The video is that of the file's name.

    Raises:
        DataError: If the file is no such export, or a tier is not there.
    """
    header: list[str] = []
    video = into.declare(str(path), path.stem)
    tiers: dict[str, None] = {}
    count = 0
    for number, text in enumerate(read_text(path).splitlines(), start=1):
        if not text.strip() or text.lstrip('"').startswith("#"):
            continue
        if _is_header(text) and not count:
            header = text.split("\t")
            continue
        count += 1
        where = f"{path}, line {number}"
        with into.part():
            line = _parse(text.split("\t"))
            if line is None:
                raise DataError(f"{where}: expected tier, begin, end and annotation, separated by tabs.")
            for tier, label in _labels(line, header):
                tiers[tier] = None
                if not into.options.layers or tier in into.options.layers:
                    into.add(where, video, line.start, line.end, label)
    for name in into.options.layers:
        if name not in tiers:
            raise DataError(f"{path} has no tier {name!r}; it has {', '.join(map(repr, tiers))}.{nearest(name, tiers)}")


def _is_header(line: str) -> bool:
    """Say whether a line names columns of times: each ends in its notation, whatever the language."""
    return any(name.strip().lower().endswith(_NOTATIONS) for name in line.split("\t"))


def _labels(line: _Line, header: list[str]) -> Iterator[tuple[str, str]]:
    """Yield tier and annotation: one, or with a header the cells of the tiers that have one."""
    if line.before and line.before[0]:
        yield line.before[0], line.after[0] if line.after else ""
        return
    names = header[line.column :]
    for number, label in enumerate(line.after):
        if label.strip() or not names:
            yield names[number].strip() if number < len(names) else "", label


def _parse(fields: list[str]) -> _Line | None:
    """Return a line as its parts; None if it has no times where they should be."""
    for first in range(min(3, len(fields))):
        kinds = []
        for field in fields[first:]:
            kind = next((kind for kind, pattern in _KINDS.items() if pattern.fullmatch(field.strip())), None)
            if kind is None:
                break
            kinds.append(kind)
        for notations in range(4, 0, -1):
            line = _times(fields, first, kinds, notations)
            if line is not None:
                return line
    return None


def _times(fields: list[str], first: int, kinds: list[str], notations: int) -> _Line | None:
    """Return the line if begin, end and perhaps duration stand there in so many notations, each in the same order."""
    pattern = kinds[:notations]
    if len(set(pattern)) < notations or set(pattern) == {"frames"} or kinds[notations : 2 * notations] != pattern:
        return None
    one = next(index for index, kind in enumerate(pattern) if kind != "frames")
    start = _seconds(fields[first + one], pattern[one])
    end = _seconds(fields[first + notations + one], pattern[one])
    after = first + 2 * notations
    if kinds[2 * notations : 3 * notations] == pattern:
        duration = _seconds(fields[after + one], pattern[one])
        after += notations if abs(start + duration - end) <= _SLACK else 0
    return _Line(fields[:first], start, end, fields[after:], after)


def _seconds(text: str, kind: str) -> float:
    text = text.strip().replace(",", ".")
    if kind == "msec":
        return float(text) / 1000
    if kind == "seconds":
        return float(text)
    hours, minutes, seconds = text.split(":")
    return 3600 * float(hours) + 60 * float(minutes) + float(seconds)
