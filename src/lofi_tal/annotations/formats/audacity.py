"""Label tracks that Audacity exports: lines of start, end and label, separated by tabs, in seconds.

Source: https://manual.audacityteam.org/man/importing_and_exporting_labels.html. A label at a point has equal times. A
line that begins with a backslash gives the frequencies of the label before it. The video is that of the file's name.
"""

from __future__ import annotations

import re
from pathlib import Path

from lofi_tal.annotations.formats.collecting import Collector
from lofi_tal.annotations.values import read_time
from lofi_tal.errors import DataError
from lofi_tal.files import read_text

_NUMBER = r"-?\d+(?:[.,]\d*)?"
_LINE = re.compile(rf"(?:\\\t.*|({_NUMBER})\t({_NUMBER})(?:\t(.*))?|({_NUMBER}) +({_NUMBER}) +([^\d\s].*))", re.ASCII)


def is_audacity(lines: list[str]) -> bool:
    """Say whether these lines are of a label track."""
    return bool(lines) and all(_LINE.fullmatch(line) for line in lines)


def read_audacity(path: Path, into: Collector) -> None:
    """Read one label track; blanks may stand for the tabs, as early versions wrote them.

    Raises:
        DataError: If the file cannot be read.
    """
    video = into.declare(str(path), path.stem)
    points = 0
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip() or line.startswith("\\"):
            continue
        where = f"{path}, line {number}"
        with into.part():
            found = _LINE.fullmatch(line)
            if found is None:
                raise DataError(f"{where}: expected 'start<tab>end<tab>label', found {line[:80]!r}.")
            first, last, label = found[1] or found[4], found[2] or found[5], found[3] or found[6] or ""
            start, end = read_time(first, f"{where}, start"), read_time(last, f"{where}, end")
            if start == end:
                points += 1
            else:
                into.add(where, video, start, end, label)
    into.passed_over(str(path), points, "label", "points in time")
