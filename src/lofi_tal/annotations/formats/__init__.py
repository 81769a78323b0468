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
from lofi_tal.annotations.formats.audacity import read_audacity
from lofi_tal.annotations.formats.boris import read_boris
from lofi_tal.annotations.formats.coin import read_coin
from lofi_tal.annotations.formats.collecting import (
    Collector,
    ImportOptions,
    VideoFacts,
    VideoFolder,
    adopt_all,
    canonical_subset,
    video_id_of,
)
from lofi_tal.annotations.formats.csv_table import read_csv
from lofi_tal.annotations.formats.cvat import read_cvat
from lofi_tal.annotations.formats.elan import read_elan
from lofi_tal.annotations.formats.elan_text import read_elan_text
from lofi_tal.annotations.formats.frame_wise import read_frame_wise
from lofi_tal.annotations.formats.guessing import built_in_format, content_of
from lofi_tal.annotations.formats.label_studio import read_label_studio
from lofi_tal.annotations.formats.soccernet_games import read_soccernet
from lofi_tal.annotations.formats.thumos import read_thumos
from lofi_tal.annotations.formats.via import read_via
from lofi_tal.annotations.formats.video_events import read_video_events
from lofi_tal.errors import DataError, LofiError
from lofi_tal.files import with_home
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
    adopt_all(load_annotations(path, strict=into.options.strict), into)


READERS: Registry[Callable[[Path, Collector], None]] = Registry("format", "lofi_tal.importers")
"""Importers by the name of their format."""

READERS.register("activitynet")(read_activitynet)
READERS.register("csv")(read_csv)
READERS.register("elan")(read_elan)
READERS.register("via")(read_via)
READERS.register("label-studio")(read_label_studio)
READERS.register("cvat")(read_cvat)
READERS.register("thumos")(read_thumos)
READERS.register("coin")(read_coin)
READERS.register("boris")(read_boris)
READERS.register("elan-text")(read_elan_text)
READERS.register("audacity")(read_audacity)
READERS.register("frame-wise")(read_frame_wise)
READERS.register("soccernet")(read_soccernet)
READERS.register("events")(read_video_events)


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
        path = with_home(path)
        with collector.part():
            kind = name or guess_format(path)
            # a class file alone is part of its folder
            source = path.parent if kind == "thumos" and path.suffix.lower() == ".txt" else path
            with collector.source(source):
                (reader or READERS.get(kind))(path, collector)
    return Imported(collector.result(), tuple(collector.remarks))


def guess_format(path: Path) -> str:
    """Return the name of the format that a file or folder seems to have.

    Raises:
        DataError: If it looks like none.
    """
    kind = built_in_format(path)
    return _guess_outside(path) if kind is None else kind


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
        f"{path}: the format cannot be told from the file{content_of(path)}; name it with --from: "
        f"{', '.join(READERS)}. Tables of other programs are read with --columns video=...,start=...,end=...,label=..."
        f".{problems}"
    )
