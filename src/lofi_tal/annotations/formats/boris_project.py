"""BORIS's project files: observations with their media and events, as JSON (see :mod:`boris`)."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lofi_tal.annotations.formats.collecting import Collector
from lofi_tal.annotations.values import read_duration, read_text, read_time, shown
from lofi_tal.errors import DataError, nearest
from lofi_tal.files import read_json

_LARGEST = 256 * 2**20  # bytes of an unpacked project
_PLAYER = "1"


def is_project(document: Any) -> bool:
    """Say whether the content of a JSON file is a BORIS project."""
    return isinstance(document, dict) and {"observations", "behaviors_conf"} <= document.keys()


def read_project(path: Path, into: Collector) -> None:
    """Read one project, packed (``.boris.gz``) or not.

    A state event begins and ends at every other event of the same observation, subject, behaviour and modifiers. An
    observation of several media, played one after the other, is divided into them.

    Raises:
        DataError: If the file is no project, or has no observation of a name in ``options.layers``.
    """
    project = _unpacked(path) if path.suffix.lower() == ".gz" else read_json(path)
    if not is_project(project):
        raise DataError(f"{path}: expected a BORIS project with 'observations' and 'behaviors_conf'.")
    observations = _table(path, project, "observations")
    chosen = into.options.layers or tuple(observations)
    for name in chosen:
        if name not in observations:
            raise DataError(f"{path}: has no observation {name!r}.{nearest(name, observations)}")
    states = {
        str(one.get("code"))
        for one in _table(path, project, "behaviors_conf").values()
        if isinstance(one, dict) and str(one.get("type", "")).lower().startswith("state")
    }
    seen: dict[str, str] = {}
    others = 0
    for name in chosen:
        where = f"{path}, observation {name!r}"
        with into.part():
            others += _read_observation(where, observations[name], states, into, seen)
    into.passed_over(str(path), others, "event", "points in time, or of live observations without a video")


def _read_observation(where: str, observation: Any, states: set[str], into: Collector, seen: dict[str, str]) -> int:
    """Add the segments of one observation, and return how many of its events are none."""
    if not isinstance(observation, dict) or not isinstance(observation.get("events"), list):
        raise DataError(f"{where}: expected an object with a list 'events', found {shown(observation)}.")
    events = observation["events"]
    files = observation.get("file")
    media = files.get(_PLAYER) if isinstance(files, dict) else None
    if not isinstance(media, list) or not media:
        return len(events)
    videos = [into.declare(where, medium, is_file=True) for medium in media]
    for video in videos:
        before = seen.setdefault(video, where)
        if before != where:
            into.remarks.append(f"{where}: {video!r} is in another observation too; --layer chooses observations.")
    ends = _ends(where, observation, media)
    points = 0
    begun: dict[tuple[Any, ...], tuple[str, float]] = {}
    for number, event in enumerate(events):
        at = f"{where}, event {number}"
        with into.part():
            time, subject, code, modifiers = _event(at, event)
            if code not in states:
                points += 1
            elif (subject, code, modifiers) not in begun:
                begun[subject, code, modifiers] = at, time
            else:
                start = begun.pop((subject, code, modifiers))[1]
                for index, first, last in _divided(start, time, ends):
                    into.add(at, videos[index], first, last, code)
    for (_, code, _), (at, _) in begun.items():
        with into.part():
            raise DataError(f"{at}: {code!r} starts and never stops.")
    return points


def _event(where: str, event: Any) -> tuple[float, str, str, str]:
    """Return time, subject, behaviour and modifiers."""
    if not isinstance(event, list) or len(event) < 3:
        raise DataError(f"{where}: expected [time, subject, behaviour, ...], found {shown(event)}.")
    modifiers = event[3] if len(event) > 3 else ""
    return read_time(event[0], f"{where}, time"), str(event[1]), read_text(event[2], f"{where}, code"), str(modifiers)


def _ends(where: str, observation: dict[str, Any], media: list[Any]) -> list[float]:
    """Return the second of the observation at which each medium ends; the last one never does."""
    info = observation.get("media_info")
    lengths = info.get("length") if isinstance(info, dict) else None
    ends: list[float] = []
    for medium in media[:-1]:
        length = lengths.get(medium) if isinstance(lengths, dict) else None
        ends.append((ends[-1] if ends else 0.0) + read_duration(length, f"{where}, length of {medium!r}"))
    return [*ends, float("inf")]


def _divided(start: float, end: float, ends: list[float]) -> Iterator[tuple[int, float, float]]:
    """Yield the parts of a span that lie in each medium: its index, and seconds of it."""
    begin = 0.0
    for index, limit in enumerate(ends):
        first, last = max(start, begin), min(end, limit)
        if last > first or (last == first and index == len(ends) - 1 and start == end):
            yield index, first - begin, last - begin
        begin = limit


def _table(path: Path, project: dict[str, Any], key: str) -> dict[str, Any]:
    table = project[key]
    if not isinstance(table, dict):
        raise DataError(f"{path}: expected an object {key!r}, found {shown(table)}.")
    return table


def _unpacked(path: Path) -> Any:
    """Return the JSON in a gzip file of a reasonable size."""
    try:
        with gzip.open(path) as packed:
            data = packed.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise DataError(f"{path}: is larger than {_LARGEST >> 20} MiB when it is unpacked.")
        return json.loads(data)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is no packed BORIS project: {error}.") from error
