"""Annotations in the formats that tools and benchmarks have, read into the one form of this package.

Each importer is a function ``(path, collector)`` in a module of its own; :data:`READERS` names them. Other packages add
importers as entry points of the group ``lofi_tal.importers``; an attribute ``suffixes`` of the function, such as
``(".own",)``, says which files it recognises.
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
from lofi_tal.errors import DataError, LofiError
from lofi_tal.files import read_json
from lofi_tal.registry import Registry

__all__ = [
    "READERS",
    "Collector",
    "ImportOptions",
    "Imported",
    "VideoFacts",
    "VideoFolder",
    "canonical_subset",
    "guess_format",
    "import_annotations",
    "list_formats",
    "video_id_of",
]


def read_activitynet(path: Path, into: Collector) -> None:
    """Read ActivityNet's JSON; HACS Segments, OpenTAD and ActionFormer have the same with more or fewer fields."""
    annotations = load_annotations(path, strict=into.options.strict)
    into.refused += annotations.notes
    for video in annotations:
        with into.part():
            into.adopt(video)


READERS: Registry[Callable[[Path, Collector], None]] = Registry("format", "lofi_tal.importers")
"""Importers by the name of their format."""

READERS.register("activitynet")(read_activitynet)
READERS.register("csv")(read_csv)
READERS.register("elan")(read_elan)
READERS.register("via")(read_via)
READERS.register("label-studio")(read_label_studio)
READERS.register("cvat")(read_cvat)
READERS.register("thumos")(read_thumos)

_SUFFIXES = {".csv": "csv", ".tsv": "csv", ".eaf": "elan", ".xml": "cvat", ".txt": "thumos"}


def list_formats() -> tuple[str, ...]:
    """Return the names of all formats: the built-in ones, then those of other packages in alphabetical order."""
    return READERS.names()


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
        name: One of :func:`list_formats`; told from the files without it.
        options: Defaults without them.

    Raises:
        LofiError: If the format is unknown or its package cannot be imported.
        DataError: If something cannot be used (strict options), or nothing is left.
    """
    reader = None if name is None else READERS.get(name)
    collector = Collector(options or ImportOptions())
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise LofiError(f"{path} is given twice.")
        is_class_file = path.suffix.lower() == ".txt" and name in (None, "thumos")
        source = path.parent if is_class_file else path  # a class file alone is part of its folder
        with collector.source(source):
            (reader or READERS.get(guess_format(path)))(path, collector)
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
    return _guess_outside(path)


def _guess_outside(path: Path) -> str:
    """Return the format of another package that claims the suffix of a file."""
    claims, problems = [], ""
    for name in READERS.outside():
        try:
            suffixes = getattr(READERS.get(name), "suffixes", ())
        except LofiError as error:  # broken, but perhaps not the one that is needed
            problems += f" {error}"
            continue
        if path.suffix.lower() in suffixes:
            claims.append(name)
    if len(claims) == 1:
        return claims[0]
    if claims:
        raise DataError(f"{path} may be of several formats: name one with --from: {', '.join(claims)}.")
    raise DataError(
        f"{path}: the format cannot be told from the file; name it with --from: {', '.join(READERS)}.{problems}"
    )
