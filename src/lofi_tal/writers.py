"""Detections of one video as text, in formats by name.

Other packages add formats as entry points of the group ``lofi_tal.writers``: a function ``(Segments) -> str``, or a
:class:`Writer` where the suffix is another than the name of the format.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lofi_tal.errors import LofiError, nearest
from lofi_tal.files import inside, json_text, write_text
from lofi_tal.registry import Registry
from lofi_tal.segments import Segments, detections_to_activitynet
from lofi_tal.showing import Shown

PAGE = "html"
"""The timeline page, which needs the video as well."""
SOCCERNET = "soccernet"
"""SoccerNet's results, one file for the two halves of a game: it needs to know where the videos lie."""
OTHERS = (SOCCERNET, PAGE)
"""Formats that are no text of one video."""
DEFAULT_FORMATS = ("json", "csv", "srt", PAGE)
"""What `lofi detect` writes unless it is told otherwise."""


@dataclass(frozen=True)
class Writer:
    """A format.

    Args:
        text: Returns the text of a file.
        suffix: Of the file, such as ``.csv``.
        all_segments: It is given all segments, not only those that are shown.
    """

    text: Callable[[Segments], str]
    suffix: str
    all_segments: bool = False

    def __post_init__(self) -> None:
        for name in ("__module__", "__qualname__"):  # tell the registry where the function comes from
            object.__setattr__(self, name, getattr(self.text, name))

    def __call__(self, segments: Segments) -> str:
        """Return the text of the file of one video."""
        return self.text(segments)


WRITERS: Registry[Callable[[Segments], str]] = Registry("format", "lofi_tal.writers")
"""Every format of text that is installed."""


def list_writers() -> tuple[str, ...]:
    """Return the names of all text formats: the built-in ones, then those of other packages in alphabetical order."""
    return WRITERS.names()


def get_writer(name: str) -> Writer:
    """Return a format; the suffix of a plain function is ``.name``.

    Raises:
        LofiError: If the name is unknown or its package cannot be imported.
    """
    writer = WRITERS.get(name)
    return writer if isinstance(writer, Writer) else Writer(writer, f".{name}")


def check_formats(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of formats, each once.

    Raises:
        LofiError: If one is unknown or cannot be imported, or two write the same file.
    """
    known = (*list_writers(), *OTHERS)
    suffixes: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if name not in known:
            raise LofiError(f"format {name!r} is unknown; known: {', '.join(known)}.{nearest(name, known)}")
        suffix = _suffix(name)
        if suffix in suffixes:
            raise LofiError(f"The formats {suffixes[suffix]!r} and {name!r} both write *{suffix} files: choose one.")
        suffixes[suffix] = name
    return tuple(suffixes.values())


def unique_names(files: Sequence[Path]) -> list[str]:
    """Return what the results of video files are called: their stems, with a number where they are equal."""
    names: dict[str, None] = {}
    for path in files:
        stem = os.fsencode(path.stem).decode(errors="replace")  # a name of other bytes is no text for a JSON file
        name, number = stem, 2
        while name in names:
            name, number = f"{stem}-{number}", number + 1
        names[name] = None
    return list(names)


def detection_files(out: Path, video_id: str, formats: Sequence[str]) -> list[Path]:
    """Return the files of one video, in the order of the formats; SoccerNet's are not of one video."""
    return [inside(out, video_id, _suffix(name)) for name in formats if name != SOCCERNET]


def write_detections(segments: Segments, out: Path, shown: Shown, formats: Sequence[str]) -> None:
    """Write the text formats among ``formats``, each into ``out/<video id><suffix>``."""
    few = shown.of(segments)
    for name in formats:
        if name not in OTHERS:
            writer = get_writer(name)
            text = writer(segments if writer.all_segments else few)
            write_text(inside(out, segments.video_id, writer.suffix), text)


def _suffix(name: str) -> str:
    return f".{name}" if name in OTHERS else get_writer(name).suffix


def _json(segments: Segments) -> str:
    return json_text(detections_to_activitynet([segments]))


WRITERS.register("json")(Writer(_json, ".json", all_segments=True))
WRITERS.register("csv")(Writer(Segments.to_csv, ".csv"))
WRITERS.register("srt")(Writer(Segments.to_srt, ".srt"))
