"""`lofi data diff` and `lofi data merge`: two versions of the labels."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lofi_tal.cli.changes import show_changes
from lofi_tal.cli.common import JsonOption, percent, print_json, print_table, say
from lofi_tal.errors import counted

if TYPE_CHECKING:
    from lofi_tal.evaluation.agreement import Agreement

_MOST = 50  # changes that are printed

_Tiou = Annotated[float, typer.Option(help="tIoU from which two segments are taken for the same action.")]


def register(data: typer.Typer) -> None:
    """Add the commands of this module to `lofi data`."""
    data.command()(diff)
    data.command()(merge)


def diff(
    old: Annotated[Path, typer.Argument(help="ActivityNet-style JSON.")],
    new: Annotated[Path, typer.Argument(help="The same, later or by somebody else.")],
    tiou: _Tiou = 0.5,
    everything: Annotated[bool, typer.Option("--all", help=f"Print all changes, not only the first {_MOST}.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two versions of the labels, and how far they agree.

    Example: lofi data diff labels.json corrected.json
    """
    from lofi_tal.annotations import load_annotations
    from lofi_tal.evaluation.agreement import agreement, label_changes

    before, now = load_annotations(old), load_annotations(new)
    changes = list(label_changes(before, now, tiou))
    agreed = agreement(before, now, tiou) if before.videos.keys() & now.videos.keys() else None
    if as_json:
        print_json({"changes": [vars(change) for change in changes], "agreement": _agreement_json(agreed)})
        return
    videos = len(before.videos.keys() | now.videos.keys())
    show_changes(changes, videos, most=None if everything else _MOST, more="--all")
    if agreed is not None and changes:
        show_agreement(agreed)


def merge(
    first: Annotated[Path, typer.Argument(help="ActivityNet-style JSON; wins where the two contradict each other.")],
    second: Annotated[Path, typer.Argument(help="ActivityNet-style JSON.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    tiou: _Tiou = 0.5,
    matched: Annotated[
        str, typer.Option(help="Times of an action that both have: first, second, or mean of the two.")
    ] = "mean",
    unmatched: Annotated[str, typer.Option(help="Action that only one has: keep or drop.")] = "keep",
    as_json: JsonOption = False,
) -> None:
    """Merge the labels of two people, or of an older and a newer file, and show how far they agree.

    Example: lofi data merge anna.json ben.json -o labels.json
    """
    from lofi_tal.annotations import load_annotations, save_annotations
    from lofi_tal.evaluation.agreement import agreement
    from lofi_tal.evaluation.merging import merge_annotations

    one, other = load_annotations(first), load_annotations(second)
    agreed = agreement(one, other, tiou) if one.videos.keys() & other.videos.keys() else None
    merged = merge_annotations(one, other, tiou=tiou, matched=matched, unmatched=unmatched)
    save_annotations(output, merged.annotations)
    if as_json:
        print_json({"notes": merged.notes, "agreement": _agreement_json(agreed)})
        return
    for note in merged.notes[:_MOST]:
        say(note)
    if len(merged.notes) > _MOST:
        say(f"... and {len(merged.notes) - _MOST} more (--json).")
    if agreed is not None:
        show_agreement(agreed)
    segments = sum(len(video.segments) for video in merged.annotations)
    say(
        f"{counted(len(merged.annotations), 'video')}, {counted(segments, 'segment')}, "
        f"{counted(len(merged.notes), 'contradiction')}: {output}"
    )


def show_agreement(found: Agreement) -> None:
    """Print how far two versions agree, class by class."""
    print_table(
        f"agreement on {found.videos} common videos, at tIoU {found.tiou:g}",
        ("class", "first", "second", "matched", "F1 %", "kappa"),
        [
            (
                label,
                one.first,
                one.second,
                one.matched,
                percent(one.f1),
                "-" if one.kappa is None else f"{one.kappa:.2f}",
            )
            for label, one in found.classes.items()
        ],
    )
    say(f"F1 of all: {percent(found.f1)} %." + (
        "" if found.boundary is None else f" Boundaries of matched segments differ by {found.boundary:.2f} s (median)."
    ))  # fmt: skip
    for one, other, count in found.confused[:5]:
        say(f"Confused: {one} with {other}, {counted(count, 'time')}.")


def _agreement_json(found: Agreement | None) -> dict[str, Any] | None:
    if found is None:
        return None
    classes = {label: {**asdict(one), "f1": one.f1} for label, one in found.classes.items()}
    return {**asdict(found), "f1": found.f1, "classes": classes}
