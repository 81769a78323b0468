"""Commands on annotation files: check, convert, stats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from lofi_tal.cli.common import (
    JsonOption,
    PatienceOption,
    QuietOption,
    RecursiveOption,
    ShareOption,
    command_line,
    complain,
    percent,
    print_json,
    print_table,
    say,
)
from lofi_tal.errors import LofiError, counted, nearest
from lofi_tal.leases import PATIENCE

if TYPE_CHECKING:
    from lofi_tal.annotations import CheckReport, Statistics
    from lofi_tal.annotations.formats import Imported

_MOST = 20  # lines of a kind that are printed

_Inputs = Annotated[
    list[Path],
    typer.Argument(metavar="IN...", help="Annotation files; for THUMOS14 and frame-wise text also a folder."),
]
_Fps = Annotated[
    float | None, typer.Option(help="Frame rate, for files that count frames. With it, CSV times are frames too.")
]
_Columns = Annotated[
    str | None,
    typer.Option(
        metavar="OURS=THEIRS,...",
        help="Columns of a CSV, such as video=filename,start=onset,end=offset,label=behavior. "
        "length=... may replace end.",
    ),
]
_Layers = Annotated[
    list[str] | None,
    typer.Option(
        help="Tier (ELAN), attribute (VIA, CVAT), control (Label Studio) or observation (BORIS) to read; may be "
        "repeated."
    ),
]
_Target = Annotated[
    str,
    typer.Option(
        "--to",
        help="activitynet, csv, opentad, actionformer; or, to go on labelling there: via, boris, label-studio, "
        "audacity, elan, cvat; or soccernet, for point events.",
    ),
]


def _width(value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise LofiError(f"--events {value:g}: allowed are seconds above 0, as 2.")
    return value


_EventsOption = Annotated[
    float | None,
    typer.Option(
        help="Labels with start = end are events: segments of so many seconds (data.events).", callback=_width
    ),
]
_Background = Annotated[list[str] | None, typer.Option(help="Label of background; may be repeated.")]


def register(data: typer.Typer) -> None:
    """Add the commands of this module to `lofi data`."""
    data.command("check")(check)
    data.command("convert", cls=_ConvertCommand)(convert)
    data.command("stats")(stats)


def check(
    annotations: Annotated[Path, typer.Argument(help="ActivityNet-style JSON.")],
    videos: Annotated[
        Path | None, typer.Option(help="Folder of the videos. Without it, only the labels are checked.")
    ] = None,
    recursive: RecursiveOption = False,
    manifest: Annotated[
        Path | None,
        typer.Option(help="File that stores the results of the video check; later checks and runs use it."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that examine videos.")] = 4,
    share: ShareOption = False,
    patience: PatienceOption = PATIENCE,
    train_subset: Annotated[str, typer.Option(help="Subset to train on.")] = "training",
    eval_subset: Annotated[str, typer.Option(help="Subset to evaluate.")] = "validation",
    events: _EventsOption = None,
    most: Annotated[int, typer.Option(help="Maximum number of findings shown in the table.")] = 50,
    everything: Annotated[
        bool, typer.Option("--all", help="Show a line for each finding, instead of one for all equal findings.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Check annotations and videos, before any training.

    With --share, start the command several times, on any machine, with one --manifest that all of them see.

    Exit status 3 if there is an error; warnings alone give 0.
    """
    from lofi_tal.annotations import check_annotations, parse_annotations, read_labels
    from lofi_tal.progress import Progress
    from lofi_tal.video import VideoManifest, everywhere

    loaded = parse_annotations(read_labels(annotations, events), annotations)
    known = VideoManifest(manifest, workers=workers)
    with Progress("check videos", len(loaded), quiet=quiet or videos is None) as progress:
        report = check_annotations(
            loaded,
            None if videos is None else everywhere(videos, recursive),
            manifest=known,
            seen=progress.advance,
            patience=patience if share else None,
            subsets=(train_subset, eval_subset),
        )
    if as_json:
        print_json(report.to_json())
    else:
        show_check(report, most, everything)
    if not report.ok:
        raise typer.Exit(3)


