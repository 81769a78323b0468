"""Labels of point events: for training, an event is a short segment around its time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lofi_tal.annotations.activitynet import read_document
from lofi_tal.annotations.document import Annotations


def are_events(annotations: Annotations) -> bool:
    """Say whether every label starts and ends at one time, so that they are events and no segments."""
    segments = [video.segments for video in annotations if len(video.segments)]
    return bool(segments) and all((one.start == one.end).all() for one in segments)


def read_labels(path: Path | str, events: float | None) -> Any:
    """Read an annotation file as it is, but for its events, which get a width if one is given.

    Raises:
        DataError: If the file cannot be read.
    """
    document = read_document(path)
    return document if events is None else with_width(document, events)


def with_width(document: Any, width: float) -> Any:
    """Return ActivityNet's document with every annotation that starts and ends at one time as a segment around it.

    A segment is cut at the ends of its video, which moves its middle by a quarter of the width at most. All else, and
    what is malformed, stays as it is.

    Args:
        document: As read.
        width: Seconds.

    >>> labels = {"database": {"a": {"duration": 9, "annotations": [{"segment": [4, 4], "label": "hit"}]}}}
    >>> with_width(labels, 2.0)["database"]["a"]["annotations"]
    [{'segment': [3.0, 5.0], 'label': 'hit'}]
    """
    database = document.get("database") if isinstance(document, Mapping) else None
    if not isinstance(database, Mapping):
        return document
    return {**document, "database": {name: _video(video, width) for name, video in database.items()}}


def _video(video: Any, width: float) -> Any:
    entries = video.get("annotations") if isinstance(video, Mapping) else None
    if not isinstance(entries, list):
        return video
    duration = _number(video.get("duration"))
    end = math.inf if duration is None else duration
    return {**video, "annotations": [_annotation(entry, width, end) for entry in entries]}


def _annotation(entry: Any, width: float, end: float) -> Any:
    span = entry.get("segment") if isinstance(entry, Mapping) else None
    if not isinstance(span, list) or len(span) != 2:
        return entry
    first, last = _number(span[0]), _number(span[1])
    if first is None or first != last or not 0 <= first <= end:
        return entry
    return {**entry, "segment": [max(0.0, first - width / 2), min(end, first + width / 2)]}


def _number(value: Any) -> float | None:
    """Return a finite number, which may be text as in some published files."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
