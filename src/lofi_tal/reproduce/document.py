"""Tables for people: Markdown, plots, and blocks of a document.

Shares are given in per cent, differences in points. ``±`` is the half-width of a 95 % interval, for seeds and videos
together; with one seed there is no interval over seeds, and the one over videos alone is marked ``v``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lofi_tal.errors import DataError, counted
from lofi_tal.files import read_text, write_bytes, write_json, write_text
from lofi_tal.report.comparison import Dots, cost_scatter, file_bytes, rows_with_intervals
from lofi_tal.reproduce.results import WAYS, read_results, reproduce_command, results_folder
from lofi_tal.reproduce.summary import PROBES, summarise
from lofi_tal.reproduce.tables import TABLES, Table, find_tables

Summary = Mapping[str, Any]
Cells = tuple[list[str], list[list[str]]]
"""Header and rows."""
STAGES = {
    "pretrain": "stage 1",
    "second": "second encoder",
    "finetune": "ACP+",
    "lofi": "stage 2",
    "extract": "extraction",
    "motion": "differences",
    "head": "stage 3",
}
PAPER = {"activitynet": "paper: ActivityNet", "hacs": "paper: HACS"}
EMPTY = "–"
_BLOCK = re.compile(
    r"(<!-- lofi reproduce (\S+) --data (\S+)(?: --precision (\S+))? -->\n).*?(<!-- end -->)", re.DOTALL
)


def markdown(summary: Summary, command: str, picture: str) -> str:
    """Return the table as Markdown: figures, questions, plot, details and costs, and where they come from.

    Args:
        summary: As :func:`lofi_tal.reproduce.summary.summarise` gives it.
        command: ``lofi reproduce`` with its data.
        picture: Path of the plot, from where the text will lie.
    """
    probes = summary["table"] == "boundary"
    sections = [f"### {summary['title']}", _table(*(probe_cells if probes else figure_cells)(summary))]
    if any(any(question["difference"].values()) for question in summary["questions"]):
        sections.append(_table(*question_cells(summary)))
    if has_results(summary):
        sections.append(f"![Figures and differences of the table above, with their intervals]({picture})")
        if not probes:  # its rows are those of Table 1
            sections.append(_table(*detail_cells(summary)))
            sections.append(
                "Minutes of wall-clock time (other work may have shared the machine) and peak memory in GiB:"
            )
            sections.append(_table(*cost_cells(summary)))
    return "\n\n".join([*sections, _sources(summary, command)]) + "\n"


def has_results(summary: Summary) -> bool:
    """Say whether any row has been run."""
    return any(line["count"] for line in summary["lines"])


def figure_cells(summary: Summary) -> Cells:
    """Return mAP with the main class scores and with the system's own, differences, and what the paper reports."""
    ways = _ways(summary)
    main = list(dict.fromkeys([ways[0], ways[-1]]))
    header = ["row", "seeds", *(name for way in main for name in (f"mAP, {WAYS[way]}", "minus ACP")), *PAPER.values()]
    rows = [
        [
            line["title"],
            str(line["count"]),
            *(cell for way in main for cell in _pair(line["mAP"].get(way), line["difference"].get(way))),
            *(_paper(summary["lines"], line, data) for data in PAPER),
        ]
        for line in summary["lines"]
    ]
    return header, rows


def probe_cells(summary: Summary) -> Cells:
    """Return the scores of the probes, and mAP."""
    header = ["row", "seeds", *(name for title in PROBES.values() for name in (title, "minus ACP"))]
    rows = [
        [
            line["title"],
            str(line["count"]),
            *(cell for key in PROBES for cell in _pair(line["probe"][key], line["probe_difference"][key])),
            _value(line["mAP"].get(summary["way"])),
        ]
        for line in summary["lines"]
    ]
    return [*header, f"mAP, {WAYS[summary['way']]}"], rows


def question_cells(summary: Summary) -> Cells:
    """Return the differences that are asked for."""
    ways = _ways(summary)
    rows = [
        [
            question["title"],
            *(_value(question["difference"].get(way), sign=True) for way in ways),
            *(EMPTY if question["paper"][data] is None else _signed(question["paper"][data]) for data in PAPER),
        ]
        for question in summary["questions"]
    ]
    return ["difference", *(WAYS[way] for way in ways), *PAPER.values()], rows


