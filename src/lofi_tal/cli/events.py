"""`lofi evaluate --events`: result files of point events."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lofi_tal.annotations import load_annotations
from lofi_tal.annotations.soccernet import RESULTS, labels_in, read_games
from lofi_tal.cli.common import complain, percent, print_json, print_table
from lofi_tal.errors import LofiError, counted
from lofi_tal.evaluation.documents import load_document
from lofi_tal.evaluation.spotting import TOLERANCES, SpottingResult, evaluate_events
from lofi_tal.segments import Segments, detections_from_activitynet


def run_events(truth: Path, detections: Path, subset: str, tolerances: str, *, as_json: bool) -> None:
    """Print the mAP of point events.

    Args:
        truth: ActivityNet-style JSON, or a folder of SoccerNet's games.
        detections: Result JSON, or a folder of SoccerNet's games.
        subset: Of the JSON.
        tolerances: ``tight``, ``loose``, ``close`` or seconds with commas.
        as_json: Print JSON instead of a table.

    Raises:
        LofiError: If the tolerances cannot be read.
        DataError: If a file is malformed.
    """
    events, found = _truth(truth, subset), _detections(detections)
    result = evaluate_events(events, found, parse_tolerances(tolerances))
    if as_json:
        print_json(result.to_json())
        return
    _show(result, len(events))


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
