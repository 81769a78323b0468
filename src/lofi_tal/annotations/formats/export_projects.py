"""Annotations written as one project file for tools that label videos: VIA 3, BORIS and Label Studio.

The layouts are those that the importers of the same names read, and cite. Subsets, durations and ignored parts have no
place in them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from lofi_tal.annotations.document import Annotations, VideoAnnotation
from lofi_tal.annotations.formats.collecting import VideoFolder
from lofi_tal.errors import DataError
from lofi_tal.files import write_json, write_text
from lofi_tal.segments import Segments

CONFIGURATION = "label_config.xml"
"""Name of Label Studio's labelling configuration, which is written beside the tasks."""

_BEGIN = "1970-01-01T00:00:00"  # BORIS wants a date; the annotations have none


def file_name(video_id: str, videos: VideoFolder | None) -> str:
    """Return the name of a video's file: as it is among the videos, or the id with ``.mp4`` without them.

    Raises:
        VideoError: If the video is not there or cannot be read.
    """
    return f"{video_id}.mp4" if videos is None else videos.facts(video_id).name


def lanes(spans: Iterable[tuple[float, float]]) -> list[list[int]]:
    """Return the indices of spans in as few lanes as possible, within which none overlaps; each in order of time."""
    found: list[list[int]] = []
    ends: list[float] = []
    for index, (start, end) in sorted(enumerate(spans), key=lambda one: one[1]):
        lane = next((number for number, last in enumerate(ends) if last <= start), len(ends))
        if lane == len(ends):
            found.append([])
            ends.append(-math.inf)
        found[lane].append(index)
        ends[lane] = end
    return found


def rows(segments: Segments) -> Iterator[tuple[float, float, str]]:
    """Yield start and end in seconds and the label of each segment."""
    for start, end, label in zip(segments.start, segments.end, segments.label, strict=True):
        yield float(start), float(end), label


