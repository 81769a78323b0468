"""Label Studio's exports "JSON" and "JSON-MIN".

``timelinelabels`` count frames from 1, the last one included: Label Studio's ``TimelineRegion.js`` and the Timeline
model of https://github.com/HumanSignal/label-studio-ml-backend. Values with ``start`` and ``end`` (``labels``,
``timeserieslabels`` on an axis in seconds) are seconds. A tracked region (``videorectangle``) lasts while its sequence
is ``enabled``: from such a key frame to the next one that is not (https://labelstud.io/tags/videorectangle).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import parse_qs, unquote, urlsplit

from lofi_tal.annotations.formats.collecting import Collector, video_id_of
from lofi_tal.annotations.values import read_number, shown
from lofi_tal.errors import DataError
from lofi_tal.files import read_json

_RATES = ("fps", "framerate", "frameRate", "frame_rate")  # task data that a configuration may name as the rate
_LETTERS = frozenset("0123456789abcdef")


def read_label_studio(path: Path, into: Collector) -> None:
    """Read one export; controls other than those of ``options.layers`` are left out if it names any.

    The rate of frames is that of the options, a field ``fps`` of the task, the one by which the tracked regions of the
    task were counted, or the video's mean rate. A project counts at a rate of its own, whatever that of the video is
    (https://github.com/HumanSignal/label-studio/issues/3315).

    Raises:
        DataError: If the file is no such export.
    """
    tasks = read_json(path)
    if not isinstance(tasks, list):
        raise DataError(f"{path}: expected a list of tasks, as Label Studio exports them, found {shown(tasks)}.")
    other = 0
    for number, task in enumerate(tasks):
        where = f"{path}, task {number}"
        with into.part():
            if not isinstance(task, dict):
                raise DataError(f"{where}: expected an object, found {shown(task)}.")
            data = task["data"] if isinstance(task.get("data"), dict) else task
            video = into.declare(where, _file_name(where, data), is_file=True)
            given = next((data[key] for key in _RATES if data.get(key) is not None), None)
            given = _counted_rate(where, task) if given is None else given
            for at, value in _values(where, task, into.options.layers):
                with into.part():
                    spans = list(_spans(at, value, into, video, given))
                    other += bool(value) and not spans
                    for start, end, label in spans:
                        into.add(at, video, start, end, label)
    into.passed_over(str(path), other, "result", "no labelled spans of time")


def _file_name(where: str, data: dict[str, Any]) -> str:
    """Return the name of the task's video as it was before Label Studio stored it."""
    for reference in data.values():
        if isinstance(reference, str):
            try:
                url = urlsplit(reference)
            except ValueError:  # half an IPv6 address
                continue
            stored = parse_qs(url.query).get("d", [url.path])[0]  # /data/local-files/?d=folder/name.mp4
            name = unquote(stored)
            if video_id_of(name) != name.strip():
                return _original(name)
    raise DataError(f"{where}: none of its data is the name of a video file; it has {', '.join(data)[:200]}.")


def _original(name: str) -> str:
    """Undo what an upload does: ``/data/upload/3/1f3a9b2c-name.mp4`` was ``name.mp4``."""
    folder, _, file = name.rpartition("/")
    mark, _, rest = file.partition("-")
    uploaded = "upload" in folder.split("/") and len(mark) == 8 and set(mark) <= _LETTERS
    return rest if uploaded and rest else name


def _values(where: str, task: dict[str, Any], layers: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where it stands and the value of each result of a task, of either export."""
    if isinstance(task.get("annotations"), list):
        results = _annotation(where, task["annotations"]).get("result")
        for number, result in enumerate(results if isinstance(results, list) else []):
            if isinstance(result, dict) and (not layers or result.get("from_name") in layers):
                value = result.get("value")
                yield f"{where}, result {number}", value if isinstance(value, dict) else {}
        return
    for key, values in task.items():
        if isinstance(values, list) and (not layers or key in layers):
            for number, value in enumerate(values):
                if isinstance(value, dict):
                    yield f"{where}, {key!r} {number}", value


def _counted_rate(where: str, task: dict[str, Any]) -> float | None:
    """Return the frames a second by which a task was counted, as its tracked regions tell it; None without any."""
    for _, value in _values(where, task, ()):
        keys = value.get("sequence")
        timed = [key for key in keys if isinstance(key, dict)] if isinstance(keys, list) else []
        pairs = [(key.get("frame"), key.get("time")) for key in reversed(timed)]
        for frames, seconds in [*pairs, (value.get("framesCount"), value.get("duration"))]:
            if _is_positive(frames) and _is_positive(seconds):
                return frames / seconds
    return None


def _is_positive(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e12


def _annotation(where: str, annotations: list[Any]) -> dict[str, Any]:
    """Return the one annotation of a task that counts."""
    valid = [one for one in annotations if isinstance(one, dict) and not one.get("was_cancelled")]
    truth = [one for one in valid if one.get("ground_truth")] or valid
    if len(truth) > 1:
        raise DataError(f"{where}: has {len(truth)} annotations; mark one as ground truth or cancel the others.")
    return truth[0] if truth else {}


def _spans(
    where: str, value: dict[str, Any], into: Collector, video: str, given: Any
) -> Iterator[tuple[Any, Any, Any]]:
    """Yield start, end in seconds and label; nothing if the value is no labelled span of time."""
    labels = next((names for key, names in value.items() if key.endswith("labels") and isinstance(names, list)), [])
    ranges = value.get("ranges")
    if isinstance(ranges, list):
        for span in ranges:
            if not isinstance(span, dict):
                raise DataError(f"{where}, ranges: expected objects with start and end, found {shown(span)}.")
            rate = into.rate(where, video, given)
            first = read_number(span.get("start"), f"{where}, start", "a number of frames")
            last = read_number(span.get("end"), f"{where}, end", "a number of frames")
            yield from (((first - 1) / rate, last / rate, label) for label in labels)
    elif isinstance(value.get("sequence"), list):
        rate = into.rate(where, video, given)
        for first, last in _enabled(where, value):
            yield from (((first - 1) / rate, last / rate, label) for label in labels)
    elif "start" in value and "end" in value:
        yield from ((value["start"], value["end"], label) for label in labels)


def _enabled(where: str, value: dict[str, Any]) -> Iterator[tuple[float, float]]:
    """Yield first and last frame, from 1, of each span on which a tracked region is there."""
    since: float | None = None
    frame = 0.0
    for key in value["sequence"]:
        if not isinstance(key, dict):
            raise DataError(f"{where}, sequence: expected objects with a frame, found {shown(key)}.")
        frame = read_number(key.get("frame"), f"{where}, frame", "a number of a frame")
        if since is None and key.get("enabled", True):
            since = frame
        elif since is not None and not key.get("enabled", True):
            yield since, frame
            since = None
    if since is not None:
        count = value.get("framesCount")
        yield since, frame if count is None else read_number(count, f"{where}, framesCount", "a number of frames")
