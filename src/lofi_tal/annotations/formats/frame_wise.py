"""A label for each frame, one a line: the ground truth of Breakfast, 50 Salads and GTEA as MS-TCN has it.

Source: ``groundTruth/<video>.txt`` and ``mapping.txt`` (``number label`` a line) of the data of
https://github.com/yabufarha/ms-tcn. Equal labels on neighbouring frames are one segment. Breakfast has 15 frames a
second, 50 Salads 30, GTEA 15: ``--fps`` says it, or the videos do.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from lofi_tal.annotations.formats.collecting import Collector
from lofi_tal.errors import DataError
from lofi_tal.files import is_companion, read_text

BACKGROUND = ("SIL", "background", "action_start", "action_end")
"""Labels of these data sets that mean that nothing happens, unless ``options.background`` names others."""

MAPPING = "mapping.txt"


def is_frame_wise(lines: list[str]) -> bool:
    """Say whether these lines are one label each."""
    return len(lines) > 2 and all(len(line.split()) == 1 and "," not in line for line in lines)


def frame_files(folder: Path) -> list[Path]:
    """Return the text files of a folder that may hold a label for each frame."""
    return sorted(p for p in folder.glob("*.txt") if not is_companion(p.name) and p.name != MAPPING)


def read_frame_wise(path: Path, into: Collector) -> None:
    """Read one file, or a folder of them.

    Raises:
        DataError: If there is none, or a line holds more than a label.
    """
    files = frame_files(path) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} holds no text files with a label for each frame.")
    quiet = set(into.options.background or BACKGROUND)
    left_out: dict[str, int] = {}
    for file in files:
        with into.part():
            for label in _read_file(file, into, quiet):
                left_out[label] = left_out.get(label, 0) + 1
    if left_out:
        listed = ", ".join(f"{count} {label!r}" for label, count in left_out.items())
        into.remarks.append(
            f"{path}: background, no segments: spans of {listed}; --background LABEL names other labels."
        )


def _read_file(path: Path, into: Collector, quiet: set[str]) -> list[str]:
    """Add the segments of one video, and return the labels of its spans without action."""
    lines = [line.strip() for line in read_text(path).splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if not line or "\t" in line:
            raise DataError(f"{path}, line {number}: expected one label, found {line!r}.")
    labels = _named(path, lines)
    rate = into.rate(str(path), path.stem)
    video = into.declare(str(path), path.stem, duration=len(labels) / rate if labels else None)
    left_out, frame = [], 0
    for label, run in groupby(labels):
        length = sum(1 for _ in run)
        if label in quiet:
            left_out.append(label)
        else:
            into.add(f"{path}, line {frame + 1}", video, frame / rate, (frame + length) / rate, label)
        frame += length
    return left_out


def _named(path: Path, lines: list[str]) -> list[str]:
    """Return the labels; numbers are looked up in ``mapping.txt``, beside the file or its folder."""
    if not lines or not all(line.isdecimal() for line in lines):
        return lines
    mapping = next((file for file in (path.with_name(MAPPING), path.parent.parent / MAPPING) if file.is_file()), None)
    if mapping is None:
        return lines
    pairs = [line.split(maxsplit=1) for line in read_text(mapping).splitlines() if line.strip()]
    names = {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}
    unknown = next((line for line in lines if line not in names), None)
    if unknown is not None:
        raise DataError(f"{path}: class {unknown!r} is not in {mapping}.")
    return [names[line] for line in lines]
