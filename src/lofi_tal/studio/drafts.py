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

from lofi_tal.annotations.formats.video_events import VideoEvents, events_of
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
        found = _segments(events_of(document, name, list(known or ())))
    return {video_id: drafts_of(one, asked, source) for video_id, one in found.items()}


def _segments(videos: Iterable[VideoEvents]) -> dict[str, Segments]:
    """Return events as segments, by video."""
    records: dict[str, list[dict[str, Any]]] = {}
    for one in videos:
        of_video = records.setdefault(one.video, [])
        for start, end, label, score in map(one.read, range(len(one.events))):
            of_video.append({"segment": (start, end), "label": label, "score": score})
    return {video_id: Segments.from_activitynet(video_id, some) for video_id, some in records.items()}
