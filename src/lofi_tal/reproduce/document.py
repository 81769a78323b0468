"""Tables from results: a summary with intervals, as JSON-like dict, Markdown, plot, and blocks of a document.

Shares are given in per cent, differences in points. ``±`` is the half-width of a 95 % interval, for seeds and videos
together; with one seed there is no interval over seeds, and the one over videos alone is marked ``v``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lofi_tal.errors import DataError
from lofi_tal.files import write_bytes, write_json, write_text
from lofi_tal.report.comparison import Dots, cost_scatter, file_bytes, rows_with_intervals
from lofi_tal.report.theme import duration, memory
from lofi_tal.reproduce.results import WAYS, main_way, read_results, unpack
from lofi_tal.reproduce.statistics import Floats, Spread, paired, spread
from lofi_tal.reproduce.tables import ROWS, TABLES, Question, Table, find_tables

Results = Mapping[str, Mapping[int, Mapping[str, Any]]]
PROBES = {"inside_auc": "inside AUC", "boundary_ap": "boundary AP", "boundary_f1": "boundary F1"}
STAGES = {
    "pretrain": "stage 1",
    "second": "second encoder",
    "finetune": "ACP+",
    "lofi": "stage 2",
    "extract": "extraction",
    "motion": "differences",
    "head": "stage 3",
}
EMPTY = "–"
_BLOCK = re.compile(r"(<!-- lofi reproduce (\S+) --data (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def summarise(table: Table, results: Results) -> dict[str, Any]:
    """Return everything that a table shows, JSON-like; a row without results has ``count`` 0.

    Args:
        table: The table.
        results: By row and seed.
    """
    everything = [result for part in results.values() for result in part.values()]
    ways = [way for way in WAYS if everything and all(way in result["scores"] for result in everything)]
    lines = []
    for entry in table.entries:
        mine = results.get(entry.row, {})
        lines.append(
            {
                "row": entry.row,
                "title": ROWS[entry.row].title,
                "against": entry.against,
                "seeds": list(mine),
                "count": len(mine),
                "mAP": {way: _spread(_scores(mine, way)) for way in ways},
                "difference": {} if entry.against is None else _differences(mine, results.get(entry.against, {}), ways),
                "proposals": _means(result["proposals"] for result in mine.values()),
                "probe": {key: _spread(_probes(mine, key)) for key in PROBES},
                "probe_difference": {}
                if entry.against is None
                else {
                    key: _json(paired(_probes(mine, key), _probes(results.get(entry.against, {}), key)))
                    for key in PROBES
                },
                "clips": _means(result["clips"] for result in mine.values()),
                "selection": _mean_or_none(_selection(result) for result in mine.values()),
                "seconds": _means({k: v["seconds"] for k, v in r["stages"].items()} for r in mine.values()),
                "peak_memory_bytes": _means(
                    {k: v["peak_memory_bytes"] for k, v in r["stages"].items()} for r in mine.values()
                ),
                "grids": next((result["grids"] for result in mine.values()), []),
                "paper": {"activitynet": entry.activitynet, "hacs": entry.hacs},
            }
        )
    return {
        "table": table.id,
        "title": table.title,
        "way": main_way(everything),
        "ways": ways,
        "lines": lines,
        "questions": [_answer(question, results, ways) for question in table.questions],
        "machines": sorted({_machine(result) for result in everything}),
        "videos": sorted({result["scores"]["oracle"]["videos"] for result in everything}),
    }


def markdown(summary: Mapping[str, Any], command: str) -> str:
    """Return the table as Markdown: figures, questions, costs, and where they come from."""
    parts = [f"### {summary['title']}", "", _table(*figure_cells(summary)), ""]
    if summary["questions"]:
        parts += [_table(*question_cells(summary)), ""]
    done = sum(line["count"] for line in summary["lines"])
    if done:
        parts += [_table(*cost_cells(summary)), ""]
    where = "; ".join(summary["machines"]) or "no row has been run yet"
    videos = ", ".join(map(str, summary["videos"]))
    parts.append(f"`{command}`: {done} rows and seeds" + (f" on {videos} videos" if videos else "") + f"; {where}.")
    return "\n".join(parts) + "\n"


def figure_cells(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the figures."""
    if summary["table"] == "boundary":
        header = ["row", "seeds", *(name for title in PROBES.values() for name in (title, "against ACP")), "mAP"]
        rows = [
            [
                line["title"],
                str(line["count"]),
                *(cell for key in PROBES for cell in _pair(line["probe"].get(key), line["probe_difference"].get(key))),
                _value(line["mAP"].get(summary["way"])),
            ]
            for line in summary["lines"]
        ]
        return header, rows
    ways = summary["ways"] or [way for way in WAYS if way != "external"]
    shown = {way: f"mAP, {WAYS[way]}" for way in ways}
    main, last = ways[0], ways[-1]
    header = ["row", "seeds", *shown.values(), f"difference, {WAYS[main]}", f"difference, {WAYS[last]}"]
    header += ["AR@1", "AR@10", "AR@100", "paper: ActivityNet", "paper: HACS"]
    rows = []
    for line in summary["lines"]:
        differences = [_value(line["difference"].get(way), sign=True) for way in (main, last)]
        recalls = [_number(line["proposals"].get(key)) for key in ("AR@1", "AR@10", "AR@100")]
        paper = [_paper(summary["lines"], line, data) for data in ("activitynet", "hacs")]
        rows.append(
            [
                line["title"],
                str(line["count"]),
                *(_value(line["mAP"].get(way)) for way in ways),
                *differences,
                *recalls,
                *paper,
            ]
        )
    return header, rows


