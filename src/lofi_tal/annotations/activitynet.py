"""ActivityNet's JSON, the common language of the field (HACS Segments and converted THUMOS14 use it too).

``{"database": {id: {"duration": s, "subset": name, "annotations": [{"segment": [s, e], "label": name}]}}}``

A video may have ``"ignored": [{"segment": [s, e]}]`` beside them, a key of this package: parts that are neither action
nor background, such as THUMOS14's ``Ambiguous``. Other programs pass over keys that they do not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lofi_tal.annotations.document import Annotations, VideoAnnotation
from lofi_tal.annotations.values import read_duration, read_rate, read_seconds, read_text, shown
from lofi_tal.errors import DataError, nearest
from lofi_tal.files import read_json, with_home, write_json
from lofi_tal.segments import Segments

_Read = TypeVar("_Read")


def load_annotations(path: Path | str, *, strict: bool = True) -> Annotations:
    """Read annotations as they are: ids keep their ``v_`` if they have one, and odd segments are kept.

    Durations and segments may be strings (HACS Segments, some THUMOS14 files); a video may have no annotations
    (test subset). What cannot be right is refused, and the message says where it stands.

    Args:
        path: JSON file.
        strict: Refuse the file on the first faulty record. Otherwise leave faulty annotations and videos out
            and say so in ``notes``.

    Raises:
        DataError: If the file cannot be read, a record is faulty (``strict``), or there is no video.
    """
    return parse_annotations(read_document(path), path, strict=strict)


def read_document(path: Path | str) -> Any:
    """Read an annotation file as it is, and say of another tool's file what makes ActivityNet's JSON of it.

    Raises:
        DataError: If the file cannot be read.
    """
    path = with_home(path)
    if path.is_dir():
        raise DataError(
            f"{path} is a folder: give a JSON file. `lofi data convert` makes one of the folders of other tools; "
            "SoccerNet's games are also judged as they are, with `lofi evaluate --events`."
        )
    try:
        return read_json(path)
    except DataError as error:
        if path.suffix.lower() == ".json" or not path.is_file():
            raise
        raise DataError(
            f"{error} Expected annotations in ActivityNet's layout; `lofi data convert` makes it of the files of other "
            "tools."
        ) from None


def parse_annotations(document: Any, path: Path | str, *, strict: bool = True) -> Annotations:
    """Return the annotations in the content of a file; see :func:`load_annotations`.

    Args:
        document: The content.
        path: The file, for messages.
        strict: Refuse it on the first faulty record.

    Raises:
        DataError: If a record is faulty (``strict``), or there is no video.
    """
    path = Path(path)
    if not isinstance(document, dict) or not isinstance(document.get("database"), dict):
        raise DataError(
            f'{path}: expected {{"database": {{video id: {{...}}}}}} as ActivityNet has it, found {shown(document)}.'
        )
    reader = _Reader(path, strict)
    videos = {}
    for video_id, record in document["database"].items():
        try:
            videos[video_id] = reader.video(video_id, record)
        except DataError as error:
            reader.refuse(error)
    if not videos:
        raise DataError(f"{path}: the database holds no {'usable ' if reader.notes else ''}video.")
    return Annotations(videos, tuple(reader.notes))


def save_annotations(path: Path | str, annotations: Annotations) -> None:
    """Write annotations in one atomic step; :func:`load_annotations` reads back the same."""
    database = {}
    for video in annotations:
        rows = zip(video.segments.start, video.segments.end, video.segments.label, strict=True)
        records = [{"segment": [float(start), float(end)], "label": label} for start, end, label in rows]
        duration = {} if video.duration is None else {"duration": video.duration}
        rate = {} if video.fps is None else {"fps": video.fps}
        entry = {**duration, **rate, "subset": video.subset, "annotations": records}
        database[video.video_id] = {**entry, **ignored_entry(video)}
    write_json(Path(path), {"version": "VERSION 1.3", "taxonomy": [], "database": database})


def ignored_entry(video: VideoAnnotation) -> dict[str, Any]:
    """Return the key ``ignored`` of a video's entry; nothing for a video without ignored parts."""
    parts = [{"segment": span} for span in video.ignored.tolist()]
    return {"ignored": parts} if parts else {}