def write_via(path: Path, annotations: Annotations, videos: VideoFolder | None) -> None:
    """Write a VIA 3 project: each class an option of the attribute ``action``, times as they are.

    Raises:
        VideoError: If a video cannot be read.
    """
    options = {str(number): label for number, label in enumerate(annotations.labels)}
    number_of = {label: number for number, label in options.items()}
    files, views, metadata = dict[str, Any](), dict[str, Any](), dict[str, Any]()
    for number, video in enumerate(annotations, start=1):
        name, key = file_name(video.video_id, videos), str(number)
        files[key] = {"fid": key, "fname": name, "type": 4, "loc": 1, "src": ""}  # 4: a video; 1: the user opens it
        views[key] = {"fid_list": [key]}
        for row, (start, end, label) in enumerate(rows(video.segments)):
            value = {"1": number_of[label]}
            metadata[f"{key}_{row:08d}"] = {"vid": key, "flg": 0, "z": [start, end], "xy": [], "av": value}
    attribute = {
        "aname": "action", "anchor_id": "FILE1_Z2_XY0", "type": 4, "desc": "Class of the action", "options": options,
        "default_option_id": "",
    }  # fmt: skip
    project = {
        "pid": "__VIA_PROJECT_ID__", "rev": "__VIA_PROJECT_REV_ID__", "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__",
        "pname": path.stem, "creator": "lofi-tal", "created": 0, "data_format_version": "3.1.1",
        "vid_list": list(views),
    }  # fmt: skip
    config = {"file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}}}
    document = {"project": project, "config": config, "attribute": {"1": attribute}}
    write_json(path, {**document, "file": files, "metadata": metadata, "view": views})


def write_boris(path: Path, annotations: Annotations, videos: VideoFolder | None) -> None:
    """Write a BORIS project (version 7): each class a state event, each video an observation.

    A behaviour cannot overlap itself in BORIS: overlapping segments of one class go to subjects of their own.

    Raises:
        VideoError: If a video cannot be read.
    """
    observations, subjects = {}, set[str]()
    for video in annotations:
        events = sorted(_events(video), key=lambda event: event[0])
        subjects |= {subject for _, subject, *_ in events if subject}
        observations[video.video_id] = _observation(video, file_name(video.video_id, videos), events, videos)
    behaviours = {
        str(number): {
            "type": "State event", "key": "", "code": label, "description": "", "color": "", "category": "",
            "modifiers": "", "excluded": "", "coding map": "",
        }
        for number, label in enumerate(annotations.labels)
    }  # fmt: skip
    named = {
        str(number): {"key": "", "name": name, "description": "", "independent variables": {}}
        for number, name in enumerate(sorted(subjects))
    }
    write_json(path, {
        "time_format": "hh:mm:ss", "project_date": _BEGIN, "project_name": path.stem, "project_description": "",
        "project_format_version": "7.0", "subjects_conf": named, "behaviors_conf": behaviours,
        "observations": observations, "behavioral_categories": [], "independent_variables": {}, "coding_map": {},
        "behaviors_coding_map": [], "converters": {},
    })  # fmt: skip


def _events(video: VideoAnnotation) -> Iterator[list[Any]]:
    """Yield start and end of each segment, as BORIS's events: time, subject, behaviour, modifiers and comment."""
    segments = video.segments
    for label in dict.fromkeys(segments.label):
        spans = [(start, end) for start, end, name in rows(segments) if name == label]
        for number, lane in enumerate(lanes(spans), start=1):
            subject = "" if number == 1 else f"overlap {number}"
            for index in lane:
                yield from ([time, subject, label, "", ""] for time in spans[index])


def _observation(
    video: VideoAnnotation, name: str, events: list[list[Any]], videos: VideoFolder | None
) -> dict[str, Any]:
    length = video.duration or max([0.0, *(float(end) for end in video.segments.end)])
    fps = {} if videos is None else {name: videos.facts(video.video_id).fps}
    info = {"length": {name: length}, "fps": fps, "hasVideo": {name: True}, "hasAudio": {name: False}}
    return {
        "file": {str(player): [name] if player == 1 else [] for player in range(1, 9)}, "type": "MEDIA",
        "date": _BEGIN, "description": "", "time offset": 0.0, "events": events, "independent_variables": {},
        "media_info": {**info, "offset": {"1": 0.0}},
    }  # fmt: skip


def write_label_studio(path: Path, annotations: Annotations, videos: VideoFolder | None) -> None:
    """Write Label Studio's tasks with their annotations, and the labelling configuration beside them.

    Times are rounded to frames, which Label Studio counts from 1, the last one included. A task holds the rate as
    ``fps``, which the configuration reads; its video is a file of Label Studio's local storage.

    Raises:
        DataError: If the videos, which tell the rate, are not given.
        VideoError: If a video cannot be read.
    """
    tasks = []
    for video in annotations:
        rate = frame_rate(video.video_id, videos, "Label Studio")
        result = [_result(number, rate, *row) for number, row in enumerate(rows(video.segments))]
        reference = f"/data/local-files/?d={quote(file_name(video.video_id, videos))}"
        data = {"video": reference, "fps": rate, "subset": video.subset}
        tasks.append({"data": data, "annotations": [{"result": result}]})
    write_json(path, tasks)
    write_text(path.with_name(CONFIGURATION), _configuration(annotations.labels))


def frame_rate(video_id: str, videos: VideoFolder | None, tool: str) -> float:
    """Return the mean frames a second of a video.

    Raises:
        DataError: If the videos are not given.
        VideoError: If the video cannot be read.
    """
    if videos is None:
        raise DataError(f"{tool} counts frames: give the folder of the videos with --videos, which says how many.")
    return videos.facts(video_id).fps


def _result(number: int, rate: float, start: float, end: float, label: str) -> dict[str, Any]:
    first = round(start * rate) + 1
    span = {"start": first, "end": max(first, round(end * rate))}
    value = {"ranges": [span], "timelinelabels": [label]}
    names = {"from_name": "action", "to_name": "video", "type": "timelinelabels"}
    return {"id": f"segment{number}", **names, "value": value}


def _configuration(labels: Iterable[str]) -> str:
    view = Element("View")
    controls = SubElement(view, "TimelineLabels", name="action", toName="video")
    for label in labels:
        SubElement(controls, "Label", value=label)
    SubElement(view, "Video", name="video", value="$video", frameRate="$fps", timelineHeight="120")
    indent(view)
    return tostring(view, encoding="unicode") + "\n"
