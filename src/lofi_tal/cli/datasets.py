"""Commands on annotation files and features: convert, split, stats, export-features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lofi_tal.cli.common import (
    JsonOption,
    OutputOption,
    PatienceOption,
    QuietOption,
    RecipeArgument,
    SetOption,
    ShareOption,
    command_line,
    complain,
    percent,
    print_json,
    print_table,
    say,
)
from lofi_tal.errors import LofiError, nearest
from lofi_tal.leases import PATIENCE

if TYPE_CHECKING:
    from lofi_tal.annotations import Split, Statistics

_MOST = 20  # lines of a kind that are printed


def register(data: typer.Typer) -> None:
    """Add the commands of this module to `lofi data`."""
    data.command("convert")(convert)
    data.command("split")(split)
    data.command("stats")(stats)
    data.command("cache")(cache)
    data.command("export-features")(export_features)


def convert(
    inputs: Annotated[list[Path], typer.Argument(metavar="IN...", help="Annotation files; THUMOS14: their folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    source: Annotated[
        str | None,
        typer.Option("--from", help="Format, one of `lofi models list`; told from the files without it."),
    ] = None,
    target: Annotated[str, typer.Option("--to", help="activitynet, csv, opentad or actionformer.")] = "activitynet",
    videos: Annotated[
        Path | None, typer.Option(help="Folder of the videos, for durations, frame rates and numbers of frames.")
    ] = None,
    subset: Annotated[str, typer.Option(help="Subset of videos whose file names none.")] = "training",
    fps: Annotated[float | None, typer.Option(help="Frames a second, for files that count frames.")] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(help="Tier (ELAN), attribute (VIA) or control (Label Studio) to read; may be repeated."),
    ] = None,
    lenient: Annotated[
        bool, typer.Option("--lenient", help="Leave out what cannot be used, list it, and end with exit status 4.")
    ] = False,
) -> None:
    """Convert annotations of other tools and benchmarks, and to the files of OpenTAD and ActionFormer.

    Example: lofi data convert session1.eaf session2.eaf --layer actions --videos videos/ -o labels.json
    """
    from lofi_tal.annotations.formats import ImportOptions, VideoFolder, import_annotations
    from lofi_tal.annotations.formats.export import WRITERS

    if target not in WRITERS:
        raise LofiError(f"--to {target!r} is unknown; allowed: {', '.join(WRITERS)}.{nearest(target, WRITERS)}")
    folder = None if videos is None else VideoFolder(videos)
    options = ImportOptions(subset, fps, tuple(layer or ()), not lenient, folder)
    imported = import_annotations(inputs, source, options)
    annotations = imported.annotations
    WRITERS[target](output, annotations, folder)
    instances = sum(len(video.segments) for video in annotations)
    counts = ", ".join(f"{count} {name}" for name, count in annotations.subsets.items())
    say(f"{len(annotations)} videos ({counts}), {instances} instances, {len(annotations.labels)} classes: {output}")
    ignored = sum(len(video.ignored) for video in annotations)
    if ignored:
        fate = "a table has no place for them" if target == "csv" else "`lofi evaluate --ignore-ambiguous` uses them"
        say(f"{ignored} ambiguous parts are no instances; {fate}.")
    for remark in imported.remarks:
        say(remark)
    for reason in annotations.notes[:_MOST]:
        complain(reason)
    if annotations.notes:
        complain(f"{len(annotations.notes)} rows, records or videos could not be used and were left out.")
        raise typer.Exit(4)


def split(
    annotations: Annotated[Path, typer.Argument(help="ActivityNet-style JSON.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    shares: Annotated[str, typer.Option(help="Weight of each subset.")] = "training=0.8,validation=0.2",
    seed: Annotated[int, typer.Option(help="Another number, another draw.")] = 0,
    group_by: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="Videos with the same match (first group) in their ids stay together."),
    ] = None,
) -> None:
    """Assign subsets anew, so that every class has its share in each of them.

    Example: lofi data split labels.json -o split.json --group-by '^(person[0-9]+)_'
    """
    from lofi_tal.annotations import load_annotations, save_annotations, split_annotations

    result = split_annotations(load_annotations(annotations), parse_shares(shares), seed=seed, group_by=group_by)
    save_annotations(output, result.annotations)
    show_split(result)
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


def show_split(result: Split) -> None:
    """Print the number of videos of each class in each subset."""
    subsets = result.annotations.subsets
    names = list(dict.fromkeys([*subsets, *next(iter(result.counts.values()), {})]))
    rows = [(label, *(by_subset[name] for name in names)) for label, by_subset in result.counts.items()]
    print_table(
        f"{len(result.annotations)} videos in {result.groups} groups",
        ("videos with class", *names),
        [*rows, ("all videos", *(subsets.get(name, 0) for name in names))],
    )


def stats(
    annotations: Annotated[Path, typer.Argument(help="ActivityNet-style JSON.")],
    subset: Annotated[str | None, typer.Option(help="Only this subset.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for a page with plots.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Describe a data set: classes, lengths, gaps, overlap, background, and what a grid of snippets resolves.

    Example: lofi data stats labels.json --subset training --out statistics/
    """
    from lofi_tal.annotations import describe, load_annotations
    from lofi_tal.report import write_statistics

    loaded = load_annotations(annotations)
    chosen = loaded if subset is None else loaded.subset(subset)
    figures = describe(chosen)
    if out is not None:
        facts = {"command": command_line(), "annotations": str(annotations), "subset": subset or "all"}
        write_statistics(out / "statistics.html", f"Statistics of {annotations.name}", figures, facts=facts)
    if as_json:
        print_json(figures.to_json())
    else:
        show_statistics(figures)
    if out is not None:
        say(f"Page: {out / 'statistics.html'}")