class _Reader:
    """Records of one file, checked; every message begins with where it stands."""

    def __init__(self, path: Path, strict: bool) -> None:
        self.path, self.strict = path, strict
        self.notes: list[str] = []

    def refuse(self, error: DataError) -> None:
        """Stop at a faulty record, or note it."""
        if self.strict:
            raise error
        self.notes.append(str(error))

    def video(self, video_id: str, record: Any) -> VideoAnnotation:
        where = f"{self.path}, video {video_id!r}"
        read_text(video_id, f"{self.path}, a video id")
        if not isinstance(record, dict):
            raise DataError(f"{where}: expected an object, found {shown(record)}.")
        if "subset" not in record:
            raise DataError(f"{where}: has no 'subset' (such as 'training'); it has {sorted(record)}.")
        refuse_other_keys(record, where)
        subset = read_text(record["subset"], f"{where}, subset")
        duration = record.get("duration")
        if duration is not None:
            duration = read_duration(duration, f"{where}, duration")
        records = self.listed(record, "annotations", where, "annotation", _annotation)
        spans = self.listed(record, "ignored", where, "ignored part", _span)
        segments = Segments.from_activitynet(video_id, records, duration)
        return VideoAnnotation(
            video_id,
            duration,
            subset,
            segments,
            np.array(spans, np.float64).reshape(-1, 2),
            read_rate(record.get("fps")),
        )

    def listed(
        self, record: dict[str, Any], key: str, where: str, one: str, read: Callable[[Any, str], _Read]
    ) -> list[_Read]:
        """Return what ``read`` makes of each member, ``one`` of the list under ``key``; without it there is none."""
        members = record.get(key)
        if not isinstance(members, list | None):
            raise DataError(f"{where}, {key}: expected a list, found {shown(members)}.")
        good = []
        for index, member in enumerate(members or []):
            try:
                good.append(read(member, f"{where}, {one} {index}"))
            except DataError as error:
                self.refuse(error)
        return good


def refuse_other_keys(record: Mapping[str, Any], where: str) -> None:
    """Refuse a video whose segments stand under another key: they would be lost without a word.

    Args:
        record: What an ActivityNet-style document holds of a video.
        where: Begins the message.

    Raises:
        DataError: With the key that is there, and the one that was expected.
    """
    if "annotations" in record:
        return
    for key, value in record.items():
        members = value if isinstance(value, list) else []
        holds = any(isinstance(one, dict) and ("segment" in one or "label" in one) for one in members)
        if key != "ignored" and (holds or nearest(key, ("annotations",))):
            hint = " As COIN has it: `lofi data convert --from coin` reads it." if key == "annotation" else ""
            raise DataError(f"{where}: has no 'annotations', but {key!r}; expected 'annotations' there.{hint}")


def _annotation(annotation: Any, where: str) -> dict[str, Any]:
    return {
        "segment": _span(annotation, where, "label"),
        "label": read_text(annotation["label"], f"{where}, label"),
    }


def _span(part: Any, where: str, *needed: str) -> list[float]:
    """Return ``segment`` of an object that needs to have it and more keys."""
    if not isinstance(part, dict):
        raise DataError(f"{where}: expected an object, found {shown(part)}.")
    missing = {"segment", *needed} - part.keys()
    if missing:
        raise DataError(f"{where}: has no {' and no '.join(map(repr, sorted(missing)))}; it has {sorted(part)}.")
    segment = part["segment"]
    if not isinstance(segment, list) or len(segment) != 2:
        raise DataError(f"{where}, segment: expected [start, end] in seconds, found {shown(segment)}.")
    return [read_seconds(value, f"{where}, segment") for value in segment]
