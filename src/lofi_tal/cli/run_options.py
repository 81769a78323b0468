"""The parameters that all commands on a run share, as one object."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, get_type_hints

from lofi_tal.cli.common import (
    CompileOption,
    DeviceOption,
    FromOption,
    MemoryOption,
    OutputOption,
    OverwriteOption,
    PrecisionOption,
    QuietOption,
    RecipeArgument,
    ResumeOption,
    SetOption,
    StepDownOption,
    say,
)
from lofi_tal.cli.log import show_log

if TYPE_CHECKING:
    from lofi_tal.config import Recipe
    from lofi_tal.run import Run

Others = ParamSpec("Others")


@dataclass(frozen=True)
class RunOptions:
    """Which recipe is run, where, and how; the fields are the options of `lofi run`."""

    recipe: RecipeArgument
    output: OutputOption = None
    settings: SetOption = None
    device: DeviceOption = "auto"
    precision: PrecisionOption = "auto"
    compiling: CompileOption = None
    start_from: FromOption = None
    resume: ResumeOption = False
    overwrite: OverwriteOption = False
    memory: MemoryOption = None
    step_down: StepDownOption = False
    quiet: QuietOption = False

    def folder_of(self, recipe: Recipe) -> Path:
        """Return the folder of the run: the one that was asked for, or that of the recipe's name."""
        return self.output or Path("runs") / recipe.name

    def open_run(self, *, patience: float | None = None) -> Run:
        """Return the run, and say what it does."""
        from lofi_tal.cli.plan import describe
        from lofi_tal.planning import parse_memory
        from lofi_tal.recipes import load_recipe
        from lofi_tal.run import Run
        from lofi_tal.runtime import describe_device

        show_log(self.quiet)
        loaded = load_recipe(self.recipe, tuple(self.settings or ()))
        run = Run(
            loaded,
            self.folder_of(loaded),
            device=self.device,
            precision=self.precision,
            resume=self.resume,
            overwrite=self.overwrite,
            quiet=self.quiet,
            memory=None if self.memory is None else parse_memory(self.memory),
            step_down=self.step_down,
            patience=patience,
            compile=self.compiling,
            start_from=self.start_from,
        )
        if run.plan is not None and run.plan.recommended is not None and not self.quiet:
            say(f"Planned: {describe(run.plan.recommended, run.plan)}")
        if not self.quiet:
            say(f"{loaded.name}: {describe_device(run.fabric)}; seed {loaded.seed}; {run.output}")
            if run.origin is not None:
                say(f"Starts from {run.origin}." + ("" if loaded.features else " Stage 1 is skipped."))
        return run


def with_run_options(function: Callable[Concatenate[RunOptions, Others], None]) -> Callable[..., None]:
    """Return a command whose parameters are the fields of :class:`RunOptions`, then those of ``function``."""
    _, *others = inspect.signature(function).parameters.values()
    shared = [field.name for field in fields(RunOptions)]
    hints = get_type_hints(RunOptions, include_extras=True) | get_type_hints(function, include_extras=True)

    def command(**given: Any) -> None:
        function(RunOptions(**{name: given.pop(name) for name in shared}), **given)  # type: ignore[call-arg]

    parameters = [*inspect.signature(RunOptions).parameters.values(), *others]
    named = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[one.name]) for one in parameters]
    command.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: hints[one.name] for one in parameters}
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    return command