def show_check(report: CheckReport, most: int, everything: bool = False) -> None:
    """Print what a check found: subsets, findings, and a verdict."""
    from lofi_tal.annotations import group_findings

    rows = []
    for subset, facts in report.summary.items():
        seconds = facts.get("segment_seconds") or {}
        rows.append((
            subset, facts["videos"], facts["videos_with_truth"], facts["instances"], facts["classes"],
            f"{facts['hours']:.2f}", f"{seconds['p50']:.1f} s" if "p50" in seconds else "-",
        ))  # fmt: skip
    print_table("", ("subset", "videos", "with truth", "instances", "classes", "hours", "median segment"), rows)
    lines = group_findings(report.findings)
    if everything:
        lines = [line for finding in report.findings for line in group_findings([finding])]
        lines.sort(key=lambda line: line.severity != "error")
    if lines:
        columns = ("severity", "kind", "count", "video", "detail (of the first)")
        shown = [(line.severity, line.kind, line.count, line.named, line.detail) for line in lines[:most]]
        print_table("", columns, shown)
    if len(lines) > most:
        say(f"{most} of {len(lines)} lines are shown; --most shows more, --json has all findings.")
    say(report.verdict)


class _ConvertCommand(TyperCommand):
    """The command whose help lists the formats that are there, those of other packages among them."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from lofi_tal.annotations.formats import list_formats

        self.epilog = f"Formats that are read: {', '.join(list_formats())}."
        super().format_help(ctx, formatter)


def convert(
    inputs: _Inputs,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write; a folder for audacity, elan, cvat, soccernet.")
    ],
    source: Annotated[
        str | None, typer.Option("--from", help="Format, one of those below. Default: detected from the files.")
    ] = None,
    target: _Target = "activitynet",
    videos: Annotated[
        Path | None, typer.Option(help="Folder of the videos, to read durations, frame rates and frame counts.")
    ] = None,
    recursive: RecursiveOption = False,
    subset: Annotated[str, typer.Option(help="Subset of videos if the file names none.")] = "training",
    fps: _Fps = None,
    columns: _Columns = None,
    layer: _Layers = None,
    background: _Background = None,
    lenient: Annotated[
        bool, typer.Option("--lenient", help="Skip invalid rows, list them, and exit with status 4.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Convert annotations from other tools and benchmarks, or to their files.

    Example: lofi data convert session1.eaf session2.eaf --layer actions --videos videos/ -o labels.json
    """
    from lofi_tal.annotations.formats import ImportOptions, VideoFolder, import_annotations
    from lofi_tal.annotations.formats.csv_table import parse_columns
    from lofi_tal.annotations.formats.export import EVENT_WRITERS, WRITERS
    from lofi_tal.video import everywhere

    writers = WRITERS | EVENT_WRITERS
    if target not in writers:
        raise LofiError(f"--to {target!r} is unknown; allowed: {', '.join(writers)}.{nearest(target, writers)}")
    folder = None if videos is None else VideoFolder(everywhere(videos, recursive))
    options = ImportOptions(
        subset=subset,
        fps=fps,
        layers=tuple(layer or ()),
        strict=not lenient,
        videos=folder,
        columns=parse_columns(columns) if columns else {},
        background=tuple(background or ()),
    )
    imported = import_annotations(inputs, source, options)
    writers[target](output, imported.annotations, folder)
    if as_json:
        print_json(_imported_json(imported, output))
    _show_imported(imported, output, target)


def _imported_json(imported: Imported, output: Path) -> dict[str, Any]:
    annotations = imported.annotations
    return {
        "output": str(output),
        "videos": len(annotations),
        "subsets": annotations.subsets,
        "instances": sum(len(video.segments) for video in annotations),
        "labels": list(annotations.labels),
        "remarks": list(imported.remarks),
        "left_out": list(annotations.notes),
    }


