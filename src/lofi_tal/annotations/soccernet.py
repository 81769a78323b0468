"""SoccerNet's files of point events: ``Labels-v2.json`` and ``results_spotting.json``.

A game has two halves, each a video of its own, ``1_...`` and ``2_...``. Both files lie in the folder of the game:
``{"UrlLocal": "league/season/game/", "annotations": [{"gameTime": "1 - 05:38", "label": "Goal", "position": "338000",
"team": "home", "visibility": "visible"}]}``, with ``predictions`` and ``confidence`` in results. ``position`` counts
milliseconds within the half. In files of the ball events there may be one half alone.

Source: SoccerNet/sn-spotting, ``README.md``, and the package SoccerNet, ``Evaluation/ActionSpotting.py``.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lofi_tal.annotations.values import LONGEST, read_text
from lofi_tal.errors import DataError
from lofi_tal.files import inside, read_json, write_json
from lofi_tal.locks import locked
from lofi_tal.segments import Segments

RESULTS = "results_spotting.json"
BALL = "Labels-ball.json"
LABELS = ("Labels-v2.json", BALL, "Labels.json")
"""What SoccerNet calls its files of labels; the first is written."""
_UNKNOWN = {"team": "not applicable", "visibility": "visible"}
_HALF = re.compile(r"([12])(?:_.*)?")
_GAME_TIME = re.compile(r"\s*(\d+)\s*-\s*(\d+):(\d{1,2})\s*")


def read_game(path: Path, game: str = "", refuse: Callable[[DataError], None] | None = None) -> dict[str, Segments]:
    """Return the events of one file by video id, ``<game>/<half>``; both halves of a game are there.

    Args:
        path: ``Labels-v2.json``, ``Labels-ball.json`` or ``results_spotting.json``.
        game: Id of the game; the file's ``UrlLocal`` without it.
        refuse: Told of an entry that is malformed, which is left out; without it the whole file is refused.

    Raises:
        DataError: If the file is malformed; the message says which entry.
    """
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise DataError(f"{path}: expected an object with annotations or predictions (SoccerNet's layout).")
    key = "predictions" if "predictions" in content else "annotations"
    entries = content.get(key)
    if not isinstance(entries, list):
        raise DataError(f'{path}: expected a list of events under "annotations" or "predictions".')
    game = game or str(content.get("UrlLocal", "")).strip("/ ") or path.absolute().parent.name or "game"
    read_text(game, f"{path}, the name of the game")
    halves: dict[int, list[tuple[float, str, float]]] = {1: [], 2: []}
    for number, entry in enumerate(entries):
        try:
            half, time, label = _moment(entry)
            score = float(entry["confidence"]) if key == "predictions" else 1.0
            if not math.isfinite(score):
                raise ValueError
        except (KeyError, TypeError, ValueError, OverflowError, DataError) as error:
            wrong = DataError(
                f'{path}: {key}[{number}] is {str(entry)[:200]!r}; expected {{"gameTime": "1 - 05:38", "label": name, '
                '"position": milliseconds' + (', "confidence": number}.' if key == "predictions" else "}.")
            )
            if refuse is None:
                raise wrong from error
            refuse(wrong)
            continue
        halves.setdefault(half, []).append((time, label, score))
    return {f"{game}/{half}": _segments(f"{game}/{half}", events) for half, events in halves.items()}


def read_games(folder: Path, name: str) -> dict[str, Segments]:
    """Return the events of every game below a folder, by ``<game>/<half>``; a game is the path of its folder.

    Args:
        folder: Holds ``<league>/<season>/<game>/<name>``.
        name: Of the files.

    Raises:
        DataError: If there is none, or one is malformed.
    """
    paths = sorted(folder.rglob(name))
    if not paths:
        raise DataError(f"{folder} has no file {name}: give the folder that holds league/season/game.")
    games = [read_game(path, path.parent.relative_to(folder).as_posix()) for path in paths]
    return {video: events for game in games for video, events in game.items()}


def labels_in(folder: Path) -> str:
    """Return what the files of labels below a folder are called.

    Raises:
        DataError: If there is none.
    """
    name = next((one for one in LABELS if next(folder.rglob(one), None) is not None), None)
    if name is None:
        raise DataError(f"{folder} holds none of {', '.join(LABELS)}: give the folder that holds league/season/game.")
    return name


def write_labels(folder: Path, events: Mapping[str, Segments]) -> None:
    """Write ``<folder>/<game>/Labels-v2.json`` for each game, each in one atomic step.

    Args:
        folder: Of the games.
        events: By ``<game>/<half>``; a video with another id is a game of one half.
    """
    games: dict[Path, list[dict[str, Any]]] = {}
    names: dict[Path, str] = {}
    for video_id, segments in events.items():
        game, _, half = video_id.rpartition("/")
        if half not in ("1", "2") or not _is_inside(game):
            game, half = inside(Path(), video_id).name, "1"
        names[folder / game / LABELS[0]] = game
        rows = zip(segments.times.tolist(), segments.label, strict=True)
        entries = games.setdefault(folder / game / LABELS[0], [])
        entries.extend({**_entry(int(half), *row), **_UNKNOWN} for row in sorted(rows))
    for path, entries in games.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"UrlLocal": f"{names[path]}/", "annotations": entries})


def _is_inside(game: str) -> bool:
    """Say whether the name of a game leads to a folder below another one."""
    parts = Path(game).parts
    return bool(parts) and not Path(game).is_absolute() and ".." not in parts


def write_results(folder: Path, detections: Mapping[str, Segments]) -> list[Path]:
    """Write ``<folder>/<game>/results_spotting.json`` for each game, each in one atomic step.

    Args:
        folder: Of the results.
        detections: By ``<game>/<half>``; the time of a segment without one is its middle.

    Returns:
        The files.

    Raises:
        DataError: If an id does not end with a half, or would leave the folder.
    """
    games: dict[str, list[dict[str, Any]]] = {}
    for video_id, segments in detections.items():
        game, _, half = video_id.rpartition("/")
        if not half.isdigit() or not _is_inside(game):
            raise DataError(f"video {video_id!r} names no half of a game: SoccerNet's ids are <game>/1 and <game>/2.")
        events = zip(segments.times.tolist(), segments.label, segments.score.tolist(), strict=True)
        games.setdefault(game, []).extend(_prediction(int(half), *event) for event in events)
    paths = []
    for game, predictions in games.items():
        paths.append(folder / game / RESULTS)
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        write_json(paths[-1], {"UrlLocal": game, "predictions": predictions})
    return paths


def halves_of(videos: Mapping[Path, str], folders: Sequence[Path]) -> dict[Path, str]:
    """Return which half of which game each video file is, ``<game>/<half>``.

    ``1_224p.mkv`` and ``2.mp4`` are halves of the game of their folder, any other file is a game with one half.

    Args:
        videos: Names by file, for those that are no half.
        folders: From which the folders of games are named: SoccerNet's ``league/season/game``.

    Raises:
        DataError: If two files are the same half.
    """
    found: dict[Path, str] = {}
    taken: dict[str, Path] = {}
    for path, name in videos.items():
        half = _HALF.fullmatch(path.stem)
        one = f"{_game(path.absolute().parent, folders)}/{half[1]}" if half else f"{name}/1"
        if one in taken:
            raise DataError(f"{taken[one]} and {path} are both half {one}: SoccerNet's results have one of each half.")
        found[path] = one
        taken[one] = path
    return found


def _game(folder: Path, folders: Sequence[Path]) -> str:
    """Return the path of a game's folder below the nearest of some folders; its name if it is one, or below none."""
    roots = [root for one in folders if folder.is_relative_to(root := one.absolute()) and folder != root]
    name = str(folder.relative_to(max(roots, key=lambda root: len(root.parts)))) if roots else folder.name
    return os.fsencode(name).decode(errors="replace")


