"""Events as video language models are asked for them, in JSON: which video, and start, end and label of each.

``{"video": id, "events": [{"start", "end", "label"}]}``, a list of these, or ``{id: {"events": [...]}}``, also with the
list alone. Times are seconds, as numbers or as ``m:ss`` and ``h:mm:ss``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lofi_tal.annotations.formats.collecting import Collector
from lofi_tal.annotations.values import read_number, read_text, read_time, shown
from lofi_tal.errors import DataError
from lofi_tal.files import read_json

_FIELDS = {"start", "end", "label"}


@dataclass(frozen=True)
class VideoEvents:
    """What a file says of one video.

    Args:
        video: Its id, or the name of its file.
        events: As they stand there.
        where: Place in the file, for messages.
    """

    video: str
    events: list[Any]
    where: str

    def read(self, number: int) -> tuple[float, float, str, float]:
        """Return start, end, label and score of an event; a missing score is 1.

        Raises:
            DataError: If something of it is missing or unusable.
        """
        event, at = self.events[number], f"{self.where}, event {number}"
        if not isinstance(event, Mapping) or (missing := _FIELDS - event.keys()):
            lacks = f"; it has no {' and no '.join(sorted(missing))}" if isinstance(event, Mapping) else ""
            raise DataError(f'{at}: found {shown(event)}{lacks}; expected {{"start", "end", "label"}}.')
        start, end = (read_time(event[key], f"{at}, {key}", None) for key in ("start", "end"))
        score = read_number(event.get("score", 1.0), f"{at}, score")
        return start, end, read_text(event["label"], f"{at}, label"), score


def has_events(document: Any) -> bool:
    """Say whether the content of a JSON file has this layout."""
    first = document[0] if isinstance(document, list) and document else document
    if not isinstance(first, Mapping):
        return False
    inner = first if "events" in first else next(iter(first.values()), None)
    return isinstance(inner, Mapping) and isinstance(inner.get("events"), list)


def events_of(document: Any, name: str, known: Collection[str] = ()) -> list[VideoEvents]:
    """Return the videos and events of a file.

    Args:
        document: Its content.
        name: Its name.
        known: Ids of the videos that there are: a file that names no video is of the one that it is named after, or of
            the only one. Without them it is of the one that it is named after.

    Raises:
        DataError: If it has another layout, or names no video.
    """
    if isinstance(document, Mapping) and "events" not in document and "video" not in document:
        documents = [{"video": video_id, **_object(one, f"{name}, {video_id!r}")} for video_id, one in document.items()]
    else:
        documents = document if isinstance(document, list) else [document]
    found = []
    for number, content in enumerate(documents):
        where = f"{name}, entry {number}" if len(documents) > 1 else name
        one = _object(content, where)
        if not isinstance(events := one.get("events"), list):
            raise DataError(
                f'{where}: found {shown(one)}; expected detections, {{"results": {{...}}}}, or events, {{"video": id, '
                '"events": [{"start", "end", "label"}]}}, a list of these, or {id: {"events": [...]}}.'
            )
        video = _video_of(one, where, name, known)
        found.append(VideoEvents(video, events, f"{name}, {video}"))
    return found


def read_video_events(path: Path, into: Collector) -> None:
    """Read one such file; scores are left out.

    Raises:
        DataError: If it has another layout.
    """
    for one in events_of(read_json(path), path.name):
        video = into.declare(f"{path}: {one.where}", one.video)
        for number in range(len(one.events)):
            with into.part():
                start, end, label, _ = one.read(number)
                into.add(f"{path}: {one.where}, event {number}", video, start, end, label)


def _object(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, list):  # {id: [events]}
        return {"events": value}
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: expected an object with events, found {shown(value)}.")
    return dict(value)


def _video_of(one: Mapping[str, Any], where: str, name: str, known: Collection[str]) -> str:
    """Return the id of the video that an entry is about; an id with the suffix of its file is that without it."""
    for key in ("video", "video_id", "id"):
        if key in one:
            video_id = read_text(one[key], f"{where}, {key}")
            return video_id if video_id in known or Path(video_id).stem not in known else Path(video_id).stem
    stem = Path(name).stem
    if stem in known or len(known) != 1:
        if stem not in known and known:
            raise DataError(f'{where} names no video: add "video": id, or name the file after it.')
        return stem
    return next(iter(known))
