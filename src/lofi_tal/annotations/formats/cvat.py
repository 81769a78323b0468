"""CVAT's XML 1.1, for videos and for images: tracks, shapes and frame tags taken as spans of time.

Source: https://docs.cvat.ai/docs/manual/advanced/xml_format/. CVAT has no object for a span of time; people draw a
box over the whole frame and track it while the action lasts, draw or tag each of its frames, or give an object that
is tracked all the time an attribute (``action``) that changes. Only labels, attributes and times are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lofi_tal.annotations.formats.collecting import Collector
from lofi_tal.annotations.formats.cvat_labels import Labels
from lofi_tal.annotations.formats.xml import Element, read_xml
from lofi_tal.annotations.values import read_number, shown
from lofi_tal.errors import DataError

_Marks = dict[tuple["_Task", str | None], dict[float, str]]


def read_cvat(path: Path, into: Collector) -> None:
    """Read one export of a task or of a project.

    A track lasts from a frame on which it is visible to the next frame with ``outside="1"``, or through its last
    frame. Tags, the shapes of images, and tracks of a single frame last while they are on every frame of the task.
    The label is the object's, or the attributes that ``options.layers`` names (``label`` stands for the object's);
    where all objects have one label and one attribute that changes, it is that attribute. The rate is that of the
    options or of the video.

    Raises:
        DataError: If the file is no such export.
    """
    root = read_xml(path, "annotations")
    tasks = _tasks(path, root)
    for task in tasks.values():
        with into.part():
            task.video = into.declare(task.where, task.name, is_file=task.is_file)
    labels = Labels(root, into.options.layers)
    if labels.remark:
        into.remarks.append(f"{path}: {labels.remark}")
    marks: _Marks = {}
    for track in root.all("track"):
        where = f"{path}, line {track.line}"
        with into.part():
            task = _task_of(where, track, tasks)
            for label, start, end, single in _spans(where, track, task.step, labels):
                if single:
                    marks.setdefault((task, label), {})[start] = where
                else:
                    _add(into, where, task, start, end, label)
    _mark_images(path, root, tasks, labels, into, marks)
    for where, task, label, start, end in _runs(marks):
        with into.part():
            _add(into, where, task, start, end, label)
    objects = sum(1 for _ in root.all("track")) + sum(len(image.children) for image in root.all("image"))
    into.passed_over(str(path), 0 if into.has_segments else objects, "object", labels.expected)


class _Task:
    """A task: where it stands, its video, and how many frames of it make one of the task."""

    def __init__(self, path: Path, element: Element) -> None:
        self.where = f"{path}, line {element.line}"
        self.is_file = bool(element.first("source"))
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


def _spans(where: str, track: Element, step: float, labels: Labels) -> Iterator[tuple[str | None, float, float, bool]]:
    """Yield label, first frame, frame after the last, and whether all of the track is on this one frame."""
    shapes = sorted(
        ((_frame(shape.attributes["frame"], f"{where}, frame"), not _is_visible(shape), number, shape)
         for number, shape in enumerate(track.children) if "frame" in shape.attributes),
        key=lambda one: one[:3],
    )  # fmt: skip
    single = sum(not outside for _, outside, _, _ in shapes) == 1
    since: dict[str | None, float] = {}
    for frame, outside, _, shape in shapes:
        now = [] if outside else labels.of(shape, track)
        for label in [label for label in since if label not in now]:
            start = since.pop(label)
            yield label, start, frame, single and frame - start <= step
        for label in now:
            since.setdefault(label, frame)
    for label, start in since.items():
        end = shapes[-1][0] + step
        yield label, start, end, single and end - start <= step


def _is_visible(shape: Element) -> bool:
    """Say whether a shape is on its frame; a skeleton is if one of its points is."""
    parts = [part for part in shape.children if "outside" in part.attributes]
    if "outside" not in shape.attributes and parts:
        return any(part.attributes["outside"] != "1" for part in parts)
    return shape.attributes.get("outside") != "1"


def _mark_images(
    path: Path, root: Element, tasks: dict[str, _Task], labels: Labels, into: Collector, marks: _Marks
) -> None:
    """Note on which frames each label is, as a tag or as a shape."""
    for image in root.all("image"):
        where = f"{path}, line {image.line}"
        for item in image.children:
            with into.part():
                task = _task_of(where, image, tasks)
                frame = _frame(image.attributes.get("id"), f"{where}, id")
                for label in labels.of(item, item):
                    marks.setdefault((task, label), {})[frame] = where


def _runs(marks: _Marks) -> Iterator[tuple[str, _Task, str | None, float, float]]:
    """Yield where it stands, task, label, first frame and frame after the last of each run of frames with one label."""
    for (task, label), seen_at in marks.items():
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