def show_statistics(figures: Statistics) -> None:
    """Print the figures: totals, percentiles and classes."""
    document = figures.to_json()
    print_table(
        f"{figures.videos} videos ({figures.videos_with_truth} with segments), {figures.instances} instances of "
        f"{len(figures.classes)} classes, {figures.hours:.2f} hours",
        ("", *(f"{p} %" for p in _percentile_names(document))),
        [
            (name, *(f"{value:.{digits}f}" for value in document[key].values()))
            for name, key, digits in (
                ("length of segments (s)", "segment_seconds", 2),
                ("length / video", "segment_share", 3),
                ("gap to the next (s)", "gap_seconds", 2),
                ("segments a video", "instances_per_video", 0),
                ("length of videos (s)", "video_seconds", 1),
            )
            if document[key]
        ],
    )
    background = "unknown" if figures.background is None else f"{percent(figures.background)} %"
    say(
        f"Background: {background} of the time of videos with segments. Segments that overlap another: "
        f"{percent(figures.overlapping)} %, one of their class: {percent(figures.overlapping_same)} %."
    )
    below = ", ".join(f"L={count}: {percent(share)} %" for count, share in figures.below_step.items())
    say(f"Segments shorter than a snippet step: {below}.")
    if figures.left_out:
        say(f"{figures.left_out} segments lie outside their video or have no length; they are not counted.")
    print_table(
        "",
        ("class", "videos", "instances", "minutes", "median (s)"),
        [
            (one.label, one.videos, one.instances, f"{one.seconds / 60:.1f}", f"{one.median_seconds:.1f}")
            for one in figures.classes[:_MOST]
        ],
    )
    if len(figures.classes) > _MOST:
        say(f"The {_MOST} most frequent of {len(figures.classes)} classes; --json and --out have them all.")


def _percentile_names(document: dict[str, dict[str, float]]) -> Sequence[str]:
    return [name.removeprefix("p") for name in document["segment_seconds"]]


def export_features(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write <id>.npy files into.")],
    arm: Annotated[str, typer.Option(help="Whose encoder made the features: lofi or baseline.")] = "lofi",
) -> None:
    """Write a run's features as OpenTAD and ActionFormer read them: one .npy file a video, (snippets, channels).

    Example: lofi data export-features runs/mine -o features/
    """
    from lofi_tal.features import export_npy

    exported, failed = export_npy(run / "arms" / arm / "features", output)
    say(f"{exported} videos: {output}")
    for reason in failed:
        complain(reason)
    if failed:
        raise typer.Exit(4)


def cache(
    recipe: RecipeArgument,
    output: OutputOption = None,
    settings: SetOption = None,
    share: ShareOption = False,
    patience: PatienceOption = PATIENCE,
    quiet: QuietOption = False,
) -> None:
    """Decode all videos of a recipe once, before any training, into the frame cache of its run folder.

    One pass over a file serves all fidelities of stage 2. What is there already is not decoded again; training does the
    same by itself in its first epoch. Exit status 4 if a video cannot be decoded.

    Example: lofi data cache recipe.yaml -o runs/mine
    """
    from lofi_tal.recipes import load_recipe
    from lofi_tal.run import Run

    loaded = load_recipe(recipe, tuple(settings or ()))
    run = Run(
        loaded,
        output or Path("runs") / loaded.name,
        device="cpu",
        precision="fp32",
        quiet=quiet,
        patience=patience if share else None,
    )
    with run.open(command_line(), trains=False):
        whole, failed = run.fill_cache()
    held, limit = run.cache.held_bytes() / 2**30, loaded.data.cache_gib
    say(f"{run.cache.folder}: {held:.2f} GiB (limit {limit:g} GiB)")
    if not whole:
        complain("The cache or its disk is full: the rest will be decoded whenever it is needed; raise data.cache_gib.")
    for video_id, reason in failed.items():
        complain(f"{video_id}: {reason}")
    if failed:
        raise typer.Exit(4)
