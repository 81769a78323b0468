"""The command that evaluates result files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lofi_tal.cli.common import JsonOption, command_line, percent, print_json, print_table, say
from lofi_tal.errors import LofiError

if TYPE_CHECKING:
    from lofi_tal.evaluation import BootstrapResult, DetectionResult, Diagnosis, ProposalResult

_NAMED = {"activitynet": None, "thumos": (0.3, 0.4, 0.5, 0.6, 0.7)}
_DRAWS = 1000


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("evaluate")(evaluate)


def evaluate(
    annotations: Annotated[Path, typer.Argument(help="ActivityNet-style JSON.")],
    detections: Annotated[Path, typer.Argument(help='Result JSON: {"version", "results", "external_data"}.')],
    subset: Annotated[str, typer.Option(help="Subset to evaluate.")] = "validation",
    tiou: Annotated[
        str, typer.Option(help="Thresholds: activitynet (0.5:0.05:0.95), thumos (0.3:0.1:0.7), a:step:b or a,b,c.")
    ] = "activitynet",
    protocol: Annotated[
        str | None, typer.Option(help="ActivityNet-1.3 videos that count: 4728 (G-TAD, BMN, LoFi) or 4926 (all).")
    ] = None,
    only: Annotated[
        Path | None, typer.Option(help="Evaluate only these videos: ids line by line, a JSON list, or annotations.")
    ] = None,
    exclude: Annotated[Path | None, typer.Option(help="Leave these videos out on both sides; the same forms.")] = None,
    class_agnostic: Annotated[bool, typer.Option("--class-agnostic", help="Take all labels as one.")] = False,
    ignore_ambiguous: Annotated[
        bool,
        typer.Option(
            "--ignore-ambiguous",
            help="As the THUMOS14 challenge: detections that match nothing and overlap an ambiguous part do not count.",
        ),
    ] = False,
    proposals: Annotated[bool, typer.Option("--proposals", help="Also AR@AN and its AUC, labels aside.")] = False,
    diagnose: Annotated[bool, typer.Option("--diagnose", help="Also what kinds of errors cost how much.")] = False,
    bootstrap: Annotated[
        int, typer.Option(help="Also 95 % intervals from so many draws of the videos; 0 for none.", min=0)
    ] = 0,
    against: Annotated[
        Path | None, typer.Option(help="Another system's result JSON: the interval of the difference to it.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="Write an HTML page with plots (and its numbers as .json beside it).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Detection mAP with the semantics of the official ActivityNet evaluator; on request recall, errors, intervals.

    Example: lofi evaluate activity_net.v1-3.min.json result.json --protocol 4728 --diagnose --page evaluation.html
    """
    from lofi_tal.evaluation import (
        bootstrap_detections,
        diagnose_detections,
        evaluate_detections,
        evaluate_proposals,
        read_video_ids,
        require_protocol,
    )
    from lofi_tal.files import read_json
    from lofi_tal.report import evaluation_json, write_evaluation

    thresholds = parse_thresholds(tiou)
    kept = None if protocol is None else require_protocol(protocol, annotations, subset)
    if only is not None:
        kept = read_video_ids(only) if kept is None else kept & read_video_ids(only)
    left_out = frozenset() if exclude is None else read_video_ids(exclude)

    draws = bootstrap or (_DRAWS if against is not None else 0)
    more = proposals or diagnose or draws

    result = evaluate_detections(
        annotations, detections, subset, thresholds, exclude=left_out, only=kept, class_agnostic=class_agnostic,
        ignore_ambiguous=ignore_ambiguous,
    )  # fmt: skip
    truth, found = (read_json(annotations), read_json(detections)) if more else ({}, {})
    recall = evaluate_proposals(truth, found, subset, thresholds, exclude=left_out, only=kept) if proposals else None
    errors = intervals = None
    if diagnose:
        errors = diagnose_detections(
            truth, found, subset, thresholds, exclude=left_out, only=kept, ignore_ambiguous=ignore_ambiguous
        )
    if draws:
        intervals = bootstrap_detections(
            truth, found, subset, thresholds, baseline=None if against is None else read_json(against),
            replicates=draws, exclude=left_out, only=kept, class_agnostic=class_agnostic,
            ignore_ambiguous=ignore_ambiguous,
        )  # fmt: skip
    if page is not None:
        facts = {"command": command_line(), "annotations": str(annotations), "detections": str(detections)}
        if against is not None:
            facts["compared with"] = str(against)
        write_evaluation(
            page, detections.name, result, recall, errors, intervals, difference=against is not None, facts=facts
        )
    if as_json:
        print_json(evaluation_json(result, recall, errors, intervals))
        return
    show_detections(result, intervals, difference=against is not None)
    if recall is not None:
        show_recall(recall)
    if errors is not None:
        show_diagnosis(errors)
    if page is not None:
        say(f"Page: {page}")