def detail_cells(summary: Summary) -> Cells:
    """Return further figures of the rows that have been run, and what their grids allow."""
    ways = _ways(summary)[1:-1]
    recalls = ("AR@1", "AR@5", "AR@10", "AR@100")
    header = ["row", *(f"mAP, {WAYS[way]}" for way in ways), *recalls, "mAP on selection videos", "clip accuracy"]
    header += ["L", "recall cap at 0.5", "positive anchors a video"]
    rows = [
        [
            line["title"],
            *(_value(line["mAP"][way]) for way in ways),
            *(_number(line["proposals"][key]) for key in recalls),
            _number(line["selection"]),
            " / ".join(_number(accuracy) for accuracy in line["clips"].values()) or EMPTY,
            " / ".join(str(grid["snippets"]) for grid in line["grids"]) or EMPTY,
            " / ".join(f"{100 * grid['recall']:.1f}" for grid in line["grids"]) or EMPTY,
            " / ".join(f"{grid['positives']:.1f}" for grid in line["grids"]) or EMPTY,
        ]
        for line in _lines(summary)
    ]
    return header, rows


def cost_cells(summary: Summary) -> Cells:
    """Return time and peak memory of the rows that have been run, and how each is run by itself."""
    lines = _lines(summary)
    stages = [stage for stage in STAGES if any(stage in line["seconds"] for line in lines)]
    rows = [
        [
            line["title"],
            f"`{line['row']}`",
            *(_minutes(line["seconds"].get(stage)) for stage in stages),
            _minutes(sum(line["seconds"].get(stage, 0.0) for stage in stages)),
            _gibibytes(max(line["peak_memory_bytes"].get(stage, 0) for stage in stages)),
            _gibibytes(line["peak_memory_bytes"].get("lofi")),
        ]
        for line in lines
    ]
    names = [STAGES[stage] for stage in stages]
    return ["row", "`--rows`", *names, "all stages", "memory", "memory of stage 2"], rows


def plot(summary: Summary) -> Figure:
    """Return the figure of a table: rows and differences with intervals; of *budget*, mAP over time and memory."""
    way, lines = summary["way"], _lines(summary)
    if summary["table"] == "boundary":
        values = [(line, line["probe"]["boundary_ap"], line["probe_difference"]["boundary_ap"]) for line in lines]
        label = "boundary AP (%)"
    else:
        values = [(line, line["mAP"][way], line["difference"][way]) for line in lines]
        label = f"average mAP (%), {WAYS[way]}"
    dots = [
        Dots(line["title"], *_percent(value), *(_percent(difference) if difference else (None, None)))
        for line, value, difference in values
    ]
    if summary["table"] == "budget":
        costs = [(line["seconds"].get("lofi", 0.0), line["peak_memory_bytes"].get("lofi", 0.0)) for line in lines]
        return cost_scatter(dots, [seconds for seconds, _ in costs], [size for _, size in costs], label)
    asked = [(question["title"], question["difference"].get(way)) for question in summary["questions"]]
    return rows_with_intervals(
        dots, label, "minus ACP, paired (points)", [Dots(title, *_percent(value)) for title, value in asked if value]
    )


def write_tables(folder: Path, tables: Iterable[Table], command: str) -> list[dict[str, Any]]:
    """Write ``table-<T>.md``, ``.json``, ``.svg`` and ``.png`` from the results in a folder and return the summaries.

    Raises:
        DataError: If a result is damaged or they are of different data.
    """
    summaries = []
    for table in tables:
        summary = summarise(table, read_results(folder, [entry.row for entry in table.entries]))
        stem = folder / f"table-{table.id}"
        write_text(stem.with_suffix(".md"), markdown(summary, command, f"{stem.name}.svg"))
        write_json(stem.with_suffix(".json"), summary)
        if has_results(summary):
            figure = plot(summary)
            for suffix in ("svg", "png"):
                write_bytes(stem.with_suffix(f".{suffix}"), file_bytes(figure, suffix))
        summaries.append(summary)
    return summaries


