"""The paper's experiments: run rows of its tables, show what is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lofi_tal.cli.common import DeviceOption, OverwriteOption, QuietOption, complain, percent, print_table, say
from lofi_tal.errors import LofiError
from lofi_tal.launch import started_size

if TYPE_CHECKING:
    from lofi_tal.reproduce import Row, Runner
    from lofi_tal.reproduce.tables import Table

TablesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[TABLE]...", help="1, 2, 5, 6, 7, A, B, budget, boundary.")
]
DataOption = Annotated[
    str | None,
    typer.Option(help="Base recipe of the rows: a file or a shipped name. Default: `bench` (embedded data)."),
]
RunsOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder of the runs. Default: runs/reproduce-<data>.")
]
DocumentOption = Annotated[
    Path | None,
    typer.Option(help="Markdown file to insert the tables into, at its marks; plots are written beside it."),
]
ShowOption = Annotated[bool, typer.Option("--show", "--dry-run", help="Show rows and missing results; run nothing.")]
PrecisionOption = Annotated[
    str, typer.Option(help="fp32, bf16 or fp16 (results in <data>-bf16 ...); auto is not allowed.")
]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("reproduce")(reproduce)


def reproduce(
    tables: TablesArgument = None,
    data: DataOption = None,
    seeds: Annotated[str, typer.Option(help="Number of seeds (5: seeds 0 to 4), or a range (2-4, 3-3).")] = "5",
    rows: Annotated[str | None, typer.Option(help="Run only these rows, such as acp,long.")] = None,
    out: RunsOption = None,
    results: Annotated[Path, typer.Option(help="Folder of the results: <data>/<row>/seed-<n>.json.")] = Path("results"),
    document: DocumentOption = None,
    show: ShowOption = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run the paper's tables, or rows of them, and write tables with intervals from all existing results.

    Rows run seed by seed. Finished rows are skipped, so the same command continues. Start it several times to share the
    rows among processes. On several machines, use different --rows or --seeds and collect the results in one folder.

    Example: lofi reproduce 1 2 --seeds 5
    """
    from lofi_tal.reproduce import find_rows, find_tables, reproduce_command, update_document

    chosen = find_tables(tables or [])
    if not chosen and rows is None and document is None:
        raise LofiError("Say which tables (1, 2, 5, 6, 7, A, B, budget, boundary), or which --rows, or a --document.")
    if started_size() > 1:
        raise LofiError("lofi reproduce runs in one process; start the same command several times instead.")
    failed = False
    if chosen or rows is not None:
        wanted = find_rows(chosen, None if rows is None else [name.strip() for name in rows.split(",")])
        command = reproduce_command(data, precision, device)
        runner = _open_runner(data, out, results, device, precision, command, overwrite=overwrite, quiet=quiet)
        numbers = parse_seeds(seeds)
        if show:
            _show(runner, wanted, numbers)
        else:
            failed = _run(runner, wanted, numbers)
            _write_tables(runner, chosen, command)
    if document is not None:
        say(f"{document}: {', '.join(update_document(document, results))}")
    if failed:
        raise typer.Exit(4)


def _open_runner(
    data: str | None,
    out: Path | None,
    results: Path,
    device: str,
    precision: str,
    command: str,
    *,
    overwrite: bool,
    quiet: bool,
) -> Runner:
    from lofi_tal.reproduce import DEFAULT, Runner, open_base, results_folder

    folder = out or Path("runs") / f"reproduce-{Path(data or DEFAULT).stem}"
    base = open_base(data, folder)
    place = results_folder(results, base.name, precision)
    return Runner(base, folder, place, device, precision, command, overwrite, quiet)


def _write_tables(runner: Runner, chosen: list[Table], command: str) -> None:
    from lofi_tal.reproduce import write_tables

    for summary in write_tables(runner.results, chosen, command):
        _print(summary)
    if chosen:
        say(f"Tables: {runner.results}/table-*.md, .json, .svg, .png")


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of ``5`` (0 to 4) or ``2-4``.

    Raises:
        LofiError: If the text is neither.
    """
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    first, last = (0, 0) if match is None else (int(match[1]), int(match[2] or -1))
    if match is None or (match[2] is None and first < 1) or (match[2] is not None and last < first):
        raise LofiError(f"--seeds {text!r}: give a number of seeds, as 5, or the first and the last, as 2-4 or 3-3.")
    return list(range(first)) if match[2] is None else list(range(first, last + 1))


def _run(runner: Runner, rows: list[Row], seeds: list[int]) -> bool:
    from lofi_tal.report.theme import duration

    failed = False
    for row, seed, result in runner.run(rows, seeds):
        if "failed" in result:
            failed = True
            complain(f"seed {seed}, {row.id}: {result['failed']} ({runner.folder(row, seed) / 'failed.txt'})")
            continue
        scores = ", ".join(f"{way} {percent(score['average_mAP'])}" for way, score in result["scores"].items())
        chosen = percent(max(candidate.get("selection_mAP", 0.0) for candidate in result["chosen"]["candidates"]))
        say(f"seed {seed}, {row.id}: mAP {scores}; on selection videos {chosen} ({duration(result['seconds'])})")
    left = [f"{row.id} seed {seed}" for seed in seeds for row in rows if runner.state(row, seed) == "missing"]
    if left:
        say(f"Left to other processes: {', '.join(left)}")
    return failed


def _show(runner: Runner, rows: list[Row], seeds: list[int]) -> None:
    cells = []
    for row in rows:
        states = {seed: runner.state(row, seed) for seed in seeds}
        kinds = {
            state: [str(seed) for seed, one in states.items() if one == state]
            for state in dict.fromkeys(states.values())
        }
        told = "; ".join(f"{state}: {', '.join(which)}" for state, which in kinds.items())
        changes = "; ".join(row.changed(runner.base.content))
        cells.append((row.id, row.title, changes, told))
    print_table(f"{runner.base.name}: rows and seeds", ("row", "what", "changes", "results"), cells)


def _print(summary: dict[str, Any]) -> None:
    from lofi_tal.reproduce.document import figure_cells, probe_cells, question_cells

    cells = probe_cells if summary["table"] == "boundary" else figure_cells
    print_table(summary["title"], *cells(summary))
    if summary["questions"]:
        print_table("", *question_cells(summary))
