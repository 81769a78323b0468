"""The labels that a run was made from, kept in its folder, and what changed since."""

from __future__ import annotations

from pathlib import Path

from lofi_tal.annotations import load_annotations, save_annotations
from lofi_tal.errors import DataError
from lofi_tal.evaluation.agreement import LabelChange, label_changes
from lofi_tal.run.data import RunData

LABELS = "labels.json"


def note_labels(folder: Path, data: RunData, *, first: bool = False) -> None:
    """Write the labels of a run into its folder; with ``first`` only if there are none."""
    if not (first and (folder / LABELS).exists()):
        save_annotations(folder / LABELS, data.annotations)


def changes_since(folder: Path, data: RunData) -> tuple[tuple[LabelChange, ...], int]:
    """Return what changed since a run noted its labels, and the number of videos in both versions together.

    A run of an earlier version has noted none: there are no changes then, and 0 videos.
    """
    try:
        before, now = load_annotations(folder / LABELS), data.annotations
    except DataError:  # of an earlier version, or damaged
        return (), 0
    return tuple(label_changes(before, now)), len(before.videos.keys() | now.videos.keys())
