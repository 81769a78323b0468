"""SoccerNet's labels of point events, ``league/season/game/Labels-v2.json``: a video for each half of a game.

The layout is that of :mod:`lofi_tal.annotations.soccernet`. An event starts and ends at its time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lofi_tal.annotations.document import Annotations, VideoAnnotation
from lofi_tal.annotations.formats.collecting import Collector, VideoFolder, canonical_subset
from lofi_tal.annotations.soccernet import BALL, LABELS, labels_in, read_game, write_labels
from lofi_tal.errors import DataError


def is_soccernet(document: Any) -> bool:
    """Say whether a JSON document is a game's."""
    if not isinstance(document, Mapping):
        return False
    entries = document.get("annotations", document.get("predictions"))
    first = entries[0] if isinstance(entries, list) and entries else None
    return isinstance(entries, list) and (
        "UrlLocal" in document or (isinstance(first, Mapping) and "gameTime" in first)
    )


def read_soccernet(path: Path, into: Collector) -> None:
    """Read the games below a folder, or one file of a game; team and visibility have no place in labels here.

    Raises:
        DataError: If a file is malformed, or the folder holds none.
    """

    def refuse(error: DataError) -> None:
        with into.part():
            raise error

    name = labels_in(path) if path.is_dir() else path.name
    files = sorted(path.rglob(name)) if path.is_dir() else [path]
    for file in files:
        game = file.parent.relative_to(path).as_posix() if path.is_dir() and file.parent != path else ""
        with into.part():
            for video_id, events in read_game(file, game, refuse).items():
                if name == BALL and not len(events) and video_id.endswith("/2"):
                    continue  # ball events are of one video a game
                subset = canonical_subset(into.options.subset)
                into.adopt(VideoAnnotation(video_id, None, subset, events, np.zeros((0, 2))))


def write_soccernet(folder: Path, annotations: Annotations, _videos: VideoFolder | None) -> None:
    """Write ``<folder>/<game>/Labels-v2.json`` of videos ``<game>/1`` and ``<game>/2``; others are games of one half.

    Times are rounded to milliseconds; of a segment the middle is written.

    Raises:
        DataError: If the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file: this format has a file for each game ({LABELS[0]}) and needs a folder.")
    write_labels(folder, {video.video_id: video.segments for video in annotations})
