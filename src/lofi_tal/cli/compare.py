"""`lofi compare`: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lofi_tal.cli.common import JsonOption, command_line, complain, percent, print_json, print_table, say
from lofi_tal.cli.evaluate import parse_thresholds
from lofi_tal.errors import counted

if TYPE_CHECKING:
    from lofi_tal.run.comparing import RunComparison

_CLASSES, _VIDEOS, _IDS = 10, 10, 5  # that are printed

RunsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN RUN...",
        help="Run folders, RUN:ARM, or result files in ActivityNet's form. The others are compared with the first. Of "
        "a run without an arm: lofi, then baseline, then features. One run alone: all of its arms.",
        show_default=False,
    ),
]

AnnotationsOption = Annotated[
    Path | None, typer.Option(help="ActivityNet-style JSON. Default: what the first run was evaluated against.")
]
SubsetOption = Annotated[str | None, typer.Option(help="Subset of it. Default: that of the first run, or validation.")]
TiouOption = Annotated[
    str | None, typer.Option(help="Thresholds of mAP, as `lofi evaluate --tiou`. Default: those of the first run.")
]
FoundOption = Annotated[
    float, typer.Option("--found-at", help="tIoU from which on an action counts as found.", min=0.05, max=1.0)
]
AllOption = Annotated[
    bool,
    typer.Option(
        "--all-videos",
        help="A video without an entry in a result file counts as one without detections, as in `lofi evaluate`. "
        "Without this option it is not compared.",
    ),
]
BootstrapOption = Annotated[
    int | None,
    typer.Option(help="Bootstrap samples of the videos. Default: 1000; 200 above 200,000 detections.", min=2),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="HTML page to write, with the changed videos on timelines.")
]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("compare")(compare)


def compare(
    runs: RunsArgument,
    annotations: AnnotationsOption = None,
    subset: SubsetOption = None,
    tiou: TiouOption = None,
    found_at: FoundOption = 0.5,
    all_videos: AllOption = False,
    bootstrap: BootstrapOption = None,
    output: OutputOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare finished runs: mAP with paired intervals, classes, errors, what was fixed and broken, settings, costs.

    Trains and runs nothing. Exit status 4: some videos or classes are not common to all and were left out.

    Example: lofi compare runs/first runs/second:baseline --output compare.html; other tools: lofi compare a.json b.json
    --annotations labels.json
    """
    from lofi_tal.run.comparing import compare_runs

    found = compare_runs(
        *runs,
        annotations=annotations,
        subset=subset,
        tiou_thresholds=None if tiou is None else _thresholds(tiou),
        tiou=found_at,
        all_videos=all_videos,
        replicates=bootstrap,
    )
    if output is not None:
        from lofi_tal.run.comparison_page import write_comparison_page

        write_comparison_page(output, found, command=command_line())
    if as_json:
        print_json(found.to_json())
    else:
        _show(found)
    _tell(found)
    if output is not None:
        say(f"Page: {output}")
    if found.left_out or found.classes_left_out:
        raise typer.Exit(4)


def _thresholds(text: str) -> tuple[float, ...]:
    from lofi_tal.evaluation import ACTIVITYNET_THRESHOLDS

    return tuple(parse_thresholds(text) or ACTIVITYNET_THRESHOLDS)


def _show(found: RunComparison) -> None:
    from lofi_tal.cli.events import show_comparison

    _show_map(found)
    show_comparison(found.events, found.names)
    _show_errors(found)
    _show_classes(found)
    _show_videos(found)
    _show_settings(found)
    _show_stages(found)


def _gains(found: RunComparison) -> list[str]:
    """Return the headings of the differences."""
    return [f"{one.second} − {one.first}" for one in found.comparison.differences]


