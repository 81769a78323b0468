"""Commands on data: check, synth, and those of :mod:`lofi_tal.cli.datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lofi_tal.cli import datasets
from lofi_tal.cli.common import JsonOption, PatienceOption, QuietOption, ShareOption, print_json, print_table, say
from lofi_tal.leases import PATIENCE

if TYPE_CHECKING:
    from lofi_tal.annotations import CheckReport


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    data = typer.Typer(help="Check, convert, split and describe data sets, or make one.", no_args_is_help=True)
    data.command("check")(check)
    datasets.register(data)
    data.command("synth")(synth)
    app.add_typer(data, name="data")


def check(
    annotations: Annotated[Path, typer.Argument(help="ActivityNet-style JSON.")],
    videos: Annotated[
        Path | None, typer.Option(help="Folder of the videos; without it only the labels are checked.")
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="File that keeps what is found of the videos: a later check, or a run, goes on from it."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that examine videos.")] = 4,
    share: ShareOption = False,
    patience: PatienceOption = PATIENCE,
    most: Annotated[int, typer.Option(help="Findings shown in the table.")] = 50,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say what is wrong with annotations and videos, before any training.

    With --share, the command can be started several times, on any machine, with one --manifest that all of them see.

    Exit status 3 if there is an error; warnings alone give 0.
    """
    from lofi_tal.annotations import check_annotations, load_annotations
    from lofi_tal.progress import Progress
    from lofi_tal.video import VideoManifest

    loaded = load_annotations(annotations)
    known = VideoManifest(manifest, workers=workers)
    with Progress("check videos", len(loaded), quiet=quiet or videos is None) as progress:
        shared = patience if share else None
        report = check_annotations(loaded, videos, manifest=known, seen=progress.advance, patience=shared)
    if as_json:
        print_json(report.to_json())
    else:
        show_check(report, most)
    if not report.ok:
        raise typer.Exit(3)


def show_check(report: CheckReport, most: int) -> None:
    """Print what a check found: subsets, findings, and a verdict."""
    rows = []
    for subset, facts in report.summary.items():
        seconds = facts.get("segment_seconds") or {}
        rows.append((
            subset, facts["videos"], facts["videos_with_truth"], facts["instances"], facts["classes"],
            f"{facts['hours']:.2f}", f"{seconds['p50']:.1f} s" if "p50" in seconds else "-",
        ))  # fmt: skip
    print_table("", ("subset", "videos", "with truth", "instances", "classes", "hours", "median segment"), rows)
    if report.findings:
        ranked = sorted(report.findings, key=lambda finding: finding.severity != "error")
        print_table(
            "",
            ("severity", "kind", "video", "detail"),
            [(f.severity, f.kind, f.video_id, f.detail) for f in ranked[:most]],
        )
    if len(report.findings) > most:
        counts = ", ".join(f"{kind} {count}" for kind, count in report.counts.items())
        say(f"{len(report.findings)} findings in all ({counts}); --most shows more, --json has them all.")
    say("No errors." if report.ok else "There are errors: training or evaluation would suffer.")


def synth(
    output: Annotated[Path, typer.Argument(help="Folder to make; an interrupted one is completed.")],
    preset: Annotated[
        str, typer.Option(help="tiny (tests), small (demo), bench, bench_broad, bench_gpu (experiments).")
    ] = "small",
    seed: Annotated[int, typer.Option(help="Of everything random; the same seed gives the same bytes.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that render; all cores without it.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Make the embedded benchmark: real encoded videos whose classes are told apart by motion alone."""
    from lofi_tal.demo import make_benchmark

    dataset = make_benchmark(output, preset=preset, seed=seed, workers=workers, quiet=quiet)
    for path in (dataset.annotations, dataset.videos, dataset.clips_csv):
        say(str(path))
