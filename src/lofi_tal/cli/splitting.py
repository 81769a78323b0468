"""`lofi data split`: videos into subsets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lofi_tal.cli.common import JsonOption, print_json, print_table, say
from lofi_tal.errors import LofiError, counted

if TYPE_CHECKING:
    from lofi_tal.annotations import Split


def register(data: typer.Typer) -> None:
    """Add the command of this module to `lofi data`."""
    data.command("split")(split)


def split(
    annotations: Annotated[Path, typer.Argument(help="ActivityNet-style JSON.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    shares: Annotated[str, typer.Option(help="Share of each subset.")] = "training=0.8,validation=0.2",
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    group_by: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="Keep videos whose ids have the same match (first group) in one subset."),
    ] = None,
    keep: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="ActivityNet-style JSON of an earlier split, such as labels.json of a run: its videos stay in the "
            "subset that they have there. Repeatable; the last file that has a video decides.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Split videos into subsets, so that each class has its share in each of them.

    With new labels, --keep an earlier split: a video that was trained on must not become one that is evaluated.

    Example: lofi data split labels.json -o split.json --group-by '^(person[0-9]+)_'
    """
    from lofi_tal.annotations import load_annotations, save_annotations, split_annotations

    kept = {video.video_id: video.subset for path in keep or () for video in load_annotations(path)}
    result = split_annotations(
        load_annotations(annotations), parse_shares(shares), seed=seed, group_by=group_by, keep=kept
    )
    save_annotations(output, result.annotations)
    if as_json:
        facts = {"subsets": result.annotations.subsets, "classes": result.counts, "groups": result.groups}
        print_json({"output": str(output), **facts})
    else:
        show_split(result, grouped=group_by is not None)
    say(f"Written to {output}")


def parse_shares(text: str) -> dict[str, float]:
    """Return the weights of ``name=number,...``.

    Raises:
        LofiError: If the text is not of that form.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        try:
            if not name or name in shares:
                raise ValueError
            shares[name] = float(value)
        except ValueError:
            raise LofiError(
                f"--shares {text!r}: expected name=number,..., each name once, such as training=0.8,validation=0.2."
            ) from None
    return shares


def show_split(result: Split, *, grouped: bool) -> None:
    """Print the number of videos of each class in each subset, and the number of groups if the user named any."""
    subsets = result.annotations.subsets
    names = list(dict.fromkeys([*subsets, *next(iter(result.counts.values()), {})]))
    rows = [(label, *(by_subset.get(name, 0) for name in names)) for label, by_subset in result.counts.items()]
    print_table(
        counted(len(result.annotations), "video") + (f" in {counted(result.groups, 'group')}" if grouped else ""),
        ("videos with class", *names),
        [*rows, ("all videos", *(subsets.get(name, 0) for name in names))],
    )