def _show_map(found: RunComparison) -> None:
    from lofi_tal.report.page import WAYS

    comparison = found.comparison
    truth, share = comparison.truth, f"{100 * comparison.confidence:g} %"
    rows = []
    for way in comparison.systems[0].scores:
        for i, one in enumerate(comparison.systems):
            own, gain = one.intervals[way].average_mAP, ("", "")
            if i:
                part = comparison.differences[i - 1].ways[way].average_mAP
                gain = (_points(part.value), f"{_points(part.low)} to {_points(part.high)}")
            spread = f"{percent(own.low)} to {percent(own.high)}"
            rows.append(("" if i else WAYS[way][0], one.name, percent(own.value), spread, *gain))
    print_table(
        f"average mAP (%): {len(truth.label)} actions in {len(truth.videos)} videos of {truth.subset!r}",
        ("", "run", "mAP", f"{share} interval", "difference", f"paired {share} interval"),
        rows,
    )


def _show_errors(found: RunComparison) -> None:
    from lofi_tal.report.compared import error_differences, rate_differences

    comparison = found.comparison
    print_table(
        f"what a user sees, at tIoU {comparison.tiou:g}, and the errors in it (difference with its paired interval)",
        ("", *found.names, *_gains(found)),
        [
            *((f"{name}, %", *values, *gains) for name, values, gains in rate_differences(comparison)),
            *((name, *values, *gains) for name, values, gains in error_differences(comparison)),
        ],
    )


def _show_classes(found: RunComparison) -> None:
    from lofi_tal.report.compared import class_differences, difference_text

    rows = class_differences(found.comparison)
    print_table(
        "average AP of each class (%), own class scores, the largest difference first",
        ("class", "actions", *found.names, *_gains(found)),
        [
            (row["label"], row["instances"], *row["averages"], *map(difference_text, row["differences"]))
            for row in rows[:_CLASSES]
        ],
    )
    if len(rows) > _CLASSES:
        say(f"{len(rows) - _CLASSES} more classes with --json or --output.")


def _show_videos(found: RunComparison) -> None:
    for part in found.comparison.differences:
        changed = [one for one in part.videos if one.size]
        say(
            f"{part.second} finds {counted(part.fixed, 'action')} that {part.first} does not (fixed), and misses "
            f"{part.broken} that it finds (broken)."
        )
        if changed:
            print_table(
                f"fixed and broken by video: {part.second} against {part.first}",
                ("video", "actions", "fixed", "broken", "false alarms"),
                [
                    (one.video_id, one.instances, len(one.fixed), len(one.broken),
                     f"{one.false_alarms[0]} → {one.false_alarms[1]}")
                    for one in changed[:_VIDEOS]
                ],
            )  # fmt: skip
        if len(changed) > _VIDEOS:
            say(f"{len(changed) - _VIDEOS} more videos with --json or --output.")


def _show_settings(found: RunComparison) -> None:
    from lofi_tal.report.compared import setting_text

    for title, rows in (("settings that differ", found.settings), ("environment that differs", found.environment)):
        if rows:
            cells = [(name, *map(setting_text, values)) for name, values in rows.items()]
            print_table(title, ("key", *found.names), cells)
    if found.settings_known and not found.settings:
        say("No setting differs.")


def _show_stages(found: RunComparison) -> None:
    from lofi_tal.report.theme import duration, memory

    if found.stages:
        print_table(
            "time and peak memory of the stages",
            ("stage", *found.names),
            [
                (name, *("–" if one is None else f"{duration(one.seconds)}, {memory(one.peak_memory_bytes)}"
                         for one in costs))
                for name, costs in found.stages.items()
            ],
        )  # fmt: skip


def _tell(found: RunComparison) -> None:
    """Say what the reader should know, and what is not compared."""
    for note in found.notes:
        complain(note)
    for what, reasons in (("Videos", found.left_out), ("Classes", found.classes_left_out)):
        if reasons:
            listed = [f"{name} ({reason})" for name, reason in list(reasons.items())[:_IDS]]
            rest = ", ... (all with --json)" if len(reasons) > _IDS else ""
            complain(f"{what} that are not compared: {len(reasons)}: {', '.join(listed)}{rest}")


def _points(share: float) -> str:
    from lofi_tal.report.theme import signed_percent

    return signed_percent(share)
