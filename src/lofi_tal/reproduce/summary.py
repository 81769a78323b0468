"""What a table says, from the results that are there: means, paired differences, intervals and costs, JSON-like."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lofi_tal.errors import counted
from lofi_tal.reproduce.intervals import Floats, Spread, paired, spread
from lofi_tal.reproduce.results import WAYS, main_way, unpack
from lofi_tal.reproduce.tables import ROWS, Entry, Question, Table

Result = Mapping[str, Any]
Results = Mapping[str, Mapping[int, Result]]
"""By row and seed."""
Figures = dict[int, tuple[float, Floats | None]]
"""A figure and its bootstrap replicates by seed."""
PROBES = {"inside_auc": "inside AUC", "boundary_ap": "boundary AP", "boundary_f1": "boundary F1"}


def summarise(table: Table, results: Results) -> dict[str, Any]:
    """Return everything that a table shows; a row without results has ``count`` 0.

    Args:
        table: The table.
        results: Those of its rows.
    """
    everything = [result for part in results.values() for result in part.values()]
    ways = [way for way in WAYS if everything and all(way in result["scores"] for result in everything)]
    return {
        "table": table.id,
        "title": table.title,
        "way": main_way(everything),
        "ways": ways,
        "lines": [_line(entry, results, ways) for entry in table.entries],
        "questions": [answer for question in table.questions for answer in _answers(question, results, ways)],
        "machines": sorted({_machine(result) for result in everything}),
        "videos": sorted({result["scores"]["oracle"]["videos"] for result in everything}),
        "boundary_share": _mean(result["probe"]["boundary_share"] for result in everything),
    }


def _line(entry: Entry, results: Results, ways: Sequence[str]) -> dict[str, Any]:
    """Return what a table says of a row: means over seeds, and differences to the row that it is compared with."""
    mine = results.get(entry.row, {})
    theirs = {} if entry.against is None else results.get(entry.against, {})
    stages = [result["stages"] for result in mine.values()]
    return {
        "row": entry.row,
        "title": ROWS[entry.row].title,
        "against": entry.against,
        "seeds": list(mine),
        "count": len(mine),
        "command": next(map(_command, mine.values()), None),
        "mAP": {way: _spread(_scores(mine, way)) for way in ways},
        "difference": {way: _paired(_scores(mine, way), _scores(theirs, way)) for way in ways},
        "proposals": _means(result["proposals"] for result in mine.values()),
        "probe": {key: _spread(_probes(mine, key)) for key in PROBES},
        "probe_difference": {key: _paired(_probes(mine, key), _probes(theirs, key)) for key in PROBES},
        "clips": _means(result["clips"] for result in mine.values()),
        "selection": _mean(map(_selection, mine.values())),
        "seconds": _means({name: cost["seconds"] for name, cost in costs.items()} for costs in stages),
        "peak_memory_bytes": _means(
            {name: cost["peak_memory_bytes"] for name, cost in costs.items()} for costs in stages
        ),
        "grids": next((result["grids"] for result in mine.values()), []),
        "paper": {"activitynet": entry.activitynet, "hacs": entry.hacs},
    }


def _answers(question: Question, results: Results, ways: Sequence[str]) -> list[dict[str, Any]]:
    """Return the difference that a question asks for.

    Where the best of several rivals is subtracted there are two answers: the best on the selection videos, which is a
    choice like every other one here; and the best on the evaluated videos themselves, as the paper has it, which
    favours the rival by the luck of the draw. Both choices are made on the seeds that all have.
    """
    rows = [results.get(row, {}) for row in (question.row, *question.rivals)]
    seeds = sorted(set.intersection(*map(set, rows)))
    common = {row: [results[row][seed] for seed in seeds] for row in question.rivals if seeds}
    if len(question.rivals) == 1:
        return [_answer(question, question.rivals[0], "", results, ways)]
    way = main_way(result for part in common.values() for result in part)
    scores: dict[str, Callable[[Result], float]] = {
        "selection": _selection,
        "evaluated": lambda result: float(result["scores"][way]["average_mAP"]),
    }
    answers = []
    for videos, score in scores.items():
        mean = {row: float(np.mean([score(result) for result in part])) for row, part in common.items()}
        best = max(mean, key=mean.__getitem__) if mean else None
        answers.append(
            _answer(question, best, f"the best of {len(question.rivals)} on the {videos} videos", results, ways)
        )
    return answers


def _answer(
    question: Question, rival: str | None, choice: str, results: Results, ways: Sequence[str]
) -> dict[str, Any]:
    mine, theirs = results.get(question.row, {}), {} if rival is None else results.get(rival, {})
    subtracted = ", ".join(([] if rival is None else [ROWS[rival].title]) + ([choice] if choice else []))
    return {
        "title": f"{ROWS[question.row].title} minus {subtracted}",
        "row": question.row,
        "rival": rival,
        "difference": {way: _paired(_scores(mine, way), _scores(theirs, way)) for way in ways},
        "paper": {"activitynet": question.activitynet, "hacs": question.hacs},
    }


def _scores(results: Mapping[int, Result], way: str) -> Figures:
    """Return average mAP and its replicates."""
    return {
        seed: (
            float(result["scores"][way]["average_mAP"]),
            unpack(result["replicates"][way]) if way in result["replicates"] else None,
        )
        for seed, result in results.items()
    }


def _probes(results: Mapping[int, Result], key: str) -> Figures:
    return {seed: (float(result["probe"][key]), None) for seed, result in results.items()}


def _selection(result: Result) -> float:
    """Return the mAP with the true class on the selection videos, of the learning rate that won."""
    return float(max(candidate.get("selection_mAP", 0.0) for candidate in result["chosen"]["candidates"]))


def _spread(figures: Figures) -> dict[str, Any] | None:
    values, replicates = [value for value, _ in figures.values()], [draws for _, draws in figures.values()]
    return _json(spread(values, replicates) if values else None)


def _paired(mine: Figures, theirs: Figures) -> dict[str, Any] | None:
    return _json(paired(mine, theirs))


def _json(value: Spread | None) -> dict[str, Any] | None:
    return None if value is None else value.to_json()


def _means(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each figure over those that have it."""
    collected: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            collected.setdefault(key, []).append(value)
    return {key: float(np.mean(values)) for key, values in collected.items()}


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return float(np.mean(known)) if known else None


def _command(result: Result) -> str:
    """Return the command of a run with the number of threads, on which the figures depend."""
    return f"OMP_NUM_THREADS={result['environment']['threads']} lofi{result['command'].partition('lofi')[2]}"


def _machine(result: Result) -> str:
    """Return processor or GPU, threads, precision and the version of torch."""
    facts, (device, *_, precision) = result["environment"], result["device"].split(", ")
    where = [f"{facts['processor']} with {counted(facts['cores'], 'core')}", counted(facts["threads"], "thread")]
    if device != "cpu":
        where.insert(0, device)
    return ", ".join([*where, precision, f"torch {facts['versions']['torch']}"])
