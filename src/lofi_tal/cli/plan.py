"""The command that says what fits into a memory budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lofi_tal.cli.common import JsonOption, RecipeArgument, SetOption, percent, print_json, print_table, say
from lofi_tal.errors import counted
from lofi_tal.progress import spoken

if TYPE_CHECKING:
    from lofi_tal.config import Recipe
    from lofi_tal.planning import Choice, Plan, Row

_GIB = 2**30


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("plan")(plan)


def plan(
    recipe: RecipeArgument,
    memory: Annotated[str, typer.Option(help="Memory budget of each device, such as 24GiB.")],
    devices: Annotated[int, typer.Option(help="Number of devices.", min=1)] = 1,
    precision: Annotated[str, typer.Option(help="Precisions to plan for: auto, both, fp32 or bf16.")] = "auto",
    everything: Annotated[
        bool, typer.Option("--all", help="Also plan and show ratios other than the recipe's.")
    ] = False,
    measure: Annotated[bool, typer.Option("--measure", help="Run one real step of each row, with one video.")] = False,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which settings of stage 2 fit a memory budget, their cost, and a recommendation. No GPU is needed.

    Example: lofi plan recipe.yaml --memory 24GiB --devices 4
    """
    from lofi_tal.planning import parse_memory, plan_recipe
    from lofi_tal.recipes import load_recipe

    loaded = load_recipe(recipe, tuple(settings or ()), needs_data=False)
    budget, search = parse_memory(memory), True if everything else None
    result = plan_recipe(loaded, budget, devices=devices, precision=precision, search=search)
    shown = [row for row in result.rows if everything or _own(row, loaded)]
    measured = [_measure(row, loaded, result) for row in shown] if measure else []
    if as_json:
        print_json({**result.to_json(), **({"measured": measured} if measure else {})})
    else:
        show(result, shown, measured)
    if result.recommended is None:
        raise typer.Exit(2)


def _own(row: Row, recipe: Recipe) -> bool:
    """Say whether a row is full fidelity, or one of the recipe's own: a phase of its cycle, or S, T or ST."""
    from lofi_tal.fidelity import create_schedule
    from lofi_tal.recipes.encoder import full_of

    section = recipe.lofi
    assert section is not None
    full = full_of(recipe)
    own = section.fidelities_over(full).fidelities
    if section.cycle is None:
        own = (*own, *create_schedule("long", full, r_t=section.r_t, r_s=section.r_s).fidelities)
    return row.fidelity in (full, *own)


def show(result: Plan, shown: list[Row], measured: list[dict[str, Any]]) -> None:
    """Print the table, the frontier and the recommendation."""
    each = "each of " if result.devices > 1 else ""
    devices = f"{result.devices} device{'s' if result.devices > 1 else ''}"
    columns = [
        "fidelity",
        "back-propagation",
        "precision",
        "one video",
        "videos at once",
        "step",
        "micro-batches",
        "compute",
        "time",
    ]
    if measured:
        columns += ["measured", "error"]
    print_table(
        f"{_gib(result.budget)} GiB on {each}{devices}, {counted(result.batch, 'video')} an optimiser step "
        "(memory in GiB; compute: of a video, full fidelity = 1; time: of a step, at the speed of this machine)",
        columns,
        [_cells(row, measured[number] if measured else None) for number, row in enumerate(shown)],
    )
    share = percent(result.phases_equal)
    say(
        f"The phases of the cycle differ by {share} % in memory"
        + ("." if result.phases_equal <= 0.15 else ": they are not equal.")
    )
    if result.short_segments:
        parts = ", ".join(f"r_t {ratio:.3g}: {percent(value)} %" for ratio, value in result.short_segments.items())
        say(f"Training segments shorter than a snippet step: {parts}")
    frontier = result.frontier()
    if frontier:
        print_table(
            "least compute for each memory",
            ("memory", "compute", "schedule", "r_t", "back-propagation", "precision", "micro-batches"),
            [
                (_gib(c.peak), f"{c.compute:.2f}", c.schedule, f"{c.r_t:g}", str(c.strategy), c.precision, c.parts)
                for c in frontier
            ],
        )
    if result.recommended is None:
        say(result.reason)
        return
    say(f"Recommended: {describe(result.recommended, result)}")
    say(result.reason)
    say(
        f"A step of stage 2 takes about {spoken(result.recommended.seconds)} on this machine, without loading data. "
        "Times of all stages: lofi run RECIPE --dry-run."
    )


def _cells(row: Row, measured: dict[str, Any] | None) -> list[object]:
    cells: list[object] = [
        str(row.fidelity), str(row.strategy), row.precision, _gib(row.one_video.peak),
        row.videos_at_once or "none", _gib(row.step.peak) if row.fits else "-", row.parts if row.fits else "-",
        f"{row.compute:.2f}", f"{row.seconds:.1f} s",
    ]  # fmt: skip
    if measured is not None:
        cells += [_gib(measured["peak"]), f"{100 * (row.one_video.peak / measured['peak'] - 1):+.1f} %"]
    return cells


def describe(choice: Choice, result: Plan) -> str:
    """Return a choice as settings of a recipe, with the rule for the batch."""
    row = choice.rows[0]
    at_once = min(r.videos_at_once for r in choice.rows)
    return (
        f"lofi.schedule={choice.schedule} r_t={choice.r_t:g} r_s={choice.r_s:.3g} strategy={row.strategy.name} "
        f"accumulate={choice.parts}, {choice.precision}: {_gib(choice.peak)} GiB, compute {choice.compute:.2f}. "
        f"Batch {result.batch} = {counted(result.devices, 'device')} × "
        f"{choice.parts} micro-batch{'es' if choice.parts > 1 else ''} × up to {counted(at_once, 'video')}; "
        "the learning rate does not depend on any of them."
    )


def _gib(size: float) -> str:
    return f"{size / _GIB:.2f}"


def _measure(row: Row, recipe: Recipe, result: Plan) -> dict[str, Any]:
    from lofi_tal.planning.measure import measure_step
    from lofi_tal.recipes.encoder import arguments_of

    assert recipe.lofi is not None
    assert result.model is not None
    options = {key: value for key, value in result.model.head.config.items() if key != "in_channels"}
    return measure_step(
        encoder=arguments_of(recipe.encoder),
        head={"name": recipe.head.name, **options},
        videos=1,
        snippets=row.fidelity.snippets,
        frames=recipe.snippets.frames,
        size=row.fidelity.size,
        strategy=vars(row.strategy),
        precision=row.precision,
        optimizer=recipe.lofi.optimizer,
        momentum=recipe.lofi.momentum,
        adapting=recipe.encoder.adapting(),
        ema=recipe.lofi.ema,
    )
