"""Labels out of the studio and into it, in every format that the project reads and writes."""

from __future__ import annotations

import base64
import binascii
import io
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lofi_tal.annotations import Annotations, VideoAnnotation
from lofi_tal.annotations.formats import (
    Imported,
    ImportOptions,
    VideoFacts,
    VideoFolder,
    import_annotations,
    list_formats,
)
from lofi_tal.annotations.formats.collecting import facts_of
from lofi_tal.annotations.formats.export import CLASS_LIST, FOLDERS, WRITERS
from lofi_tal.annotations.formats.export_projects import CONFIGURATION
from lofi_tal.annotations.formats.guessing import built_in_format
from lofi_tal.annotations.values import shown
from lofi_tal.errors import DataError, LofiError, counted, nearest
from lofi_tal.files import read_json
from lofi_tal.studio.classes import annotations_of
from lofi_tal.studio.contents import Action, Content, in_order
from lofi_tal.studio.desk import Desk
from lofi_tal.studio.drafts import IMPORT, read_drafts, source_of
from lofi_tal.studio.refusals import MissingError
from lofi_tal.studio.shelf import Shelf
from lofi_tal.video import VideoError

_SUFFIXES = {"csv": ".csv", "boris": ".boris"}
_MOST_FILES = 5000  # of a zip file
_MOST_BYTES = 64 * 2**20  # of what a zip file holds
_MOST_NOTES = 50
_AS_IT_IS = "as it is"  # in the place of a subset: the file names none
_LONGEST_NAME = 150


