"""Annotations in the formats that tools and benchmarks have, read into the one form of this package.

Each importer is a function ``(path, collector)`` in a module of its own; :data:`READERS` names them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lofi_tal.annotations.activitynet import load_annotations
from lofi_tal.annotations.document import Annotations
from lofi_tal.annotations.formats.collecting import (
    Collector,
    ImportOptions,
    VideoFacts,
    VideoFolder,
    canonical_subset,
    video_id_of,
)
from lofi_tal.annotations.formats.csv_table import read_csv
from lofi_tal.annotations.formats.cvat import read_cvat
from lofi_tal.annotations.formats.elan import read_elan
from lofi_tal.annotations.formats.label_studio import read_label_studio
from lofi_tal.annotations.formats.thumos import class_files, read_thumos
from lofi_tal.annotations.formats.via import read_via
from lofi_tal.errors import DataError, LofiError, nearest
from lofi_tal.files import read_json

__all__ = [
    "READERS",
    "ImportOptions",
    "Imported",
    "VideoFacts",
    "VideoFolder",
    "canonical_subset",
    "guess_format",
    "import_annotations",
    "video_id_of",
]


def read_activitynet(path: Path, into: Collector) -> None:
    """Read ActivityNet's JSON; HACS Segments, OpenTAD and ActionFormer have the same with more or fewer fields."""
    annotations = load_annotations(path, strict=into.options.strict)
    into.refused += annotations.notes
    for video in annotations:
        with into.part():
            into.adopt(video)


READERS: dict[str, Callable[[Path, Collector], None]] = {
    "activitynet": read_activitynet,
    "csv": read_csv,
    "elan": read_elan,
    "via": read_via,
    "label-studio": read_label_studio,
    "cvat": read_cvat,
    "thumos": read_thumos,
}
"""Importers by the name of their format."""

_SUFFIXES = {".csv": "csv", ".tsv": "csv", ".eaf": "elan", ".xml": "cvat", ".txt": "thumos"}


@dataclass(frozen=True, eq=False)
class Imported:
    """What an import gave.

    Args:
        annotations: The videos; ``notes`` says what could not be used and was left out (lenient imports).
        remarks: What was left out because it is no action, and other things worth knowing.
    """

    annotations: Annotations
    remarks: tuple[str, ...]


def import_annotations(
    paths: Sequence[Path], name: str | None = None, options: ImportOptions | None = None
) -> Imported:
    """Read annotations of any format.

    Args:
        paths: Files, or a folder of THUMOS14's class files; together they are one data set.
        name: One of :data:`READERS`; told from the files without it.
        options: Defaults without them.

    Raises:
        LofiError: If the format is unknown.
        DataError: If something cannot be used (strict options), or nothing is left.
    """
    if name is not None and name not in READERS:
        raise LofiError(f"format {name!r} is unknown; allowed: {', '.join(READERS)}.{nearest(name, READERS)}")
    collector = Collector(options or ImportOptions())
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise LofiError(f"{path} is given twice.")
        source = path.parent if path.suffix.lower() == ".txt" else path  # a class file alone is part of its folder
        with collector.source(source):
            READERS[name or guess_format(path)](path, collector)
    return Imported(collector.result(), tuple(collector.remarks))


def guess_format(path: Path) -> str:
    """Return the name of the format that a file or folder seems to have.

    Raises:
        DataError: If it looks like none.
    """
    if path.is_dir():
        if class_files(path):
            return "thumos"
    elif path.suffix.lower() in _SUFFIXES:
        return _SUFFIXES[path.suffix.lower()]
    elif path.suffix.lower() == ".json":
        document = read_json(path)
        if isinstance(document, list):
            return "label-studio"
        if isinstance(document, dict) and "database" in document:
            return "activitynet"
        if isinstance(document, dict) and "metadata" in document:
            return "via"
    raise DataError(f"{path}: the format cannot be told from the file; name it with --from: {', '.join(READERS)}.")
