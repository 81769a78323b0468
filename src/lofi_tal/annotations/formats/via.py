"""Projects of the VGG Image Annotator, version 3 (video annotator): temporal segments in seconds.

Source: ``via-3.x.y/CodeDoc.md``, ``_via_attribute.js`` and ``_via_file.js`` of https://gitlab.com/vgg/via.
``{"attribute": {id: {aname, anchor_id, type, options}}, "file": {id: {fname, src}}, "view": {id: {fid_list}},
"metadata": {id: {vid, flg, z: [t0, t1], xy, av: {attribute id: value}}}}``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

from lofi_tal.annotations.formats.collecting import Collector
from lofi_tal.annotations.values import shown
from lofi_tal.errors import DataError, nearest
from lofi_tal.files import read_json

_DELETED = 1  # of the flags
_SEGMENT = "FILE1_Z2_XY0"  # the anchor of attributes of a temporal segment in one file
_CHECKBOX, _RADIO, _SELECT = 2, 3, 4


def read_via(path: Path, into: Collector) -> None:
    """Read one project.

    The label is the attribute named in ``options.layers``, or the only one of temporal segments.

    Raises:
        DataError: If the file is no such project, or which attribute holds the labels is not clear.
    """
    project = read_json(path)
    if not isinstance(project, dict):
        raise DataError(f"{path}: expected a VIA 3 project (an object), found {shown(project)}.")
    attribute_id, options = _attribute(path, project, into.options.layers)
    files, views = _table(path, project, "file"), _table(path, project, "view")
    known: dict[str, str] = {}
    for view_id, view in views.items():
        where = f"{path}, view {view_id!r}"
        with into.part():
            known[view_id] = into.declare(where, _file_name(where, view, files), is_file=True)
    still = 0
    for key, record in _table(path, project, "metadata").items():
        where = f"{path}, metadata {key!r}"
        with into.part():
            if not isinstance(record, dict) or not isinstance(record.get("z"), list):
                raise DataError(f"{where}: expected an object with a list 'z', found {shown(record)}.")
            flags = record.get("flg", 0)
            if isinstance(flags, int) and flags & _DELETED:
                continue
            if len(record["z"]) != 2 or record.get("xy"):
                still += 1
                continue
            video = known.get(str(record.get("vid")))
            if video is None:
                raise DataError(f"{where}: belongs to view {shown(record.get('vid'))}, which has no video.")
            start, end = record["z"]
            values = record.get("av")
            value = values.get(attribute_id) if isinstance(values, dict) else None
            for label in _labels(where, value, options):
                into.add(where, video, start, end, label)
    into.passed_over(str(path), still, "region or moment", "no temporal segments")


def _table(path: Path, project: dict[str, Any], key: str) -> dict[str, Any]:
    table = project.get(key)
    if not isinstance(table, dict):
        raise DataError(f"{path}: expected a VIA 3 project with an object {key!r}, found {shown(table)}.")
    return table


def _attribute(path: Path, project: dict[str, Any], names: tuple[str, ...]) -> tuple[str, dict[str, Any] | None]:
    """Return id and options of the attribute that holds the label; no options if the value is the label."""
    attributes = {
        str(record.get("aname")): (key, record)
        for key, record in _table(path, project, "attribute").items()
        if isinstance(record, dict) and record.get("anchor_id") == _SEGMENT
    }
    chosen = list(names or attributes)
    if len(chosen) != 1 or chosen[0] not in attributes:
        listed = ", ".join(map(repr, attributes)) or "none"
        hint = nearest(chosen[0], attributes) if len(chosen) == 1 else ""
        raise DataError(
            f"{path}: attributes of temporal segments: {listed}. Name the one that holds the label: --layer NAME.{hint}"
        )
    key, record = attributes[chosen[0]]
    if record.get("type") not in (_CHECKBOX, _RADIO, _SELECT):
        return key, None
    options = record.get("options")
    if not isinstance(options, dict):
        raise DataError(f"{path}, attribute {chosen[0]!r}: expected an object 'options', found {shown(options)}.")
    return key, options


def _file_name(where: str, view: Any, files: dict[str, Any]) -> Any:
    ids = view.get("fid_list") if isinstance(view, dict) else None
    if not isinstance(ids, list) or len(ids) != 1:
        raise DataError(f"{where}: expected one file, found {shown(ids)}.")
    record = files.get(str(ids[0]))
    if not isinstance(record, dict) or not isinstance(record.get("fname"), str):
        raise DataError(f"{where}: its file {shown(ids[0])} has no 'fname'.")
    return unquote(record["fname"])


def _labels(where: str, value: Any, options: dict[str, Any] | None) -> list[Any]:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: has no label ({shown(value)}).")
    if options is None:
        return [value]
    labels = [options.get(key.strip()) for key in value.split(",")]
    if None in labels:
        raise DataError(f"{where}: {shown(value)} is none of the options {', '.join(map(repr, options))}.")
    return labels
