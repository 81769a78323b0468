"""Drafts: what a model, or a file of another system, suggests for videos; a person accepts, corrects or rejects each.

A draft is ``{id, start, end, label, score, source}``, times in seconds on the player's clock. ``source`` begins with
``model:`` or ``import:`` and goes on with a name.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lofi_tal.annotations.values import read_number, read_text, read_time
from lofi_tal.annotations.values import shown as told
from lofi_tal.artefacts import read_record
from lofi_tal.errors import DataError, LofiError
from lofi_tal.evaluation import ScoreSheet, load_sheet
from lofi_tal.model_folders import RECORD
from lofi_tal.segments import Segments, detections_from_activitynet
from lofi_tal.showing import Shown
from lofi_tal.studio.contents import read_label

MODEL, IMPORT = "model", "import"
"""Kinds of sources."""
MOST = 300
"""Drafts of a video; the best are kept."""
_LONGEST_SOURCE = 150


def shown_by(model: Path, sheet: ScoreSheet | None = None) -> Shown:
    """Return which detections a model shows, in scores as it gives them: by its score sheet, or its one threshold.

    Args:
        model: Model folder.
        sheet: Its score sheet, if it has been read.
    """
    sheet = sheet or load_sheet(model)
    if sheet is not None:
        return sheet.shown()
    threshold = 0.0
    with contextlib.suppress(DataError, KeyError, TypeError, ValueError):
        threshold = float(read_record(model / RECORD)["threshold"])
    return Shown(threshold if math.isfinite(threshold) else 0.0)


def read_shown(said: Any) -> Shown:
    """Return what ``Shown.to_json`` gave, as in the output of ``lofi detect --json``.

    Raises:
        DataError: If it is nothing like it.
    """
    try:
        limits = {str(label): _limit(value) for label, value in said["limits"].items()}
        return Shown(-math.inf if said["everything"] else _limit(said["limit"]), limits, bool(said["one_label"]))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"what is shown of the detections: {error!r} in {told(said)}.") from error


def _limit(value: Any) -> float:
    return math.inf if value is None else float(value)


def drafts_of(segments: Segments, shown: Shown, source: str) -> list[dict[str, Any]]:
    """Return what is shown of the detections of a video as drafts, in the order of time; the best :data:`MOST`.

    Detections that nobody could accept are left out: without a length, or with a label that is no name.

    Args:
        segments: The detections.
        shown: Which of them become drafts; each span once.
        source: Where they come from.
    """
    usable = (one for one in shown.of(segments).sorted() if one.start < one.end and _is_name(one.label))
    kept = sorted(itertools.islice(usable, MOST), key=lambda one: (one.start, one.end, one.label))
    return [
        {"id": f"{source[0]}{i}", "start": start, "end": end, "label": label.strip(), "score": score, "source": source}
        for i, (start, end, label, score) in enumerate(kept)
    ]


def _is_name(label: str) -> bool:
    """Say whether a label can be that of an action."""
    with contextlib.suppress(LofiError):
        return bool(read_label(label, "label"))
    return False


def source_of(kind: str, name: str) -> str:
    """Return the source of drafts, from its kind and a name."""
    return f"{kind}:{name[-_LONGEST_SOURCE:]}"


def read_drafts(document: Any, name: str, known: Iterable[str] | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return the drafts in the result file of another system, by video.

    Two layouts are read. Detections, ``{"results": {id: [{"label", "score", "segment"}]}}``, as ``lofi detect`` and the
    evaluators of ActivityNet have them; what ``lofi detect --json`` says of what is shown holds. And events,
    as video language models are asked for them: ``{"video": id, "events": [{"start", "end", "label"}]}``, a list of
    these, or ``{id: {"events": [...]}}``. A missing score is 1. Times are seconds, as numbers or as ``m:ss`` and
    ``h:mm:ss``.

    Args:
        document: The content of the file.
        name: Of the file, for messages and as the source.
        known: Ids of the videos; a file of events that names no video is taken to be of the one that the file is named
            after, or of the only one.

    Raises:
        DataError: If the file has neither layout, or a record is faulty; the message says where.
    """
    source, asked = source_of(IMPORT, name), Shown(-math.inf)
    if isinstance(document, Mapping) and "results" in document:
        found = {one.video_id: one for one in detections_from_activitynet(document, name)}
        if "shown" in document:
            asked = replace(read_shown(document["shown"]), one_label=True)
    else:
        found = {
            video_id: _segments(video_id, events, f"{name}, {video_id}")
            for video_id, events in _events(document, name, list(known or ()))
        }
    return {video_id: drafts_of(one, asked, source) for video_id, one in found.items()}


def _events(document: Any, name: str, known: list[str]) -> list[tuple[str, list[Any]]]:
    """Return the videos and events of a file of events."""
    if isinstance(document, Mapping) and "events" not in document and "video" not in document:
        documents = [{"video": video_id, **_object(one, f"{name}, {video_id!r}")} for video_id, one in document.items()]
    else:
        documents = document if isinstance(document, list) else [document]
    found: dict[str, list[Any]] = {}
    for number, one in enumerate(documents):
        where = f"{name}, entry {number}" if len(documents) > 1 else name
        one = _object(one, where)
        if not isinstance(events := one.get("events"), list):
            raise DataError(
                f'{where}: found {told(one)}; expected detections, {{"results": {{...}}}}, or events, {{"video": id, '
                '"events": [{"start", "end", "label"}]}}, a list of these, or {id: {"events": [...]}}.'
            )
        found.setdefault(_video_of(one, where, name, known), []).extend(events)
    return list(found.items())


def _object(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, list):  # {id: [events]}
        return {"events": value}
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: expected an object with events, found {told(value)}.")
    return dict(value)


def _video_of(one: Mapping[str, Any], where: str, name: str, known: list[str]) -> str:
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
    return known[0]


def _segments(video_id: str, events: list[Any], where: str) -> Segments:
    """Return events as segments."""
    records = []
    for number, event in enumerate(events):
        at = f"{where}, event {number}"
        if not isinstance(event, Mapping) or (missing := {"start", "end", "label"} - event.keys()):
            lacks = f"; it has no {' and no '.join(sorted(missing))}" if isinstance(event, Mapping) else ""
            raise DataError(f'{at}: found {told(event)}{lacks}; expected {{"start", "end", "label"}}.')
        start, end = (read_time(event[key], f"{at}, {key}", None) for key in ("start", "end"))
        score = read_number(event.get("score", 1.0), f"{at}, score")
        label = read_text(event["label"], f"{at}, label")
        records.append({"segment": (start, end), "label": label, "score": score})
    return Segments.from_activitynet(video_id, records)
