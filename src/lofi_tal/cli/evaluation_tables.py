"""What `lofi evaluate` prints: tables of mAP, recall, errors, and of what a person sees."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lofi_tal.cli.common import complain, percent, print_table, say
from lofi_tal.errors import counted

if TYPE_CHECKING:
    from lofi_tal.evaluation import Assessment, BootstrapResult, DetectionResult, Diagnosis, Floors, ProposalResult


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
        f"{counted(result.videos, 'video')}, {counted(result.instances, 'instance')}, "
        f"{counted(result.detections, 'detection')} of {result.subset!r}",
        columns,
        rows,
    )
    if intervals is not None:
        _say_draws(intervals, difference=difference)
    if result.ambiguous_parts is not None:
        say(
            f"{result.ambiguous_parts} ambiguous parts: detections that match nothing and overlap one of them are left "
            "out, neither right nor wrong."
        )
    if result.repeated:
        say(
            f"{result.repeated} detections repeat a segment with another label; each segment counts once, ranked by "
            + ("its proposal score." if result.ranked_by == "proposal_score" else "its best score.")
        )
    _say_ids(result.missing_videos, "Without a detection, so that their instances count as missed", "video")
    _say_ids(result.extra_videos, "With detections that are all wrong, for they are not in the subset", "video")
    _say_ids(result.excluded_videos, "Left out on request", "video", most=None)
    for hint in result.hints:
        complain(hint)
    if result.ignored_labels:
        names = ", ".join(f"{label} ({count})" for label, count in result.ignored_labels.items())
        say(f"Detections of classes that the subset lacks do not count: {names}")
    silent = [label for label, one in result.per_class.items() if not one.detections]
    _say_ids(silent, "Without a detection, so that their AP is 0", "class")


def _say_draws(intervals: BootstrapResult, *, difference: bool) -> None:
    """Say what the intervals are of, and if they are not to be trusted."""
    better = f"; above 0 in {percent(intervals.positive)} % of them" if difference else ""
    say(f"Intervals: {intervals.replicates} draws of the videos{better}.")
    if intervals.warning is not None:
        complain(intervals.warning)


def show_floors(floors: Floors) -> None:
    """Print the average mAP of what needs no training."""
    ways = {"fused": "commonest classes", "agnostic": "class-agnostic", "oracle": "true classes"}
    print_table(
        "floors: average mAP without training",
        ("floor", *ways.values()),
        [(name, *(percent(scores[way].average_mAP) for way in ways)) for name, scores in floors.items()],
    )


def show_recall(result: ProposalResult) -> None:
    """Print average recall at some numbers of proposals, and the area under the curve."""
    numbers = (1, 5, 10, 50, 100)
    print_table(
        f"proposals: {result.proposals} in {counted(result.videos, 'video')} with instances",
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


def show_seen(seen: Assessment) -> None:
    """Print precision, recall and F1 at the thresholds, how far scores are from probabilities, and what to do next."""
    rates, where = seen.point.rates, seen.point.thresholds.text("more than any")
    rows = [(name, percent(rate.value), f"{percent(rate.low)} to {percent(rate.high)}") for name, rate in (
        ("precision", rates.precision), ("recall", rates.recall), ("F1", rates.f1))]  # fmt: skip
    rows[0] = rows[0] if rates.shown else ("precision", "-", "nothing is shown")
    print_table(
        f"at {'' if seen.calibrated is None else 'raw '}score {where}: {rates.right} of {rates.shown} shown are right, "
        "tIoU 0.5",
        ("what a user sees", "%", f"{100 * seen.point.confidence:g} % interval"),
        rows,
    )
    if seen.chosen_here:
        say(
            "The threshold has the best F1 on these very videos: expect less on others. --threshold or --model set one."
        )
    if seen.calibrated is not None:
        say("Raw scores are not those of `lofi detect`: it shows probabilities, and its --threshold is one.")
        say(
            f"Expected calibration error: raw {100 * seen.raw.error:.2f} points, calibrated "
            f"{100 * seen.calibrated.error:.2f} points."
        )
    first = seen.advice[0]
    say(f"What to do next: {first.error} {first.action}")
    _say_ids(seen.unjudged, "Too few instances to be judged", "class")


def _say_ids(ids: Iterable[str], text: str, unit: str, *, most: int | None = 5) -> None:
    """Say how many videos or classes there are of a kind, and which."""
    listed = list(ids)
    if listed:
        shown = listed if most is None else listed[:most]
        rest = ", ... (in full with --json)" if len(shown) < len(listed) else ""
        say(f"{text}: {counted(len(listed), unit)} ({', '.join(shown)}{rest})")
