"""COIN's annotations: ActivityNet's layout with ``annotation`` where that has ``annotations``.

Source: ``COIN.json`` of https://github.com/coin-dataset/annotations: ``{"database": {id: {"recipe_type", "class",
"subset", "duration", "video_url", "start", "end", "annotation": [{"id", "segment": [s, e], "label"}]}}}``. Segments are
seconds of the whole video; ``start`` and ``end`` bound the task in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lofi_tal.annotations.activitynet import parse_annotations
from lofi_tal.annotations.formats.collecting import Collector, adopt_all
from lofi_tal.annotations.values import shown
from lofi_tal.errors import DataError
from lofi_tal.files import read_json

KEY = "annotation"


def is_coin(document: Any) -> bool:
    """Say whether the content of a JSON file has COIN's layout."""
    database = document.get("database") if isinstance(document, dict) else None
    if not isinstance(database, dict):
        return False
    records = [record for record in database.values() if isinstance(record, dict)]
    return any(KEY in record for record in records) and not any("annotations" in record for record in records)


def read_coin(path: Path, into: Collector) -> None:
    """Read one such file.

    Raises:
        DataError: If it has another layout.
    """
    document = read_json(path)
    if not is_coin(document):
        raise DataError(f"{path}: expected videos with a list {KEY!r}, as COIN.json has them, found {shown(document)}.")
    database = {
        video_id: {("annotations" if key == KEY else key): value for key, value in record.items()}
        if isinstance(record, dict)
        else record
        for video_id, record in document["database"].items()
    }
    adopt_all(parse_annotations({"database": database}, path, strict=into.options.strict), into)
