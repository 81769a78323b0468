"""Lists of trimmed clips for stage 1, in the layout of Kinetics.

A CSV ``label,youtube_id,time_start,time_end,split[,is_cc]`` and one folder for each class that holds
``<id>_<start:06d>_<end:06d>.mp4`` (as the official downloader names them) or ``<id>.mp4``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lofi_tal.cells import unguarded
from lofi_tal.errors import DataError, nearest
from lofi_tal.files import read_text
from lofi_tal.video import VideoIndex, find_videos

_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "validate", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class Clip:
    """A trimmed clip of one class.

    Args:
        path: Its file.
        label: Class name.
        split: ``train``, ``val`` or ``test``.
    """

    path: Path
    label: str
    split: str


def load_clip_list(csv_path: Path | str, root: Path | str) -> tuple[list[Clip], list[str]]:
    """Read a clip list and look up its files.

    Class folders are found by the name of the class, with spaces or ``_``, with or without quotes and brackets.

    Args:
        csv_path: The list.
        root: Folder of the class folders.

    Returns:
        The clips that are there, in the order of the list, and for each of the others where it was looked for.

    Raises:
        DataError: If the list is not as expected, has a class without a name, validates a class that it does not
            train, or if no clip is there.
    """
    csv_path, root = Path(csv_path), Path(root)
    rows = _rows(csv_path)
    _check_classes(csv_path, rows)
    if not root.is_dir():
        raise DataError(f"The clip folder {root} does not exist.")
    folders = {_plain(folder.name): folder for folder in sorted(root.iterdir(), reverse=True) if folder.is_dir()}
    files = {label: _class_files(label, folders) for label in dict.fromkeys(row["label"] for row in rows)}
    clips, missing = [], []
    for row in rows:
        names = _file_names(row)
        path = next((file for name in names if (file := files[row["label"]].get(name))), None)
        if path is None:
            missing.append(f"{row['label']}/{' or '.join(names)}")
        else:
            clips.append(Clip(path, row["label"], _SPLITS[row["split"]]))
    if not clips:
        raise DataError(f"None of the {len(rows)} clips of {csv_path} is in {root}; the first: {missing[0]}.")
    trained = {clip.label for clip in clips if clip.split == "train"}
    empty = [label for label in files if label not in trained and any(_trains(row, label) for row in rows)]
    if empty:
        raise DataError(
            f"{csv_path}: {len(empty)} classes have no training clip in {root}, such as {empty[0]!r}. Put their clips "
            "there, or remove them from the list."
        )
    return clips, missing


def clip_labels(csv_path: Path) -> list[str]:
    """Return the classes of a clip list, without looking for its files.

    Raises:
        DataError: If the list is not as expected.
    """
    return list(dict.fromkeys(row["label"] for row in _rows(csv_path)))


def _rows(path: Path) -> list[dict[str, str]]:
    """Return the rows, their values stripped and every split known."""
    text = read_text(path, "CSV")
    try:
        table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        lacking = [column for column in _COLUMNS if column not in (table.fieldnames or ())]
        if lacking:
            raise DataError(
                f"{path}: the first line has no column {', '.join(map(repr, lacking))}; expected the header "
                f"{','.join(_COLUMNS)}, found {','.join(table.fieldnames or ()) or 'nothing'}."
            )
        rows = [_row(row, f"{path}, line {table.line_num}") for row in table]
    except csv.Error as error:
        raise DataError(f"{path} is not CSV: {error}.") from error
    if not rows:
        raise DataError(f"{path} lists no clips.")
    return rows


def _row(row: Mapping[str | None, str | None], where: str) -> dict[str, str]:
    values = {column: unguarded((row[column] or "").strip()) for column in _COLUMNS}
    if not values["label"].strip("\"'"):
        raise DataError(f"{where}: the label is empty.")
    if not values["youtube_id"]:
        raise DataError(f"{where}: the youtube_id is empty.")
    values["split"] = values["split"].lower()
    if values["split"] not in _SPLITS:
        raise DataError(
            f"{where}: split is {values['split']!r}; expected one of {', '.join(_SPLITS)}."
            f"{nearest(values['split'], _SPLITS)}"
        )
    return values


def _check_classes(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Refuse a list that validates what it does not train; a list without training clips may serve to evaluate."""
    classes: dict[str, dict[str, None]] = {}
    for row in rows:
        classes.setdefault(_SPLITS[row["split"]], {})[row["label"]] = None
    unseen = [label for label in classes.get("val", {}) if label not in classes.get("train", {})]
    if unseen and "train" in classes:
        raise DataError(
            f"{path}: {len(unseen)} classes of the validation clips have no training clip, such as {unseen[0]!r}."
            f"{nearest(unseen[0], classes['train'])} Remove them or add training clips."
        )


def _trains(row: Mapping[str, str], label: str) -> bool:
    return row["label"] == label and _SPLITS[row["split"]] == "train"


def _class_files(label: str, folders: Mapping[str, Path]) -> VideoIndex | dict[str, Path]:
    folder = folders.get(_plain(label))
    return find_videos(folder) if folder else {}


def _plain(name: str) -> str:
    """Return a class name without what folder names leave out."""
    return "".join(letter for letter in name.replace(" ", "_") if letter not in "\"'()")


def _file_names(row: Mapping[str, str]) -> list[str]:
    """Return the stems that a clip's file may have, the most specific first."""
    try:
        start, end = int(float(row["time_start"])), int(float(row["time_end"]))
        cut = [f"{row['youtube_id']}_{start:06d}_{end:06d}"]
    except (ValueError, OverflowError):  # trimmed clips of one's own may leave the times out
        cut = []
    return [*cut, row["youtube_id"]]
