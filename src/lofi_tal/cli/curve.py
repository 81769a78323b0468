"""`lofi curve`: whether more labelled videos would help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lofi_tal.cli.common import JsonOption, command_line, percent, print_json, print_table, say
from lofi_tal.cli.run_options import RunOptions, with_run_options
from lofi_tal.errors import LofiError, counted

if TYPE_CHECKING:
    from lofi_tal.evaluation.learning_curve import CurvePoint, Foreseen

_NAMED = 3  # classes that are named
_AllStages = Annotated[
    bool,
    typer.Option(
        "--all-stages",
        help="Train the encoder on each share, too (ACP+ and stage 2; stage 1 stays): takes as long as a run each.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("curve")(with_run_options(curve))


def curve(
    options: RunOptions,
    *,
    arm: Annotated[str | None, typer.Option(help="Arm: lofi, baseline or features. Default: the last.")] = None,
    shares: Annotated[
        str, typer.Option(help="Shares of the training videos, in percent, with commas between.")
    ] = "12.5,25,50,100",
    draws: Annotated[int, typer.Option(help="Random draws of the videos.", min=1)] = 3,
    all_stages: _AllStages = False,
    more: Annotated[float, typer.Option(help="How many times as many videos to look ahead to.", min=1.01)] = 2.0,
    as_json: JsonOption = False,
) -> None:
    """Show how mAP grows with the number of training videos, and what more of them would give.

    Trains stage 3 of a run on shares of its training videos; the encoder stays, unless --all-stages trains it as well.
    Earlier stages run if needed. The same command with --resume continues what was interrupted.

    Example: lofi curve recipe.yaml -o runs/mine --resume
    """
    from lofi_tal.evaluation.learning_curve import foresee, means
    from lofi_tal.run.curve import learning_curve
    from lofi_tal.run.whole_curve import whole_curve

    wanted = parse_shares(shares)
    run = options.open_run()
    with run.open(command_line()):
        run.data()
        points = (whole_curve if all_stages else learning_curve)(run, arm or run.arms[-1], wanted, draws)
    found = means(points)
    counts = list(found)
    if len(counts) < 2:
        raise LofiError(f"--shares {shares} of {counts[-1]} videos is one number of videos: a curve needs two or more.")
    ahead = round(more * counts[-1])
    whole = foresee(counts, _values(points, counts), ahead)
    labels = points[0].classes
    by_class = {label: foresee(counts, _values(points, counts, label), ahead) for label in labels}
    if as_json:
        print_json(_document(points, whole, by_class))
    else:
        _show(points, found)
        for line in answer(whole, by_class, counts[-1], draws):
            say(line)
    if run.data().failed:
        say(f"Not used: {counted(len(run.data().failed), 'video')}; `lofi run` lists the reasons.")
        raise typer.Exit(4)


def _show(points: list[CurvePoint], found: dict[int, tuple[float, float, float]]) -> None:
    """Print mean, lowest and highest figure by number of videos."""
    from lofi_tal.evaluation.learning_curve import EVENTS

    what = " of events, tolerances of 1 to 5 s" if EVENTS in points[0].scores else ""
    print_table(
        f"average mAP with own class scores{what}, by training videos",
        ("videos", "segments", "mAP %", "lowest", "highest"),
        [(count, _segments(points, count), *map(percent, found[count])) for count in found],
    )


def parse_shares(text: str) -> tuple[float, ...]:
    """Return shares of 1 of a text such as ``25,50,100``.

    Raises:
        LofiError: If one is not a number above 0 and at most 100.
    """
    try:
        shares = tuple(float(part) / 100 for part in text.split(","))
    except ValueError:
        shares = ()
    if not shares or not all(0 < share <= 1 for share in shares):
        raise LofiError(f"--shares {text!r}: expected percentages above 0 and at most 100, such as 25,50,100.")
    return shares


def answer(whole: Foreseen, by_class: dict[str, Foreseen], now: int, draws: int) -> list[str]:
    """Return what the curve says, in sentences."""
    sure = whole.low >= 5e-4
    spread = f"95 % interval over the draws {_points(whole.low)} to {_points(whole.high)}"
    lines = [
        f"With {whole.videos} training videos instead of {now}, expect about {percent(whole.value)} % "
        f"({_points(whole.gain)} points; {spread if draws > 1 else 'one draw tells no interval'})"
        f"{'.' if sure else ': more videos like these may not help.'}"
    ]
    if whole.error is None:
        lines.append(f"The model (mAP = {whole.model}) is not tested: that takes three numbers of videos or more.")
    else:
        large = abs(whole.error) >= whole.gain
        lines.append(
            f"The model (mAP = {whole.model}), fitted without the {now} videos, is off by "
            f"{_points(whole.error)} points there{', which is more than the gain: do not count on it' * large}."
        )
    best = sorted(by_class.items(), key=lambda item: -item[1].gain)[:_NAMED]
    told = ", ".join(f"{label} ({_points(one.gain)})" for label, one in best if one.gain >= 5e-4)
    if told:
        lines.append(f"These classes would gain most: {told}.")
    return lines


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _values(points: list[CurvePoint], counts: list[int], label: str | None = None) -> list[list[float]]:
    return [
        [point.figure if label is None else point.classes.get(label, 0.0)
         for point in points if point.videos == count]
        for count in counts
    ]  # fmt: skip


def _segments(points: list[CurvePoint], count: int) -> str:
    numbers = sorted({point.instances for point in points if point.videos == count})
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"


def _document(points: list[CurvePoint], whole: Foreseen, by_class: dict[str, Foreseen]) -> dict[str, Any]:
    return {
        "points": [vars(point) for point in points],
        "more": vars(whole),
        "classes": {label: vars(one) for label, one in by_class.items()},
    }