def parse_thresholds(text: str) -> Sequence[float] | None:
    """Return tIoU thresholds from a name, ``a:step:b`` or ``a,b,c``; None stands for ActivityNet's.

    Raises:
        LofiError: If the text is none of these, or a threshold is not in (0, 1].
    """
    if text in _NAMED:
        return _NAMED[text]
    try:
        if ":" in text:
            low, step, high = (float(part) for part in text.split(":"))
            values = [round(low + i * step, 10) for i in range(math.floor((high - low) / step + 1.5))] if step else []
        else:
            values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(0 < value <= 1 for value in values):
        raise LofiError(
            f"--tiou {text!r} is no set of thresholds; allowed: {', '.join(_NAMED)}, a:step:b such as 0.5:0.05:0.95, "
            "or numbers in (0, 1] such as 0.5,0.75."
        )
    return values


def show_detections(result: DetectionResult, intervals: BootstrapResult | None, *, difference: bool) -> None:
    """Print mAP at each threshold, with its interval, and which videos were counted."""
    columns = ["tIoU", "mAP"]
    if intervals is not None:
        share = f"{100 * intervals.confidence:g} %"
        columns += ["difference", f"its {share} interval"] if difference else [f"{share} interval"]
    if result.ambiguous_parts is not None:
        columns.append("left out as ambiguous")
    rows = []
    for place, (name, value) in enumerate(
        [*((f"{t:.2f}", m) for t, m in zip(result.tiou_thresholds, result.mAP, strict=True)),
         ("average", result.average_mAP)]
    ):  # fmt: skip
        row = [name, percent(value)]
        if intervals is not None:
            one = intervals.mAP[place] if place < len(intervals.mAP) else intervals.average_mAP
            row += [f"{100 * one.value:+.2f}"] if difference else []
            row.append(f"{percent(one.low)} to {percent(one.high)}")
        if result.ambiguous_parts is not None:
            row.append(str(result.ambiguous_detections[place]) if place < len(result.mAP) else "-")
        rows.append(row)
    print_table(
        f"{result.videos} videos, {result.instances} instances, {result.detections} detections of {result.subset!r}",
        columns,
        rows,
    )
    if intervals is not None:
        better = f"; above 0 in {percent(intervals.positive)} % of them" if difference else ""
        say(f"Intervals: {intervals.replicates} draws of the videos{better}.")
    if result.ambiguous_parts is not None:
        say(
            f"{result.ambiguous_parts} ambiguous parts: detections that match nothing and overlap one of them are left "
            "out, neither right nor wrong."
        )
    _say_ids(result.missing_videos, "videos with instances have no detection; their instances count as missed")
    _say_ids(result.extra_videos, "videos with detections are not in the subset; they count as false positives")
    _say_ids(result.excluded_videos, "videos of the subset were left out on request", most=None)
    if result.ignored_labels:
        names = ", ".join(f"{label} ({count})" for label, count in result.ignored_labels.items())
        say(f"Detections of classes that the subset lacks do not count: {names}")
    silent = [label for label, one in result.per_class.items() if not one.detections]
    _say_ids(silent, "classes have no detection; their AP is 0", kind="class names")


def show_recall(result: ProposalResult) -> None:
    """Print average recall at some numbers of proposals, and the area under the curve."""
    numbers = (1, 5, 10, 50, 100)
    print_table(
        f"proposals: {result.proposals} in {result.videos} videos with instances",
        (*(f"AR@{number}" for number in numbers), "AUC"),
        [(*(percent(result.at(number)) for number in numbers), percent(result.auc))],
    )


def show_diagnosis(diagnosis: Diagnosis) -> None:
    """Print what each kind of error costs, and which instances are hard."""
    place = diagnosis.nearest_threshold()
    at = f"tIoU {diagnosis.tiou_thresholds[place]:g}"
    first = diagnosis.profile[place][0]
    print_table(
        f"errors: normalised average mAP {percent(diagnosis.average_mAP_N)}; "
        f"{percent(diagnosis.missed[place])} % of the instances missed at {at}",
        ("kind", f"share of the best G detections, {at}", "mAP_N without it"),
        [
            (kind, percent(first[kind]), f"{100 * diagnosis.gain[kind]:+.2f}" if kind in diagnosis.gain else "-")
            for kind in first
        ],
    )
    rows = []
    for character, bins in diagnosis.sensitivity.items():
        unit = " s" if character == "length" else ""
        for one in bins:
            span = f"above {one.above:g}{unit}" if math.isinf(one.up_to) else f"up to {one.up_to:g}{unit}"
            figures = (percent(one.average_mAP_N), percent(one.missed[place])) if one.instances else ("-", "-")
            rows.append((character, one.name, span, one.instances, *figures))
    print_table("instances by character", ("by", "bin", "range", "instances", "mAP_N", f"missed at {at}"), rows)


def _say_ids(ids: Iterable[str], text: str, *, most: int | None = 5, kind: str = "ids") -> None:
    """Say how many ids of a kind there are, and which."""
    listed = list(ids)
    if listed:
        shown = listed if most is None else listed[:most]
        rest = f", ... ({kind} in full with --json)" if len(shown) < len(listed) else ""
        say(f"{len(listed)} {text}: {', '.join(shown)}{rest}")