class ShelfFacts(VideoFolder):
    """Facts of the studio's videos, in the place of those that an importer or exporter would look for itself."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def facts(self, video_id: str) -> VideoFacts:
        """Return the facts of one video.

        Raises:
            VideoError: If it is not there or cannot be read.
        """
        facts = facts_of(self._shelf.record(video_id))
        if isinstance(facts, VideoError):
            raise facts
        return facts

    def open(self, video_ids: list[str]) -> None:
        """Examine videos that are not known yet, side by side."""
        self._shelf.examine_now(video_ids)


@dataclass(frozen=True)
class Download:
    """A file for the user: its name, its bytes, and its content type."""

    name: str
    data: bytes
    kind: str


def export_labels(desk: Desk, target: str) -> Download:
    """Return all labels in a format; several files are one zip file.

    Raises:
        MissingError: If there is no such format.
        DataError: If there are no labels, or they do not fit into it.
    """
    if target not in WRITERS:
        raise MissingError(
            f"format {shown(target)} is unknown; allowed: {', '.join(WRITERS)}.{nearest(target, WRITERS)}"
        )
    with desk.lock:
        names = [video_id for video_id in desk.book.contents if desk.book.shown(video_id) is not None]
    desk.shelf.examine_now(names)
    with desk.lock:
        labelled = annotations_of(desk.book)
    if not len(labelled):
        raise DataError("There is nothing to export yet: no video has an action or is checked.")
    stem = desk.labels.stem
    with tempfile.TemporaryDirectory(prefix="lofi-studio-") as folder:
        place = Path(folder)
        tool = "" if target in ("activitynet", "csv") else f"-{target}"
        path = place if target in FOLDERS else place / f"{stem}{tool}{_SUFFIXES.get(target, '.json')}"
        WRITERS[target](path, labelled, ShelfFacts(desk.shelf))
        files = sorted(place.iterdir())
        if len(files) == 1 and target not in FOLDERS:
            kind = "text/csv" if target == "csv" else "application/json"
            return Download(files[0].name, files[0].read_bytes(), kind)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.name)
    return Download(f"{stem}-{target}.zip", packed.getvalue(), "application/zip")


def import_labels(desk: Desk, body: Mapping[str, Any]) -> dict[str, Any]:
    """Take labels or drafts from a file that a page has uploaded; return what came of it.

    Args:
        desk: Videos and labels.
        body: ``format`` ("auto" without), ``name``, ``text`` or ``base64``, ``as`` ("labels" or "drafts"), ``fps``,
            ``replace``.

    Raises:
        LofiError: If a value cannot be used.
        DataError: If the file cannot be read, or has nothing for these videos.
    """
    kind, name = body.get("format", "auto"), _file_name(body.get("name"))
    formats = ("auto", "detections", *list_formats())
    if kind not in formats:
        hint = nearest(kind, formats) if isinstance(kind, str) else ""
        raise LofiError(f"format: {shown(kind)} is unknown; allowed: {', '.join(formats)}.{hint}")
    wish = body.get("as", "labels")
    if wish not in ("labels", "drafts"):
        raise LofiError(f"as: {shown(wish)} is not one of labels, drafts.")
    fps = body.get("fps")
    if fps is not None and (isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps <= 1000):
        raise LofiError(f"fps: {shown(fps)} is not between 0 and 1000.")
    with tempfile.TemporaryDirectory(prefix="lofi-studio-") as folder:
        try:
            paths = _unpacked(Path(folder), name, _data(body))
            if wish == "drafts" and (found := _detections(paths, name, kind, desk)) is not None:
                return _take_drafts(desk, found, [])
            options = ImportOptions(_AS_IT_IS, fps, strict=False, videos=ShelfFacts(desk.shelf))
            imported = import_annotations(paths, None if kind in ("auto", "detections") else kind, options)
        except DataError as error:
            raise DataError(str(error).replace(f"{folder}/", "").replace(folder, name)) from error
        notes = [note.replace(f"{folder}/", "") for note in (*imported.remarks, *imported.annotations.notes)]
    if wish == "drafts":
        return _take_drafts(desk, _as_drafts(imported.annotations, name), notes)
    return _take_labels(desk, imported, notes, replaces=body.get("replace") is True)


def _file_name(value: Any) -> str:
    """Return the plain name of a file, which says its format and sometimes its video."""
    text = value if isinstance(value, str) else ""
    name = text.replace("\\", "/").rpartition("/")[2].strip()
    if not name.strip(".") or not name.isprintable() or len(name.encode(errors="replace")) > _LONGEST_NAME:
        raise LofiError(f"name: expected the name of the file, such as labels.json, found {shown(value)}.")
    return name


def _data(body: Mapping[str, Any]) -> bytes:
    text, coded = body.get("text"), body.get("base64")
    if isinstance(text, str) and coded is None:
        return text.encode(errors="backslashreplace")
    if not isinstance(coded, str) or text is not None:
        raise LofiError("Expected the content of the file as text or as base64, one of them.")
    try:
        return base64.b64decode(coded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise LofiError(f"base64: {error}.") from error


def _unpacked(folder: Path, name: str, data: bytes) -> list[Path]:
    """Write what was uploaded into a folder; a zip file as the files in it."""
    if not name.lower().endswith(".zip"):
        (folder / name).write_bytes(data)
        return [folder / name]
    paths: list[Path] = []
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
            if len(members) > _MOST_FILES or sum(one.file_size for one in members) > _MOST_BYTES:
                raise DataError(f"{name} holds more than {_MOST_FILES} files or {_MOST_BYTES} bytes: unpack it first.")
            for member in members:
                inner = _file_name(member.filename)
                if inner in (CONFIGURATION, CLASS_LIST) or inner.startswith("."):
                    continue
                with archive.open(member) as file:
                    held = file.read(_MOST_BYTES + 1)
                if (folder / inner).exists() or len(held) > _MOST_BYTES:
                    raise DataError(f"{name} holds two files {inner!r}, or one that is too large.")
                (folder / inner).write_bytes(held)
                paths.append(folder / inner)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        if isinstance(error, LofiError):
            raise
        raise DataError(f"{name} is no zip file that can be read: {error}.") from error
    if not paths:
        raise DataError(f"{name} holds no file of labels.")
    return paths


def _detections(paths: list[Path], name: str, kind: str, desk: Desk) -> dict[str, list[dict[str, Any]]] | None:
    """Return drafts that a model made; None if it is a file of labels."""
    if kind not in ("auto", "detections") or len(paths) != 1 or paths[0].suffix.lower() != ".json":
        return None
    if kind == "auto" and built_in_format(paths[0]) not in (None, "events"):
        return None
    return read_drafts(read_json(paths[0]), name, desk.video_ids())


def _as_drafts(labelled: Annotations, name: str) -> dict[str, list[dict[str, Any]]]:
    source = source_of(IMPORT, name)
    return {
        video.video_id: [
            {"id": f"i{number}", "start": one.start, "end": one.end, "label": one.label, "score": 1.0, "source": source}
            for number, one in enumerate(video.segments)
            if one.start < one.end
        ]
        for video in labelled
    }


def _take_drafts(desk: Desk, found: Mapping[str, list[dict[str, Any]]], notes: list[str]) -> dict[str, Any]:
    known, unknown = {}, []
    for video_id, drafts in found.items():
        if (ours := desk.resolve(video_id)) is None:
            unknown.append(video_id)
        else:
            known[ours] = drafts
    notes = [*notes, *_unknown(unknown)]
    if not known:
        raise DataError(f"None of the videos of the file is here. {' '.join(notes[:1])}")
    put, given = desk.put_drafts(known, IMPORT), sum(map(len, known.values()))
    notes += [f"Left out, for they are actions already: {counted(given - put, 'draft')}."] if put < given else []
    return _answer(put, len(known), 0, notes)


def _take_labels(desk: Desk, imported: Imported, notes: list[str], *, replaces: bool) -> dict[str, Any]:
    contents, unknown, kept = {}, [], []
    with desk.lock:
        for video in imported.annotations:
            ours = desk.resolve(video.video_id)
            if ours is None:
                unknown.append(video.video_id)
            elif (before := desk.book.content(ours)).segments and not replaces:
                kept.append(ours)
            else:
                contents[ours] = _imported(video, before, f"i{desk.book.number + 1}-")
        if unknown and not contents and not kept:
            raise DataError(f"None of the videos of the file is here. {' '.join(_unknown(unknown))}")
        desk.apply(contents, "Import")
    if kept:
        notes = [*notes, f"Videos that have actions already, left as they are: {_some(kept)}."]
    count = sum(len(content.segments) for content in contents.values())
    return _answer(count, len(contents), len(kept), [*notes, *_unknown(unknown)])


def _imported(video: VideoAnnotation, before: Content, prefix: str) -> Content:
    actions = [
        Action(f"{prefix}{number}", one.start, one.end, one.label)
        for number, one in enumerate(video.segments)
        if one.start < one.end
    ]
    subset = before.subset if video.subset == _AS_IT_IS else video.subset
    state = "checked" if actions else before.state
    return replace(before, state=state, subset=subset, segments=in_order(actions))


def _unknown(video_ids: list[str]) -> list[str]:
    if not video_ids:
        return []
    return [f"Videos of the file that are not in this folder, left out: {_some(list(map(shown, video_ids)))}."]


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f", and {len(names) - 5} more" if len(names) > 5 else "")


def _answer(segments: int, videos: int, kept: int, notes: list[str]) -> dict[str, Any]:
    more = [f"... and {len(notes) - _MOST_NOTES} more notes."] if len(notes) > _MOST_NOTES else []
    return {"segments": segments, "videos": videos, "kept": kept, "notes": [*notes[:_MOST_NOTES], *more]}
