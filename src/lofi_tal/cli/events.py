"""`lofi evaluate --events`: result files of point events."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from lofi_tal.annotations import load_annotations
from lofi_tal.annotations.soccernet import RESULTS, labels_in, read_games
from lofi_tal.cli.common import complain, percent, print_json, print_table, say
from lofi_tal.errors import LofiError, counted
from lofi_tal.evaluation.documents import load_document
from lofi_tal.evaluation.spotting import TOLERANCES, SpottingResult, evaluate_events
from lofi_tal.evaluation.spotting_draws import EventComparison, EventIntervals, compare_events
from lofi_tal.segments import Segments, detections_from_activitynet


def evaluate_files(
    truth: Path,
    detections: Path,
    against: Path | None,
    subset: str,
    tolerances: str,
    draws: int,
    chosen: tuple[Collection[str] | None, Collection[str]],
    *,
    as_json: bool,
) -> None:
    """Print the mAP of point events.

    Args:
        truth: ActivityNet-style JSON, or a folder of SoccerNet's games.
        detections: Result JSON, or a folder of SoccerNet's games.
        against: Those of another system, whose mAP is subtracted.
        subset: Of the JSON.
        tolerances: ``tight``, ``loose``, ``close`` or seconds with commas.
        draws: Of the bootstrap; 0 for no intervals.
        chosen: Ids of the videos that count, None for all, and of those that do not.
        as_json: Print JSON instead of a table.

    Raises:
        LofiError: If the tolerances cannot be read.
        DataError: If a file is malformed.
    """
    every, deltas, (kept, left_out) = _truth(truth, subset), parse_tolerances(tolerances), chosen
    events = {name: one for name, one in every.items() if name not in left_out and (kept is None or name in kept)}
    systems = [_inside(_detections(path), every, events) for path in (against, detections) if path is not None]
    result = evaluate_events(events, systems[-1], deltas)
    found = compare_events(events, systems, deltas, replicates=draws) if draws else None
    if as_json:
        print_json({**result.to_json(), **({} if found is None else {"intervals": _intervals(found)})})
        return
    _show(result, len(events))
    if found is not None:
        show_comparison({"": found}, [str(path) for path in (against, detections) if path is not None])
        say(f"Intervals: {draws} draws of the videos.")
        if (few := found.systems[0].warning) is not None:
            complain(few)


def _inside(detections: Mapping[str, Segments], every: Collection[str], kept: Collection[str]) -> dict[str, Segments]:
    """Return the detections in videos that count, and those that the truth does not know, which is a mistake."""
    return {name: one for name, one in detections.items() if name in kept or name not in every}


def _intervals(found: EventComparison) -> dict[str, Any]:
    """Return the intervals of the system, and of its difference to the other one, if there is one."""
    difference = {"difference": found.differences[0].to_json()} if found.differences else {}
    return {**found.systems[-1].to_json(), **difference}


def show_comparison(sets: Mapping[str, EventComparison], names: Sequence[str]) -> None:
    """Print the average mAP of events of some systems with intervals, and the differences to the first one.

    Args:
        sets: By name of the tolerances.
        names: Of the systems.
    """
    from lofi_tal.report.theme import signed_percent

    for title, found in sets.items():
        share = f"{100 * found.systems[0].confidence:g} %"
        columns = ["run", "mAP", f"{share} interval"]
        rows = [[name, *_figures(one, percent)] for name, one in zip(names, found.systems, strict=True)]
        if found.differences:
            columns += ["difference", f"paired {share} interval"]
            gains = [["", ""], *(_figures(one, signed_percent) for one in found.differences)]
            rows = [[*row, *gain] for row, gain in zip(rows, gains, strict=True)]
        what = f"average mAP (%) of {counted(found.events, 'event')}"
        print_table(f"{what}, {title} tolerances" if title else what, columns, rows)


def _figures(one: EventIntervals, text: Callable[[float], str]) -> list[str]:
    """Return the average mAP and its interval."""
    value = one.average_mAP
    return [text(value.value), f"{text(value.low)} to {text(value.high)}"]


def show_run_events(arms: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Print the mAP of the events that the arms of a run have found: a table for each set of tolerances.

    Args:
        arms: ``SpottingResult.to_json()`` by arm and set of tolerances; an arm without events has none.
    """
    for name in dict.fromkeys(name for found in arms.values() for name in found):
        results = {arm: found[name] for arm, found in arms.items() if name in found}
        first = next(iter(results.values()))
        print_table(
            f"mAP of {counted(sum(first['events'].values()), 'event')}, {name} tolerances",
            ("arm", *(f"{delta:g} s" for delta in first["tolerances"]), "average"),
            [(arm, *map(percent, one["mAP"]), percent(one["average_mAP"])) for arm, one in results.items()],
        )


def parse_tolerances(text: str) -> tuple[float, ...]:
    """Return tolerances in seconds by name, or as numbers with commas.

    >>> parse_tolerances("1,2,5")
    (1.0, 2.0, 5.0)
    """
    if text in TOLERANCES:
        return TOLERANCES[text]
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise LofiError(f"--events {text!r}: allowed are {', '.join(TOLERANCES)}, or seconds such as 1,2,5.") from None


def _truth(path: Path, subset: str) -> dict[str, Segments]:
    if not path.is_dir():
        return {video.video_id: video.segments for video in load_annotations(path).subset(subset)}
    return read_games(path, labels_in(path))


def _detections(path: Path) -> dict[str, Segments]:
    if path.is_dir():
        return read_games(path, RESULTS)
    content, _ = load_document(path)
    return {one.video_id: one for one in detections_from_activitynet(content, str(path))}


def _show(result: SpottingResult, videos: int) -> None:
    events = sum(result.events.values())
    names = [f"{delta:g} s" for delta in result.tolerances]
    overall = [*map(percent, result.mAP), percent(result.average_mAP), str(events)]
    rows = [
        [label, *map(percent, one), percent(result.averages[label]), str(result.events[label])]
        for label, one in result.per_class.items()
    ]
    print_table(
        f"{counted(videos, 'video')}, {counted(events, 'event')}, {counted(result.detections, 'detection')}; "
        "AP by tolerance",
        ["class", *names, "average", "events"],
        [["all", *overall], *rows],
    )
    if result.without_events:
        complain(f"Classes without an event do not count: {', '.join(result.without_events)}.")
