"""Annotations written as a folder with a file for each video: Audacity's label tracks, ELAN and CVAT.

The layouts are those that the importers of the same names read, and cite. Subsets, durations and ignored parts have no
place in them.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from lofi_tal.annotations.document import Annotations, VideoAnnotation
from lofi_tal.annotations.formats.collecting import VideoFolder
from lofi_tal.annotations.formats.export_projects import file_name, frame_rate, lanes, rows
from lofi_tal.errors import DataError
from lofi_tal.files import inside, write_text

_SCHEMA = "http://www.w3.org/2001/XMLSchema-instance"
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # https://www.w3.org/TR/xml/#charsets
_DOCUMENT = '<?xml version="1.0" encoding="UTF-8"?>\n'

MakeText = Callable[[VideoAnnotation, VideoFolder | None], str]


def write_audacity(folder: Path, annotations: Annotations, videos: VideoFolder | None) -> None:
    """Write a label track for each video, ``<id>.txt``; times have six decimals, as Audacity writes them."""
    _write_each(folder, annotations, videos, ".txt", _label_track)


def write_elan(folder: Path, annotations: Annotations, videos: VideoFolder | None) -> None:
    """Write an ELAN document for each video, ``<id>.eaf``; times are rounded to milliseconds.

    Annotations of a tier cannot overlap: those that do stand on tiers ``actions 2``, ``actions 3``, ...

    Raises:
        DataError: If XML cannot hold a label.
        VideoError: If a video cannot be read.
    """
    _write_each(folder, annotations, videos, ".eaf", _elan)


def write_cvat(folder: Path, annotations: Annotations, videos: VideoFolder | None) -> None:
    """Write CVAT's XML 1.1 for each video, ``<id>.xml``: each segment a tracked box over the whole frame.

    Times are rounded to frames. In CVAT, the file is uploaded to a task of this video that has the labels.

    Raises:
        DataError: If the videos are not given, or XML cannot hold a label.
        VideoError: If a video cannot be read.
    """
    _write_each(folder, annotations, videos, ".xml", _cvat)


def _write_each(
    folder: Path, annotations: Annotations, videos: VideoFolder | None, suffix: str, make: MakeText
) -> None:
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file: this format has a file for each video and needs a folder.")
    if videos is not None:
        videos.open(list(annotations.videos))
    texts = {inside(folder, video.video_id, suffix): make(video, videos) for video in annotations}
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        write_text(path, text)


def _label_track(video: VideoAnnotation, _videos: VideoFolder | None) -> str:
    return "".join(f"{start:.6f}\t{end:.6f}\t{label}\n" for start, end, label in rows(video.segments))


def _elan(video: VideoAnnotation, videos: VideoFolder | None) -> str:
    root = Element("ANNOTATION_DOCUMENT", {
        "AUTHOR": "", "DATE": "1970-01-01T00:00:00+00:00", "FORMAT": "3.0", "VERSION": "3.0", "xmlns:xsi": _SCHEMA,
        "xsi:noNamespaceSchemaLocation": "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
    })  # fmt: skip
    name = file_name(video.video_id, videos)
    header = SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    kind = mimetypes.guess_type(name)[0] or "video/mp4"
    link = f"./{quote(name)}"
    SubElement(header, "MEDIA_DESCRIPTOR", MEDIA_URL=link, MIME_TYPE=kind, RELATIVE_MEDIA_URL=link)
    order = SubElement(root, "TIME_ORDER")
    labels, spans = [], []
    for start, end, label in rows(video.segments):
        first = round(1000 * start)
        spans.append((first, max(first + 1, round(1000 * end))))
        labels.append(_xml_text(label, video))
        for number, time in enumerate(spans[-1], start=2 * len(spans) - 1):
            SubElement(order, "TIME_SLOT", TIME_SLOT_ID=f"ts{number}", TIME_VALUE=str(time))
    for number, lane in enumerate(lanes(spans) or [[]], start=1):
        tier_id = "actions" if number == 1 else f"actions {number}"
        tier = SubElement(root, "TIER", LINGUISTIC_TYPE_REF="default-lt", TIER_ID=tier_id)
        for index in lane:
            annotation = SubElement(SubElement(tier, "ANNOTATION"), "ALIGNABLE_ANNOTATION", {
                "ANNOTATION_ID": f"a{index + 1}", "TIME_SLOT_REF1": f"ts{2 * index + 1}",
                "TIME_SLOT_REF2": f"ts{2 * index + 2}",
            })  # fmt: skip
            SubElement(annotation, "ANNOTATION_VALUE").text = labels[index]
    SubElement(
        root, "LINGUISTIC_TYPE", GRAPHIC_REFERENCES="false", LINGUISTIC_TYPE_ID="default-lt", TIME_ALIGNABLE="true"
    )
    return _document(root)


def _cvat(video: VideoAnnotation, videos: VideoFolder | None) -> str:
    rate = frame_rate(video.video_id, videos, "CVAT")
    assert videos is not None
    facts = videos.facts(video.video_id)
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    task = SubElement(SubElement(root, "meta"), "task")
    described = {"id": "1", "name": video.video_id, "size": str(facts.frames), "mode": "interpolation", "overlap": "0"}
    for key, value in described.items():
        SubElement(task, key).text = _xml_text(value, video)
    known = SubElement(task, "labels")
    for label in dict.fromkeys(video.segments.label):
        entry = SubElement(known, "label")
        SubElement(entry, "name").text = _xml_text(label, video)
        SubElement(entry, "attributes")
    size = SubElement(task, "original_size")
    SubElement(size, "width").text = str(facts.width)
    SubElement(size, "height").text = str(facts.height)
    SubElement(task, "source").text = _xml_text(facts.name, video)
    for number, (start, end, label) in enumerate(rows(video.segments)):
        track = SubElement(root, "track", id=str(number), label=_xml_text(label, video), source="manual")
        first = round((start - facts.start) * rate)
        after = max(first + 1, round((end - facts.start) * rate))
        last = max(first, min(after, facts.frames - 1))  # a track that lasts through the last frame is not ended
        for frame in dict.fromkeys((first, last)):
            _box(track, frame, facts.width, facts.height, outside=frame == after)
    return _document(root)


def _box(track: Element, frame: int, width: int, height: int, *, outside: bool) -> None:
    SubElement(track, "box", {
        "frame": str(frame), "outside": str(int(outside)), "occluded": "0", "keyframe": "1", "xtl": "0.00",
        "ytl": "0.00", "xbr": f"{width:.2f}", "ybr": f"{height:.2f}", "z_order": "0",
    })  # fmt: skip


def _xml_text(text: str, video: VideoAnnotation) -> str:
    found = _NO_XML.search(text)
    if found:
        raise DataError(f"Video {video.video_id!r}: XML cannot hold the character {found[0]!r} of {text[:80]!r}.")
    return text


def _document(root: Element) -> str:
    indent(root)
    return _DOCUMENT + tostring(root, encoding="unicode") + "\n"