def add_results(folder: Path, half: str, detections: Segments) -> Path:
    """Write the detections of a half, ``<game>/<half>``, beside those of the other half that are there.

    Raises:
        DataError: If a file that is there is malformed.
    """
    game = half.rpartition("/")[0]
    with locked(folder / ".soccernet.lock", f"{folder} is being written to", wait=True):
        path = folder / game / RESULTS
        known = read_game(path, game) if path.exists() else {}
        (written,) = write_results(folder, {**known, half: detections})
    return written


def _prediction(half: int, time: float, label: str, score: float) -> dict[str, Any]:
    return {**_entry(half, time, label), "half": str(half), "confidence": str(score)}


def _entry(half: int, time: float, label: str) -> dict[str, Any]:
    milliseconds = max(0, round(1000 * time))
    minutes, seconds = divmod(milliseconds // 1000, 60)
    return {
        "gameTime": f"{half} - {minutes:02d}:{seconds:02d}",
        "label": label,
        "position": str(milliseconds),
    }


def _moment(entry: Mapping[str, Any]) -> tuple[int, float, str]:
    """Return half, seconds and label of an entry; without a position, the game time counts."""
    read = _GAME_TIME.fullmatch(entry["gameTime"])
    label = entry["label"]
    if read is None or not isinstance(label, str):
        raise ValueError
    half, minutes, seconds = map(int, read.groups())
    time = float(entry["position"]) / 1000 if "position" in entry else 60.0 * minutes + seconds
    if not 0 <= time <= LONGEST or half < 1:
        raise ValueError
    read_text(label, "label")
    return half, time, label


def _segments(video_id: str, events: list[tuple[float, str, float]]) -> Segments:
    times = np.array([time for time, _, _ in events], dtype=np.float64)
    scores = np.array([score for _, _, score in events], dtype=np.float64)
    return Segments(video_id, times, times, tuple(label for _, label, _ in events), scores)
