"""The labels file as it is: ActivityNet's JSON, of which everything is kept that the studio does not know.

Each action is a line of the file, so that versions of it can be compared line by line; only videos that change are
written anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import xxhash

from lofi_tal.annotations import VideoAnnotation, parse_annotations, read_document
from lofi_tal.errors import DataError
from lofi_tal.files import escaped, json_line
from lofi_tal.studio.contents import Action, Content, in_order

Stamp = tuple[int, int, int]
Visible = tuple[str, tuple[tuple[float, float, str, str], ...]]
"""What a labels file says of a video, without ids: its subset, and its actions by time."""

_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_KNOWN = ("segment", "label")


@dataclass
class Document:
    """The content of a labels file.

    Args:
        head: Everything but the videos.
        records: What it says of each video.
        texts: The same, as it is written.
        videos: The same, read.
        stamp: Of the file when it was read or written; None without one.
        hash: Of its bytes.
    """

    head: dict[str, Any] = field(default_factory=lambda: {"version": "VERSION 1.3", "taxonomy": []})
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    videos: dict[str, VideoAnnotation] = field(default_factory=dict)
    stamp: Stamp | None = None
    hash: str = ""

    @classmethod
    def read(cls, path: Path) -> Document:
        """Read a labels file; without one, it is empty.

        Raises:
            DataError: If it is no ActivityNet-style JSON, or a record is faulty.
        """
        stamp = stamp_of(path)
        if stamp is None:
            return cls()
        try:
            data = path.read_bytes()
            raw = read_document(path)
            videos = {} if _is_empty(raw) else dict(parse_annotations(raw, path).videos)
            records = raw.pop("database")
            texts = {video_id: _record_text(record) for video_id, record in records.items()}
            json_line(raw)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from error
        except ValueError as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path} holds NaN or Infinity, which JSON does not have: remove them.") from error
        return cls(raw, records, texts, videos, stamp, _hash(data))

    def copy(self) -> Document:
        """Return another one, in which something else may be said of videos."""
        return replace(
            self, head=dict(self.head), records=dict(self.records), texts=dict(self.texts), videos=dict(self.videos)
        )

    def content(self, video_id: str, ids: Iterable[Action] = (), prefix: str = "a") -> Content:
        """Return what the file says of a video; actions that are among ``ids`` have their ids.

        A video with actions counts as checked: somebody has made them.
        """
        video = self.videos.get(video_id)
        if video is None:
            return Content()
        free: dict[tuple[float, float, str, str], list[str]] = {}
        for one in ids:
            free.setdefault(_key(one), []).append(one.id)
        taken = {one.id for one in ids}
        actions = []
        for number, action in enumerate(self._actions(video_id, video)):
            known = free.get(_key(action))
            name = known.pop(0) if known else _unused(f"{prefix}{number}", taken)
            taken.add(name)
            actions.append(Action(name, action.start, action.end, action.label, action.more))
        return Content("checked" if actions else "new", video.subset, in_order(actions))

    def _actions(self, video_id: str, video: VideoAnnotation) -> list[Action]:
        raw = self.records[video_id].get("annotations") or []
        segments = video.segments
        times = zip(segments.start.tolist(), segments.end.tolist(), segments.label, raw, strict=True)
        return [
            Action("", start, end, label, {key: value for key, value in one.items() if key not in _KNOWN})
            for start, end, label, one in times
        ]

    def visible(self, video_id: str) -> Visible | None:
        """Return what the file says of a video, to be compared; None if it does not have it."""
        return visible(self.content(video_id)) if video_id in self.records else None

    def put(self, video_id: str, content: Content | None, facts: Mapping[str, float]) -> None:
        """Say something else of a video, or nothing of it any more.

        Args:
            video_id: The video.
            content: What to say.
            facts: ``duration`` and ``fps``, where the file does not say them.
        """
        if content is None:
            for held in (self.records, self.texts, self.videos):
                held.pop(video_id, None)
            return
        before = self.records.get(video_id, {})
        annotations = [{"segment": [one.start, one.end], "label": one.label, **one.more} for one in content.segments]
        known = {key: value for key, value in facts.items() if before.get(key) is None}
        record = {**known, **before, **known, "subset": content.subset, "annotations": annotations}
        self.records[video_id], self.texts[video_id] = record, _record_text(record)
        parsed = parse_annotations({"database": {video_id: record}}, Path("labels"))
        self.videos[video_id] = parsed.videos[video_id]

    def data(self) -> bytes:
        """Return the bytes of the file, and remember their hash."""
        lines = [f" {json_line(key)}: {json_line(value)}" for key, value in self.head.items()]
        videos = ",\n".join(f"  {json_line(video_id)}: {text}" for video_id, text in self.texts.items())
        lines.append(f' "database": {{\n{videos}\n }}' if videos else ' "database": {}')
        data = ("{\n" + ",\n".join(lines) + "\n}\n").encode(errors="backslashreplace")
        self.hash = _hash(data)
        return data


def visible(content: Content) -> Visible:
    """Return what of a content a labels file shows."""
    return content.subset, tuple(sorted(map(_key, content.segments)))


def stamp_of(path: Path) -> Stamp | None:
    """Return what changes whenever a file does; None if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _is_empty(raw: Any) -> bool:
    return isinstance(raw, dict) and raw.get("database") == {}


def _key(one: Action) -> tuple[float, float, str, str]:
    return one.start, one.end, one.label, _json(one.more) if one.more else ""


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "'"
    return name


def _record_text(record: Mapping[str, Any]) -> str:
    """Return a record with a line for each action."""
    return escaped("{" + ", ".join(f"{_json(key)}: {_value_text(key, value)}" for key, value in record.items()) + "}")


def _value_text(key: str, value: Any) -> str:
    if key != "annotations" or not isinstance(value, list) or not value:
        return _json(value)
    return "[\n   " + ",\n   ".join(map(_json, value)) + "\n  ]"


def _hash(data: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(data)
