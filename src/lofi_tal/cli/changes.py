"""What changed in the labels, and what a run does again: the words of `lofi data diff`, `lofi run` and `--dry-run`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lofi_tal.cli.common import pasted, say

if TYPE_CHECKING:
    from lofi_tal.evaluation.agreement import LabelChange
    from lofi_tal.run import Run
    from lofi_tal.run.outlook import Outlook

_MOST = 10  # changes that a run names


def show_changes(changes: Sequence[LabelChange], videos: int, *, most: int | None, more: str) -> None:
    """Print what changed in the labels, line by line, and the counts.

    Args:
        changes: What changed.
        videos: Number of videos of both versions together.
        most: Lines that are printed; None for all.
        more: Where to find the others.
    """
    from lofi_tal.evaluation.agreement import changes_text

    for change in changes[:most]:
        kind = "" if " " in change.kind else f"{change.kind}: "
        say(f"{change.video_id}: {kind}{change.text}")
    if most is not None and len(changes) > most:
        say(f"... and {len(changes) - most} more ({more}).")
    say(changes_text(changes, videos))


def tell_changes(run: Run, recipe: Path) -> None:
    """Say what changed in the labels since the run in the folder, or the one that it starts from, and what that means.

    Nothing is said where nothing changed, or of a run of several processes.
    """
    from lofi_tal.run.labels import LABELS
    from lofi_tal.run.outlook import outlook

    begun = (run.output / LABELS).exists()
    if run.fabric.world_size > 1 or not (begun or run.origin is not None):
        return
    run.data()
    found = outlook(run, run.output, run.recipe, run.origin)
    if found.changes or not begun:
        show_outlook(found, run.output, run.recipe.data.annotations, recipe, asked=run.folder.overwrite)


def show_outlook(found: Outlook, output: Path, annotations: Path, recipe: Path, *, asked: bool) -> None:
    """Print what changed, what is done again, what is kept and, where something would be replaced, what to do.

    Args:
        found: What a run would do.
        output: Its folder.
        annotations: The labels as they are now.
        recipe: The recipe.
        asked: The user has asked to replace.
    """
    from lofi_tal.run.labels import LABELS

    if found.changes and found.since is not None:
        say(f"Labels changed since {found.since}:")
        more = pasted("lofi", "data", "diff", found.since / LABELS, annotations)
        show_changes(found.changes, found.videos, most=_MOST, more=more)
    say(f"To run: {'; '.join(found.again)}." if found.again else "Nothing is to run: all is up to date.")
    if found.kept:
        say(f"Kept: {'; '.join(found.kept)}.")
    if found.replaces and not asked:
        start = pasted("lofi", "run", recipe, "-o", output.with_name(f"{output.name}-2"), "--from", output)
        say(f"Add --overwrite to replace what is there, or keep it and retrain from its weights: {start}")


def outlook_json(found: Outlook | None) -> dict[str, Any] | None:
    """Return what a run would do, as plain values."""
    if found is None:
        return None
    return {
        "labels_since": None if found.since is None else str(found.since),
        "changes": [vars(change) for change in found.changes],
        "to_run": list(found.again),
        "kept": list(found.kept),
        "replaces": found.replaces,
    }
