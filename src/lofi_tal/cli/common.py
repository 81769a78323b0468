"""Arguments, tables and messages that several commands share."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from lofi_tal.errors import LofiError, one_line
from lofi_tal.files import json_text
from lofi_tal.launch import started_rank

_HOME = re.compile(r"^(|--[\w-]+=|[\w.]+=)~(?=/|$)")  # alone, of an option, or of a setting

VERBOSE = {"on": False}

RecipeArgument = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="YAML recipe (`lofi init` writes one), or the name of a shipped one.")
]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Run folder. Default: runs/<recipe name>.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one value of the recipe.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
PrecisionOption = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace stages that were interrupted or whose inputs changed.")
]
CompileOption = Annotated[
    str | None,
    typer.Option(
        "--compile",
        help="Compile encoders: off, on (torch.compile), graphs (CUDA graphs too), or auto (time each for some "
        "minutes, once a run, and use the fastest). Default: the setting of the run, off for a new one.",
    ),
]
MemoryOption = Annotated[
    str | None,
    typer.Option(help="Memory budget of each device for stage 2, such as 24GiB; uses the plan of `lofi plan`."),
]
StepDownOption = Annotated[
    bool, typer.Option("--step-down", help="If stage 2 runs out of memory, retry with the next smaller plan.")
]
FromOption = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="RUN",
        help="Skip stage 1, and start stage 2 and the head from the weights of a finished run (RUN/arms/baseline: of "
        "that arm) or of a model folder. Its frame cache is used. With --resume, it need not be given again.",
    ),
]
ShareOption = Annotated[
    bool,
    typer.Option(
        "--share",
        help="Share the work with other processes that run the same command, on any machine that sees the same "
        "folders. They may start, stop and fail at any time; all end when the work is done.",
    ),
]
PatienceOption = Annotated[
    float,
    typer.Option(
        min=1.0,
        max=86400.0,
        help="With --share: seconds without a heartbeat after which a process counts as dead.",
    ),
]
RecursiveOption = Annotated[
    bool, typer.Option("--recursive", help="Search all folders in the video folder (as videos/** does in a recipe).")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON to stdout.")]


def terminal(*, stderr: bool = False, width: int | None = None) -> Console:
    """Return a console that shows text as it is: a name such as ``[red]`` or ``:bomb:`` means nothing to it."""
    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


def refuse_beside(context: typer.Context, option: str, allowed: Collection[str]) -> None:
    """Refuse what was given on the command line beside an option that it does not go with.

    Args:
        context: Of the command.
        option: Such as ``--events``.
        allowed: Names of the parameters that go with it.

    Raises:
        LofiError: Naming what was given, and what is allowed.
    """
    words = {parameter.name: parameter.opts[-1] for parameter in context.command.params if parameter.name}
    given = [name for name in words if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"]
    if wrong := [words[name] for name in given if name not in allowed]:
        goes = ", ".join(words[name] for name in words if name in allowed and words[name].startswith("--"))
        raise LofiError(f"{wrong[0]} does not go with {option}: that takes {goes}.")


def read_threshold(value: float | None) -> float | None:
    """Refuse a lowest score that is none; the callback of an option.

    Raises:
        LofiError: If it does not lie between 0 and 1.
    """
    if value is not None and not 0 <= value <= 1:
        raise LofiError(f"--threshold {value:g} is no score; allowed: a number from 0 to 1.")
    return value


def complain(message: str) -> None:
    """Print an error or a warning to stderr, on one line, without markup."""
    terminal(stderr=True).print(f"lofi: {one_line(message)}", style="bold red", soft_wrap=True)


def speaks() -> bool:
    """Say whether this process reports: the first process of a run does."""
    return started_rank() == 0


def say(message: str) -> None:
    """Print a line of information to stderr, without markup."""
    if not speaks():
        return
    terminal(stderr=True).print(one_line(message), soft_wrap=True)


def print_json(value: Any) -> None:
    """Print JSON to stdout."""
    if not speaks():
        return
    typer.echo(json_text(value), nl=False)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table to stdout; columns of numbers are right-aligned."""
    if not speaks():
        return
    cells = [[one_line(str(cell)) for cell in row] for row in rows]
    table = Table(header_style="bold")
    for place, column in enumerate(columns):
        numeric = all(_numeric(row[place]) for row in cells)
        table.add_column(one_line(column), justify="right" if numeric and cells else "left", overflow="fold")
    for row in cells:
        table.add_row(*row)
    console = terminal()
    if not console.is_terminal:
        console = terminal(width=200)
    if title:
        console.print(one_line(title), style="bold", soft_wrap=True)
    console.print(table)


def _numeric(text: str) -> bool:
    return text.strip("+-−%: ").replace(".", "").replace(":", "").isdigit() or text in ("", "-")


def command_line() -> str:
    """Return the command as it was typed; ``python -m lofi_tal.cli`` is ``lofi``."""
    name = Path(sys.argv[0]).name
    return shlex.join(["lofi" if name == "__main__.py" else name, *sys.argv[1:]])


def pasted(*parts: object) -> str:
    """Return a command that can be pasted into a shell, whatever its paths hold."""
    return shlex.join(map(str, parts))


def with_home(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command with ``~/`` expanded where the shell leaves it: ``--videos=~/v``, quotes."""
    return [_HOME.sub(lambda found: f"{found[1]}{Path.home()}", argument) for argument in arguments]


def percent(share: float) -> str:
    """Return a share as percent with two digits."""
    return f"{100 * share:.2f}"
