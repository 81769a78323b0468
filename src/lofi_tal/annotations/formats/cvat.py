"""CVAT's XML 1.1, for videos and for images: tracks and frame tags taken as spans of time.

Source: https://docs.cvat.ai/docs/manual/advanced/xml_format/. CVAT has no object for a span of time; people draw a
box over the whole frame and track it while the action lasts, or tag each of its frames. Only labels and times are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lofi_tal.annotations.formats.collecting import Collector
from lofi_tal.annotations.formats.xml import Element, read_xml
from lofi_tal.annotations.values import read_number, shown
from lofi_tal.errors import DataError


def read_cvat(path: Path, into: Collector) -> None:
    """Read one export of a task or of a project.

    A track lasts from a frame on which it is visible to the next frame with ``outside="1"``, or through its last
    frame. Tags last while they are on every frame of the task. The rate is that of the options or of the video.

    Raises:
        DataError: If the file is no such export.
    """
    root = read_xml(path, "annotations")
    tasks = _tasks(path, root)
    for task in tasks.values():
        with into.part():
            task.video = into.declare(task.where, task.name)
    for track in root.all("track"):
        where = f"{path}, line {track.line}"
        with into.part():
            task = _task_of(where, track, tasks)
            for start, end in _visible(where, track, task.step):
                _add(into, where, task, start, end, track.attributes.get("label"))
    for where, task, label, start, end in _tagged(path, root, tasks, into):
        with into.part():
            _add(into, where, task, start, end, label)


class _Task:
    """A task: where it stands, its video, and how many frames of it make one of the task."""

    def __init__(self, path: Path, element: Element) -> None:
        self.where = f"{path}, line {element.line}"
        self.name = element.first("source") or element.first("name")
        filtered = element.first("frame_filter")
        step = read_number(filtered.removeprefix("step="), f"{self.where}, frame_filter") if filtered else 1.0
        if step < 1:
            raise DataError(f"{self.where}, frame_filter: {shown(filtered)} is no step of frames.")
        self.step = step
        self.video: str | None = None


def _tasks(path: Path, root: Element) -> dict[str, _Task]:
    elements = [*root.all("meta", "task"), *root.all("meta", "project", "tasks", "task"), *root.all("meta", "job")]
    if not elements:
        raise DataError(f"{path}: has no <task> in <meta>, which names the video; export a task or a project.")
    return {element.first("id"): _Task(path, element) for element in elements}


def _task_of(where: str, element: Element, tasks: dict[str, _Task]) -> _Task:
    name = element.attributes.get("task_id")
    task = next(iter(tasks.values())) if name is None and len(tasks) == 1 else tasks.get(name or "")
    if task is None or task.video is None:
        raise DataError(f"{where}: belongs to task {shown(name)}, which the file does not describe.")
    return task


def _add(into: Collector, where: str, task: _Task, start: float, end: float, label: str | None) -> None:
    assert task.video is not None  # _task_of refuses tasks without
    rate, begin = into.rate(where, task.video), into.beginning(task.video)
    into.add(where, task.video, begin + start / rate, begin + end / rate, label)


def _visible(where: str, track: Element, step: float) -> Iterator[tuple[float, float]]:
    """Yield first frame and frame after the last of each span on which a track is visible."""
    shapes = [
        (_frame(shape.attributes["frame"], f"{where}, frame"), shape.attributes.get("outside") == "1")
        for shape in track.children
        if "frame" in shape.attributes
    ]
    start: float | None = None
    for frame, outside in sorted(shapes):
        if outside and start is not None:
            yield start, frame
            start = None
        elif not outside and start is None:
            start = frame
    if start is not None:
        yield start, max(shapes)[0] + step


def _tagged(
    path: Path, root: Element, tasks: dict[str, _Task], into: Collector
) -> Iterator[tuple[str, _Task, str | None, float, float]]:
    """Yield where it stands, task, label, first frame and frame after the last of each run of frames with one tag."""
    frames: dict[tuple[_Task, str | None], dict[float, str]] = {}
    for image in root.all("image"):
        where = f"{path}, line {image.line}"
        for tag in image.all("tag"):
            with into.part():
                task = _task_of(where, image, tasks)
                frame = _frame(image.attributes.get("id"), f"{where}, id")
                frames.setdefault((task, tag.attributes.get("label")), {})[frame] = where
    for (task, label), seen_at in frames.items():
        numbers = sorted(seen_at)
        first = numbers[0]
        for number, following in zip(numbers, [*numbers[1:], float("inf")], strict=True):
            if following > number + task.step:
                yield seen_at[first], task, label, first, number + task.step
                first = following


def _frame(value: str | None, where: str) -> float:
    frame = read_number(value, where, "a number of a frame")
    if frame < 0 or frame != int(frame):
        raise DataError(f"{where}: {shown(value)} is no number of a frame.")
    return frame
