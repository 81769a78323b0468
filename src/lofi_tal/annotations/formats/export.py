"""Annotations written for other programs.

OpenTAD (``opentad/datasets`` of https://github.com/sming256/OpenTAD) reads ``duration`` and, for windows and padding,
``frame`` (the number of frames), and a class list with a name on each line. ActionFormer (``libs/datasets`` and
``CUSTOM_DATASET.md`` of https://github.com/happyharrycn/actionformer_release) reads ``duration``, ``fps`` and the
``label_id`` of each annotation. Both number the classes in the order of their names.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lofi_tal.annotations.activitynet import ignored_entry, save_annotations
from lofi_tal.annotations.document import Annotations, VideoAnnotation
from lofi_tal.annotations.formats.collecting import VideoFolder
from lofi_tal.annotations.formats.csv_table import COLUMNS
from lofi_tal.annotations.formats.export_files import write_audacity, write_cvat, write_elan
from lofi_tal.annotations.formats.export_projects import write_boris, write_label_studio, write_via
from lofi_tal.annotations.formats.soccernet_games import write_soccernet
from lofi_tal.cells import guarded
from lofi_tal.errors import DataError
from lofi_tal.files import write_json, write_text

CLASS_LIST = "category_idx.txt"
"""Name of OpenTAD's class list, which is written beside the annotations."""


def write_activitynet(path: Path, annotations: Annotations, _videos: VideoFolder | None) -> None:
    """Write the JSON that this package and the field read."""
    save_annotations(path, annotations)


def write_csv(path: Path, annotations: Annotations, _videos: VideoFolder | None) -> None:
    """Write a table with a row for each segment, and one with empty times for each video without any.

    A table has no place for ignored parts. Texts are guarded against spreadsheets (:mod:`lofi_tal.cells`).
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, "subset", "duration"])
    for video in annotations:
        segments = video.segments
        name = guarded(video.video_id)
        facts = [guarded(video.subset), "" if video.duration is None else repr(video.duration)]
        for start, end, label in zip(segments.start, segments.end, segments.label, strict=True):
            writer.writerow([name, repr(float(start)), repr(float(end)), guarded(label), *facts])
        if not len(segments):
            writer.writerow([name, "", "", "", *facts])
    write_text(path, text.getvalue())


def write_opentad(path: Path, annotations: Annotations, videos: VideoFolder | None) -> None:
    """Write OpenTAD's annotations, and its class list beside them; ``frame`` needs the videos.

    Raises:
        DataError: If a duration is unknown, or a video cannot be read.
    """
    database = {}
    for video in _on_pictures(annotations, videos):
        frames = {} if videos is None else {"frame": videos.facts(video.video_id).frames}
        database[video.video_id] = {**_head(video), **frames, "annotations": _records(video), **ignored_entry(video)}
    write_text(path.with_name(CLASS_LIST), "".join(f"{label}\n" for label in sorted(annotations.labels)))
    write_json(path, {"version": "lofi-tal", "database": database})


def write_actionformer(path: Path, annotations: Annotations, videos: VideoFolder | None) -> None:
    """Write ActionFormer's annotations; ``fps`` needs the videos (its ``default_fps`` stands in otherwise).

    Raises:
        DataError: If a duration is unknown, or a video cannot be read.
    """
    numbers = {label: number for number, label in enumerate(sorted(annotations.labels))}
    database = {}
    for video in _on_pictures(annotations, videos):
        fps = {} if videos is None else {"fps": videos.facts(video.video_id).fps}
        records = [{**record, "label_id": numbers[record["label"]]} for record in _records(video)]
        database[video.video_id] = {**_head(video), **fps, "annotations": records, **ignored_entry(video)}
    write_json(path, {"version": "lofi-tal", "database": database})


WRITERS: dict[str, Callable[[Path, Annotations, VideoFolder | None], None]] = {
    "activitynet": write_activitynet,
    "csv": write_csv,
    "opentad": write_opentad,
    "actionformer": write_actionformer,
    "via": write_via,
    "boris": write_boris,
    "label-studio": write_label_studio,
    "audacity": write_audacity,
    "elan": write_elan,
    "cvat": write_cvat,
}
"""Exporters by the name of their format: file, annotations, and the videos if they are there."""
FOLDERS = ("audacity", "elan", "cvat")
"""Those that write a folder with a file for each video."""
EVENT_WRITERS: dict[str, Callable[[Path, Annotations, VideoFolder | None], None]] = {"soccernet": write_soccernet}
"""Exporters of point events, which lose the lengths of segments; each writes a folder."""


def _on_pictures(annotations: Annotations, videos: VideoFolder | None) -> Iterator[VideoAnnotation]:
    """Yield videos with times from their first picture, from which these programs and our features count."""
    if videos is not None:
        videos.open(list(annotations.videos))
    for video in annotations:
        begin = 0.0 if videos is None else videos.facts(video.video_id).start
        if begin and video.duration is not None:
            segments = replace(video.segments, start=video.segments.start - begin, end=video.segments.end - begin)
            video = replace(video, duration=video.duration - begin, segments=segments, ignored=video.ignored - begin)
        yield video


def _head(video: VideoAnnotation) -> dict[str, Any]:
    if video.duration is None:
        raise DataError(
            f"Video {video.video_id!r} has no duration, which OpenTAD and ActionFormer need; give --videos FOLDER."
        )
    return {"subset": video.subset, "duration": video.duration}


def _records(video: VideoAnnotation) -> list[dict[str, Any]]:
    rows = zip(video.segments.start, video.segments.end, video.segments.label, strict=True)
    return [{"segment": [float(start), float(end)], "label": label} for start, end, label in rows]
