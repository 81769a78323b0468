"""How long a run takes, as a table, before it begins: `lofi run --dry-run`, `--budget`, the end of `lofi init`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from lofi_tal.cli.changes import outlook_json, show_outlook
from lofi_tal.cli.common import complain, print_json, print_table, say
from lofi_tal.errors import LofiError
from lofi_tal.launch import started_size
from lofi_tal.progress import duration_text, expect, spoken

if TYPE_CHECKING:
    from lofi_tal.cli.run_options import RunOptions
    from lofi_tal.run.forecast import Forecast

DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Train and write nothing: check data and weights, time a few real steps of every stage, and print the "
        "time, disk space and peak memory of the run.",
    ),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        help="Time for the whole run, such as 30min, 2h or 1:30:00. Reduces learning rates and epochs, then the frame "
        "size, until the run fits, and prints the changes."
    ),
]


def foresee(options: RunOptions, budget: str | None) -> tuple[RunOptions, Forecast]:
    """Measure what a run takes, and change it until it fits into ``budget``; what is changed is said.

    Returns:
        The options with what has been changed among their settings, and what is foreseen.
    """
    from lofi_tal.planning import parse_memory
    from lofi_tal.planning.budget import parse_duration
    from lofi_tal.recipes import load_recipe
    from lofi_tal.run.forecast import forecast, within

    seconds = None if budget is None else parse_duration(budget)
    say("A few steps of every stage are timed first.")
    loaded = load_recipe(options.recipe, tuple(options.settings or ()))
    found = forecast(
        loaded,
        output=options.folder_of(loaded),
        device=options.device,
        precision=options.precision,
        compile=options.compiling,
        memory=None if options.memory is None else parse_memory(options.memory),
        start_from=options.start_from,
    )
    if seconds is None:
        return options, found
    settings, fitting = within(found, seconds)
    before = spoken(found.estimate.total)
    if not settings:
        say(f"--budget {budget}: the recipe takes about {before} as it is; nothing is changed.")
        return options, found
    after = spoken(fitting.estimate.total)
    say(f"--budget {budget}: the recipe takes about {before} as it is, about {after} with:")
    for setting in settings:
        say(f"  --set '{setting}'")
    options = replace(options, settings=[*(options.settings or []), *settings])
    return foresee(options, None)  # measured anew, with what has been changed


def dry_run(options: RunOptions, budget: str | None, *, as_json: bool) -> None:
    """Print what a run would take; nothing is trained, and nothing written.

    Raises:
        typer.Exit: With status 4 if videos cannot be used.
    """
    options, found = foresee(options, budget)
    if found.outlook is not None and not as_json:
        output = options.folder_of(found.recipe)
        annotations = found.recipe.data.annotations
        show_outlook(found.outlook, output, annotations, options.recipe, asked=options.overwrite)
    show(found, as_json=as_json, settings=options.settings or [])
    for name, reason in found.lost.items():
        complain(f"{name} would be left out: {reason}")
    raise typer.Exit(4 if found.lost else 0)


def prepared(options: RunOptions, budget: str | None) -> RunOptions:
    """Return the options with which a run fits into ``budget``, and let its progress know what is still to come.

    Without a budget, a new run is measured where somebody watches it: one process on a terminal.

    Raises:
        LofiError: If there is a budget and a run in the folder: what was chosen for it stands in its recipe.yaml.
    """
    from lofi_tal.recipes import load_recipe

    if budget is None and (options.quiet or started_size() > 1 or not Console(stderr=True).is_terminal):
        return options
    output = options.folder_of(load_recipe(options.recipe, tuple(options.settings or ())))
    begun = (output / "recipe.yaml").exists() and not options.overwrite
    if budget is None:
        if not begun:
            _watched(options)
        return options
    if begun:
        raise LofiError(
            f"--budget is for a new run, and {output} holds one. Its recipe has the settings that were chosen: "
            f"lofi run {output / 'recipe.yaml'} -o {output} --resume continues it."
        )
    options, found = foresee(options, budget)
    show(found)
    expect(found.estimate.by_stage())
    return replace(options, output=output)


def _watched(options: RunOptions) -> None:
    """Say how long a run takes, if that can be measured; that memory runs out is for the run to deal with."""
    try:
        _, found = foresee(options, None)
    except (RuntimeError, MemoryError) as error:
        say(f"How long the run takes is not known: {error}")
        return
    for line in _notes(found):
        say(line)
    expect(found.estimate.by_stage())


def show(found: Forecast, *, as_json: bool = False, settings: list[str] | None = None) -> None:
    """Print the table of the work, the total, disk and memory."""
    estimate = found.estimate
    if as_json:
        print_json(_document(found, settings or []))
        return
    rows = [
        (
            line.work.what,
            line.work.count,
            line.work.unit,
            _each(line.each),
            "?" if line.each is None else _time(line.seconds),
        )
        for line in estimate.lines
    ]
    print_table(
        f"{found.recipe.name}: what a run does, at the speed of this machine now",
        ("work", "count", "of", "each", "time"),
        [*rows, ("total", "", "", "", _time(estimate.total))],
    )
    for line in _notes(found):
        say(line)


def _notes(found: Forecast) -> list[str]:
    estimate = found.estimate
    least = "At least " if estimate.unknown else "About "
    notes = [f"{least}{spoken(estimate.total)} for the whole run; start-up and the report add some seconds."]
    if estimate.unknown:
        notes.append(f"Not included, because the time is not known: {', '.join(estimate.unknown)}.")
    limit = found.recipe.data.cache_gib
    notes.append(
        f"Frame cache: {found.cache / 2**30:.2f} GiB on disk (data.cache_gib = {limit:g})."
        if found.cache
        else "No frame cache."
    )
    if found.peak:
        stage, peak = max(found.peak.items(), key=lambda item: item[1])
        notes.append(f"Peak memory: {peak / 2**30:.2f} GiB in {stage}, measured.")
    if found.predicted:
        notes.append(
            f"Peak memory of stage 2: {found.predicted / 2**30:.2f} GiB, predicted: a whole batch was not run."
        )
    return notes


def _document(found: Forecast, settings: list[str]) -> dict[str, Any]:
    estimate = found.estimate
    return {
        "seconds": estimate.total,
        "unknown": list(estimate.unknown),
        "work": [{**vars(line.work), "each": line.each, "seconds": line.seconds} for line in estimate.lines],
        "cache_bytes": found.cache,
        "peak_bytes": found.peak,
        "predicted_peak_bytes": found.predicted,
        "settings": settings,
        "failed": found.lost,
        **({} if found.outlook is None else {"outlook": outlook_json(found.outlook)}),
    }


def recipe_times(recipe: Path, budget: str | None, *, shown: bool = True) -> list[str]:
    """Print what a run of a recipe takes, if that is to be shown; return the settings with which it fits ``budget``."""
    from lofi_tal.cli.run_options import RunOptions

    options, found = foresee(RunOptions(recipe), budget)
    if shown:
        show(found)
    return options.settings or []


def _time(seconds: float) -> str:
    return duration_text(seconds) if seconds >= 10 else f"{seconds:.1f} s"


def _each(seconds: float | None) -> str:
    return "not known" if seconds is None else f"{seconds:.3g} s"