def question_cells(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the differences that are asked for."""
    ways = summary["ways"] or [way for way in WAYS if way != "external"]
    header = ["difference", *(WAYS[way] for way in ways), "paper: ActivityNet", "paper: HACS"]
    rows = [
        [
            question["title"],
            *(_value(question["difference"].get(way), sign=True) for way in ways),
            *(
                EMPTY if question["paper"][data] is None else f"{question['paper'][data]:+.2f}"
                for data in ("activitynet", "hacs")
            ),
        ]
        for question in summary["questions"]
    ]
    return header, rows


def cost_cells(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of what the rows cost, and what their grids allow."""
    lines = summary["lines"]
    stages = [stage for stage in STAGES if any(stage in line["seconds"] for line in lines)]
    header = ["row", *(STAGES[stage] for stage in stages), "peak memory of stage 2", "L", "recall cap at 0.5"]
    header += ["positive anchors a video", "mAP on selection videos"]
    rows = []
    for line in lines:
        grids = line["grids"]
        rows.append(
            [
                line["title"],
                *(duration(line["seconds"][stage]) if stage in line["seconds"] else EMPTY for stage in stages),
                memory(line["peak_memory_bytes"].get("lofi", 0)),
                " / ".join(str(grid["snippets"]) for grid in grids) or EMPTY,
                " / ".join(f"{100 * grid['recall']:.1f}" for grid in grids) or EMPTY,
                " / ".join(f"{grid['positives']:.1f}" for grid in grids) or EMPTY,
                _number(line["selection"]),
            ]
        )
    return header, rows


def write_tables(folder: Path, tables: Iterable[Table], command: str) -> list[dict[str, Any]]:
    """Write ``table-<T>.md``, ``.json``, ``.svg`` and ``.png`` from the results in a folder and return the summaries.

    Raises:
        DataError: If a result is damaged or they are of different data.
    """
    summaries = []
    for table in tables:
        summary = summarise(table, read_results(folder, [entry.row for entry in table.entries]))
        stem = folder / f"table-{table.id}"
        write_text(stem.with_suffix(".md"), markdown(summary, f"{command} {table.id}"))
        write_json(stem.with_suffix(".json"), summary)
        if any(line["count"] for line in summary["lines"]):
            figure = plot(summary)
            for kind in ("svg", "png"):
                write_bytes(stem.with_suffix(f".{kind}"), file_bytes(figure, kind))
        summaries.append(summary)
    return summaries


def plot(summary: Mapping[str, Any]) -> Any:
    """Return the figure of a table: rows with intervals; of *budget*, mAP over memory and time."""
    way = summary["way"]
    lines = [line for line in summary["lines"] if line["count"]]
    if summary["table"] == "boundary":
        values = [(line, line["probe"]["boundary_ap"], line["probe_difference"].get("boundary_ap")) for line in lines]
        label = "boundary AP (%)"
    else:
        values = [(line, line["mAP"][way], line["difference"].get(way)) for line in lines]
        label = f"average mAP (%), {WAYS[way]}"
    dots = [
        Dots(
            line["title"],
            *_percent(value),
            *(_percent(difference) if difference else (None, None)),
        )
        for line, value, difference in values
    ]
    if summary["table"] != "budget":
        return rows_with_intervals(dots, label)
    costs = [(line["seconds"].get("lofi", 0.0), line["peak_memory_bytes"].get("lofi", 0.0)) for line in lines]
    return cost_scatter(dots, [seconds for seconds, _ in costs], [size for _, size in costs], label)


def update_document(path: Path, results: Path) -> list[str]:
    """Put the tables into the marked blocks of a Markdown file and return what was put in.

    A block begins with ``<!-- lofi reproduce TABLE --data NAME -->`` and ends with ``<!-- end -->``; what is between
    them is replaced, everything else stays as it is.

    Args:
        path: The file.
        results: Folder with a folder for each data.

    Raises:
        DataError: If the file has no block or cannot be read.
        LofiError: If a block names an unknown table.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    names: list[str] = []

    def fill(match: re.Match[str]) -> str:
        (table,) = find_tables([match[2]])
        names.append(f"{match[3]} {table.id}")
        summary = summarise(table, read_results(results / match[3], [entry.row for entry in table.entries]))
        command = "lofi reproduce" + ("" if match[3] == "bench" else f" --data {match[3]}")
        return f"{match[1]}\n{markdown(summary, f'{command} {table.id}')}\n{match[4]}"

    filled = _BLOCK.sub(fill, text)
    if not names:
        example = f"<!-- lofi reproduce {next(iter(TABLES))} --data bench -->"
        raise DataError(f"{path} has no block to fill: {example}, and <!-- end --> below it.")
    if filled != text:
        write_text(path, filled)
    return names


def _scores(results: Mapping[int, Mapping[str, Any]], way: str) -> dict[int, tuple[float, Floats | None]]:
    """Return average mAP and its replicates by seed."""
    return {
        seed: (
            float(result["scores"][way]["average_mAP"]),
            unpack(result["replicates"][way]) if way in result["replicates"] else None,
        )
        for seed, result in results.items()
    }


def _probes(results: Mapping[int, Mapping[str, Any]], key: str) -> dict[int, tuple[float, Floats | None]]:
    return {seed: (float(result["probe"][key]), None) for seed, result in results.items()}


def _spread(values: Mapping[int, tuple[float, Floats | None]]) -> dict[str, Any] | None:
    if not values:
        return None
    return spread([value for value, _ in values.values()], [one for _, one in values.values()]).to_json()


def _json(value: Spread | None) -> dict[str, Any] | None:
    return None if value is None else value.to_json()


def _differences(
    mine: Mapping[int, Mapping[str, Any]], theirs: Mapping[int, Mapping[str, Any]], ways: Sequence[str]
) -> dict[str, Any]:
    return {way: _json(paired(_scores(mine, way), _scores(theirs, way))) for way in ways}


def _answer(question: Question, results: Results, ways: Sequence[str]) -> dict[str, Any]:
    """Return a question's difference, each way against the best rival that way."""
    mine, title = results.get(question.row, {}), ROWS[question.row].title
    differences: dict[str, Any] = {}
    for way in ways:
        rivals = {rival: _scores(results.get(rival, {}), way) for rival in question.rivals}
        if all(rivals.values()):
            best = max(rivals, key=lambda rival: float(np.mean([value for value, _ in rivals[rival].values()])))
            differences[way] = _json(paired(_scores(mine, way), rivals[best]))
    names = " and ".join(ROWS[rival].title for rival in question.rivals)
    return {
        "title": f"{title} minus " + (names if len(question.rivals) == 1 else f"the best of {names}"),
        "difference": differences,
        "paper": {"activitynet": question.activitynet, "hacs": question.hacs},
    }


def _means(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each figure over those that have it."""
    collected: dict[str, list[float]] = {}
    for part in parts:
        for key, value in part.items():
            collected.setdefault(key, []).append(value)
    return {key: float(np.mean(values)) for key, values in collected.items()}


def _mean_or_none(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _selection(result: Mapping[str, Any]) -> float | None:
    """Return the mAP with the true class on the selection videos, of the learning rate that won."""
    candidates = [candidate["selection_mAP"] for candidate in result["chosen"]["candidates"]]
    return max(candidates, default=None)


def _machine(result: Mapping[str, Any]) -> str:
    machine = result["environment"]
    return f"{machine['processor']}, {machine['cores']} cores, {result['device']}, torch {machine['versions']['torch']}"


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
    text = f"{100 * value['mean']:{'+' if sign else ''}.2f}"
    return text if half is None else f"{text} ± {100 * half:.2f}{mark}"


def _pair(value: Mapping[str, Any] | None, difference: Mapping[str, Any] | None) -> tuple[str, str]:
    return _value(value), _value(difference, sign=True)


def _number(value: float | None) -> str:
    return EMPTY if value is None else f"{100 * value:.2f}"


def _paper(lines: Sequence[Mapping[str, Any]], line: Mapping[str, Any], data: str) -> str:
    """Return the paper's figure and its difference to the paper's figure of the row below."""
    figure = line["paper"][data]
    if figure is None:
        return EMPTY
    below = next((other["paper"][data] for other in lines if other["row"] == line["against"]), None)
    return f"{figure:.2f}" if below is None else f"{figure:.2f} ({figure - below:+.2f})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
