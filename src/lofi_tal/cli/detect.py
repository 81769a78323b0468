"""The command that detects actions in video files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lofi_tal.cli.common import (
    DeviceOption,
    JsonOption,
    PatienceOption,
    PrecisionOption,
    QuietOption,
    RecursiveOption,
    ShareOption,
    complain,
    print_json,
    print_table,
    say,
)
from lofi_tal.errors import LofiError
from lofi_tal.leases import PATIENCE
from lofi_tal.progress import clock_text
from lofi_tal.shipped import DEMO_LOCALIZER, DEMO_TRUTH, DEMO_VIDEO

if TYPE_CHECKING:
    from lofi_tal.segments import Segments


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("detect")(detect)


def detect(
    videos: Annotated[
        list[Path] | None, typer.Argument(metavar="VIDEO...", help="Video files or folders of videos.")
    ] = None,
    model: Annotated[Path | None, typer.Option("--model", "-m", help="Model folder or run folder.")] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Try it on a small video with a small model; both come with the package.")
    ] = False,
    recursive: RecursiveOption = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder to write <video>.json, .csv, .srt and .html to; see --format."),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="Format to write, one of `lofi models list`; may be repeated. Default: json, csv, srt and html.",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Lowest score shown. Default: chosen on held-out training videos. The JSON has all detections."
        ),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    share: ShareOption = False,
    patience: PatienceOption = PATIENCE,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Detect actions in video files: print a table, and with --out write JSON, CSV, subtitles and a timeline page.

    Examples: lofi detect --demo
              lofi detect holiday.mp4 --model runs/mine --out found/
    """
    from lofi_tal.detection import detect_files
    from lofi_tal.video import everywhere
    from lofi_tal.writers import DEFAULT_FORMATS

    if demo and not (videos or model):
        videos, model = [DEMO_VIDEO], DEMO_LOCALIZER
    elif demo:
        raise LofiError("--demo brings its own video and model: leave out VIDEO and --model, or leave out --demo.")
    elif not videos or model is None:
        raise LofiError("Give video files and --model, as in `lofi detect holiday.mp4 --model runs/mine`, or --demo.")
    if formats and out is None:
        raise LofiError("--format needs a folder to write to: add --out FOLDER.")
    results, failed, limit = detect_files(
        [everywhere(path) if recursive and path.is_dir() else path for path in videos],
        model,
        out=out,
        threshold=threshold,
        device=device,
        precision=precision,
        patience=patience if share else None,
        quiet=quiet,
        formats=formats or DEFAULT_FORMATS,
    )
    if as_json:
        from lofi_tal.segments import detections_to_activitynet

        print_json(detections_to_activitynet(results))
    else:
        show_segments(results, limit)
        if demo:
            show_truth(DEMO_TRUTH)
            say("Detections may overlap: each is judged by its own score. See them beside the video: --out found/")
            say("Next: `lofi demo` trains such a model; `lofi data convert` begins with labels of your own.")
    if out is not None and results:
        say(f"Written to {out}" + (f": {len(results)} by this process" if share else ""))
    for reason in failed.values():
        complain(reason)
    if failed:
        raise typer.Exit(4 if results or share else 3)


def show_segments(results: Iterable[Segments], limit: float) -> None:
    """Print, for each video, a table of the segments that score at least ``limit``, by their start."""
    for segments in results:
        shown = segments.above(limit)
        shown = shown[shown.start.argsort(kind="stable")]
        title = f"{segments.video_id}: {len(shown)} of {len(segments)} segments score at least {limit:.3g}"
        if not len(shown):
            say(title)
            continue
        rows = zip(shown.start, shown.end, shown.label, shown.score, strict=True)
        print_table(title, ("start", "end", "label", "score"), [
            (clock_text(start, 2), clock_text(end, 2), label, f"{score:.3f}") for start, end, label, score in rows
        ])  # fmt: skip


def show_truth(path: Path) -> None:
    """Print the true segments of the videos in an annotation file."""
    from lofi_tal.files import read_json

    for video_id, entry in read_json(path)["database"].items():
        rows = [(*(clock_text(t, 2) for t in one["segment"]), one["label"]) for one in entry["annotations"]]
        print_table(f"{video_id}: ground truth", ("start", "end", "label"), rows)
