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
    QuietOption,
    RecursiveOption,
    ShareOption,
    complain,
    print_json,
    print_table,
    read_threshold,
    say,
)
from lofi_tal.errors import LofiError, counted
from lofi_tal.leases import PATIENCE
from lofi_tal.progress import clock_text
from lofi_tal.shipped import DEMO_LOCALIZER, DEMO_TRUTH, DEMO_VIDEO

if TYPE_CHECKING:
    from lofi_tal.evaluation import Interval, OperatingPoint
    from lofi_tal.segments import Segments
    from lofi_tal.showing import Shown


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
            help="Lowest score shown. Default: chosen by class on held-out training videos. The JSON has all of them.",
            callback=read_threshold,
        ),
    ] = None,
    min_precision: Annotated[
        float | None,
        typer.Option(help="Show as much as can be shown if this share of it is to be right, as 0.8.", min=0, max=1),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show all detections, with all labels of a span.")] = False,
    device: DeviceOption = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, fp32, bf16 or fp16. A number, as 0.8, is taken for --min-precision.")
    ] = "auto",
    share: ShareOption = False,
    patience: PatienceOption = PATIENCE,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Detect actions in video files: print a table, and with --out write JSON, CSV, subtitles and a timeline page.

    Examples: lofi detect --demo
              lofi detect holiday.mp4 --model runs/mine --out found/
              lofi detect holiday.mp4 --model runs/mine --min-precision 0.8
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
    min_precision, precision = _which_precision(min_precision, precision)
    results, failed, shown = detect_files(
        [everywhere(path) if recursive and path.is_dir() else path for path in videos],
        model,
        out=out,
        threshold=threshold,
        wanted_precision=min_precision,
        everything=everything,
        device=device,
        precision=precision,
        patience=patience if share else None,
        quiet=quiet,
        formats=formats or DEFAULT_FORMATS,
    )
    if as_json:
        from lofi_tal.segments import detections_to_activitynet

        expected = _expected(model, threshold, min_precision, everything=everything)
        said = {"shown": shown.to_json()} | ({} if expected is None else {"expected": expected.to_json()})
        print_json(detections_to_activitynet(results) | said)
    else:
        show_segments(results, shown)
        if results and (point := _expected(model, threshold, min_precision, everything=everything)) is not None:
            _say_expected(point, min_precision)
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


def _which_precision(wanted: float | None, arithmetic: str) -> tuple[float | None, str]:
    """Return the wanted precision and the arithmetic; a number given for the latter is the former."""
    try:
        share = float(arithmetic)
    except ValueError:
        return wanted, arithmetic
    if wanted is not None:
        raise LofiError(f"--min-precision {wanted:g} and --precision {share:g} are the same option: give one of them.")
    return share, "auto"


def _expected(model: Path, threshold: float | None, wanted: float | None, *, everything: bool) -> OperatingPoint | None:
    """Return what share of what is shown is right, as far as the model knows."""
    from lofi_tal.evaluation import load_sheet, operating_point
    from lofi_tal.model_folders import find_model

    if threshold is not None or everything:
        return None
    sheet = load_sheet(find_model(model))
    return None if sheet is None else operating_point(sheet.verdicts, wanted)


def _say_expected(point: OperatingPoint, wanted: float | None) -> None:
    """Say what share of what is shown is right, and of which classes nothing is shown."""
    aim = "the best F1" if wanted is None else f"a precision of {wanted:g}"
    chosen_on = counted(point.videos, "selection video")
    if not point.rates.shown:
        complain(f"No score reaches {aim} on {chosen_on}: nothing is shown. --all shows all.")
        return
    say(
        f"Shown for {aim}: expect {_share(point.rates.precision)} of it to be right, and {_share(point.rates.recall)} "
        f"of the actions to be found, at tIoU 0.5; chosen on {chosen_on}. --all shows all."
    )
    if none := [label for label in point.classes if point.thresholds.of(label) == float("inf")]:
        first = ", ".join(none[:5])
        complain(f"No score reaches {aim} for {counted(len(none), 'class')}, of which nothing is shown: {first}")


def _share(one: Interval) -> str:
    return f"{100 * one.value:.0f} % ({100 * one.low:.0f} to {100 * one.high:.0f})"


def show_segments(results: Iterable[Segments], shown: Shown) -> None:
    """Print, for each video, a table of the segments that are shown, by their start; of point events by their time."""
    for segments in results:
        few = shown.of(segments)
        few = few[(few.start if few.time is None else few.time).argsort(kind="stable")]
        title = f"{segments.video_id}: {len(few)} of {len(segments)} {'segments' if few.time is None else 'events'}"
        title += "" if shown.limit == float("-inf") else f" score at least {shown}"
        if not len(few):
            say(title)
            continue
        times = {"start": few.start, "end": few.end} if few.time is None else {"time": few.time}
        rows = zip(few.label, few.score, *times.values(), strict=True)
        print_table(title, (*times, "label", "score"), [
            (*(clock_text(time, 2) for time in at), label, f"{score:.3f}") for label, score, *at in rows
        ])  # fmt: skip


def show_truth(path: Path) -> None:
    """Print the true segments of the videos in an annotation file."""
    from lofi_tal.files import read_json

    for video_id, entry in read_json(path)["database"].items():
        rows = [(*(clock_text(t, 2) for t in one["segment"]), one["label"]) for one in entry["annotations"]]
        print_table(f"{video_id}: ground truth", ("start", "end", "label"), rows)