def update_document(path: Path, results: Path) -> list[str]:
    """Put the tables into the marked blocks of a Markdown file and return what was put in.

    A block begins with ``<!-- lofi reproduce TABLE --data NAME -->``, or with ``--data NAME --precision bf16`` for
    results of that precision, and ends with ``<!-- end -->``; what is between is replaced, the rest stays.
    The plots go into the folder of the same name beside the file, as ``<data>-<table>.svg``.

    Args:
        path: The file.
        results: Folder with a folder for each data.

    Raises:
        DataError: If the file has no block or cannot be read.
        LofiError: If a block names an unknown table.
    """
    text = read_text(path, "Markdown")
    names: list[str] = []

    def fill(match: re.Match[str]) -> str:
        (table,), data, precision = find_tables([match[2]]), match[3], match[4] or "fp32"
        folder = results_folder(results, data, precision)
        names.append(f"{folder.name} {table.id}")
        summary = summarise(table, read_results(folder, [entry.row for entry in table.entries]))
        picture = Path(path.stem) / f"{folder.name}-{table.id}.svg"
        if has_results(summary):
            write_bytes(path.parent / picture, file_bytes(plot(summary), "svg"))
        command = reproduce_command(data=data, precision=precision)
        return f"{match[1]}\n{markdown(summary, command, picture.as_posix())}\n{match[5]}"

    filled = _BLOCK.sub(fill, text)
    if not names:
        example = f"<!-- lofi reproduce {next(iter(TABLES))} --data bench -->"
        raise DataError(f"{path} has no block to fill: {example}, and <!-- end --> below it.")
    if filled != text:
        write_text(path, filled)
    return names


def _sources(summary: Summary, command: str) -> str:
    """Say how the table is made, how much of it is there, and on what it was made."""
    made = f"Made by `{command} {summary['table']}`"
    lines = _lines(summary)
    if not lines:
        return f"{made}; no row has been run yet."
    runs = counted(sum(line["count"] for line in lines), "run")
    text = f"{made}; one run alone: `{lines[-1]['command']}`. "
    text += f"Results of {len(lines)} of {len(summary['lines'])} rows, {runs}, "
    text += f"evaluated on {' or '.join(map(str, summary['videos']))} videos; {'; '.join(summary['machines'])}."
    if summary["table"] == "boundary":
        text += f" By chance, inside AUC would be 50 and boundary AP {_number(summary['boundary_share'])}."
    return text


def _lines(summary: Summary) -> list[Mapping[str, Any]]:
    """Return the rows that have been run."""
    return [line for line in summary["lines"] if line["count"]]


def _ways(summary: Summary) -> list[str]:
    """Return the ways of evaluation that all results have; without results, those that every result will have."""
    return summary["ways"] or [way for way in WAYS if way != "external"]


def _half(value: Mapping[str, Any]) -> tuple[float | None, str]:
    """Return the half-width to show, and a mark for what it is of."""
    if value["both"] is not None:
        return value["both"], ""
    return (value["seeds"], "") if value["seeds"] is not None else (value["videos"], " v")


def _percent(value: Mapping[str, Any]) -> tuple[float, float | None]:
    half, _ = _half(value)
    return 100 * value["mean"], None if half is None else 100 * half


def _value(value: Mapping[str, Any] | None, *, sign: bool = False) -> str:
    if value is None:
        return EMPTY
    half, mark = _half(value)
    text = _signed(100 * value["mean"]) if sign else f"{100 * value['mean']:.2f}"
    return text if half is None else f"{text} ± {100 * half:.2f}{mark}"


def _pair(value: Mapping[str, Any] | None, difference: Mapping[str, Any] | None) -> tuple[str, str]:
    return _value(value), _value(difference, sign=True)


def _signed(points: float) -> str:
    return f"{points:+.2f}".replace("-", "−")


def _number(share: float | None) -> str:
    return EMPTY if share is None else f"{100 * share:.2f}"


def _minutes(seconds: float | None) -> str:
    return EMPTY if seconds is None else f"{seconds / 60:.1f}"


def _gibibytes(size: float | None) -> str:
    return EMPTY if size is None else f"{size / 2**30:.2f}"


def _paper(lines: Sequence[Mapping[str, Any]], line: Mapping[str, Any], data: str) -> str:
    """Return the paper's figure and its difference to that of the row with which it is compared."""
    figure = line["paper"][data]
    if figure is None:
        return EMPTY
    other = next((other["paper"][data] for other in lines if other["row"] == line["against"]), None)
    return f"{figure:.2f}" if other is None else f"{figure:.2f} ({_signed(figure - other)})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns stand on the right, but for the first."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