def _show_imported(imported: Imported, output: Path, target: str) -> None:
    """Say what was read and what was skipped; exit with status 4 if something invalid was skipped."""
    annotations = imported.annotations
    instances = sum(len(video.segments) for video in annotations)
    counts = ", ".join(f"{count} {name}" for name, count in annotations.subsets.items())
    say(
        f"{counted(len(annotations), 'video')} ({counts}), {counted(instances, 'instance')}, "
        f"{counted(len(annotations.labels), 'class')}: {output}"
    )
    ignored = sum(len(video.ignored) for video in annotations)
    if ignored:
        fate = "a table cannot hold them" if target == "csv" else "`lofi evaluate --ignore-ambiguous` uses them"
        say(f"{ignored} ambiguous parts do not count as instances; {fate}.")
    for remark in imported.remarks:
        say(remark)
    nested = [video_id for video_id in annotations.videos if "/" in video_id]
    if nested and target in ("via", "boris", "elan", "audacity"):
        more = f" and {len(nested) - 1} more" if nested[1:] else ""
        complain(f"{target} keeps no folders of ids: {nested[0]!r}{more} come back under other ids.")
    for reason in annotations.notes[:_MOST]:
        complain(reason)
    if annotations.notes:
        complain(f"Left out, for they could not be used (rows, records or videos): {len(annotations.notes)}.")
        raise typer.Exit(4)


def stats(
    annotations: Annotated[Path, typer.Argument(help="ActivityNet-style JSON.")],
    subset: Annotated[str | None, typer.Option(help="Only this subset.")] = None,
    videos: Annotated[
        Path | None, typer.Option(help="Folder of the videos: how long they are, instead of the annotated durations.")
    ] = None,
    recursive: RecursiveOption = False,
    events: _EventsOption = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write a page with plots into.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Describe a data set: classes, lengths, gaps, overlap, background, and segments too short for a snippet grid.

    Exit status 4 if a segment cannot be used or a video cannot be read; each is listed.

    Example: lofi data stats labels.json --videos videos/ --subset training --out statistics/
    """
    from lofi_tal.annotations import describe, measure_videos, parse_annotations, read_labels
    from lofi_tal.report import write_statistics
    from lofi_tal.video import everywhere

    loaded = parse_annotations(read_labels(annotations, events), annotations)
    chosen = loaded if subset is None else loaded.subset(subset)
    clocks, unusable, failed = measure_videos(chosen, None if videos is None else everywhere(videos, recursive))
    figures = describe(chosen, clocks, unusable)
    if out is not None:
        facts = {"command": command_line(), "annotations": str(annotations), "subset": subset or "all"}
        write_statistics(out / "statistics.html", f"Statistics of {annotations.name}", figures, facts=facts)
    if as_json:
        print_json(figures.to_json())
    else:
        show_statistics(figures)
    if out is not None:
        say(f"Page: {out / 'statistics.html'}")
    for line in [*map(str, figures.dropped), *(f"{name} was left out: {why}" for name, why in failed.items())][:_MOST]:
        complain(line)
    if failed:
        complain(f"Unreadable: {counted(len(failed), 'video')}; their annotated durations count.")
    if figures.dropped:
        complain(f"Left out, for they cannot be used: {counted(len(figures.dropped), 'annotation')}; --json lists all.")
    if failed or figures.dropped:
        raise typer.Exit(4)


def show_statistics(figures: Statistics) -> None:
    """Print the figures: totals, percentiles and classes."""
    document = figures.to_json()
    print_table(
        f"{counted(figures.videos, 'video')} ({figures.videos_with_truth} with segments), "
        f"{counted(figures.instances, 'instance')} of {counted(len(figures.classes), 'class')}, "
        f"{figures.hours:.2f} hours",
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
