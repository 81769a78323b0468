"""The command that evaluates result files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from lofi_tal.cli.common import JsonOption, command_line, complain, percent, print_json, print_table, say
from lofi_tal.errors import LofiError

if TYPE_CHECKING:
    from lofi_tal.evaluation import BootstrapResult, DetectionResult, Diagnosis, ProposalResult

_NAMED = {"activitynet": None, "thumos": (0.3, 0.4, 0.5, 0.6, 0.7)}
_DRAWS = 1000

TiouOption = Annotated[
    str, typer.Option(help="Thresholds: activitynet (0.5:0.05:0.95), thumos (0.3:0.1:0.7), a:step:b or a,b,c.")
]
ProtocolOption = Annotated[
    str | None,
    typer.Option(help="ActivityNet-1.3 validation videos to evaluate: 4728 (G-TAD, BMN, LoFi) or 4926 (all)."),
]
OnlyOption = Annotated[
    Path | None, typer.Option(help="Evaluate only these videos: ids line by line, a JSON list, or annotations.")
]
AmbiguousOption = Annotated[
    bool,
    typer.Option(
        "--ignore-ambiguous",
        help="As in the THUMOS14 challenge: exclude unmatched detections that overlap an ambiguous part.",
    ),
]
BootstrapOption = Annotated[
    int, typer.Option(help="Number of bootstrap samples of the videos for 95 % intervals; 0 for none.", min=0)
]
AgainstOption = Annotated[
    Path | None, typer.Option(help="Result JSON of another system; prints the interval of the difference.")
]
PageOption = Annotated[
    Path | None, typer.Option(help="HTML page with plots to write; its numbers are written beside it as .json.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("evaluate")(evaluate)


def evaluate(
    annotations: Annotated[Path, typer.Argument(help="ActivityNet-style JSON.")],
    detections: Annotated[Path, typer.Argument(help='Result JSON: {"version", "results", "external_data"}.')],
    subset: Annotated[str, typer.Option(help="Subset to evaluate.")] = "validation",
    tiou: TiouOption = "activitynet",
    protocol: ProtocolOption = None,
    only: OnlyOption = None,
    exclude: Annotated[
        Path | None, typer.Option(help="Exclude these videos from truth and results; same forms as --only.")
    ] = None,
    class_agnostic: Annotated[
        bool, typer.Option("--class-agnostic", help="Ignore labels; each distinct segment counts once.")
    ] = False,
    ignore_ambiguous: AmbiguousOption = False,
    proposals: Annotated[bool, typer.Option("--proposals", help="Also print AR@AN and AUC, without labels.")] = False,
    diagnose: Annotated[
        bool, typer.Option("--diagnose", help="Also print error types and the mAP that each costs.")
    ] = False,
    bootstrap: BootstrapOption = 0,
    against: AgainstOption = None,
    page: PageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute detection mAP as the official ActivityNet evaluator does; optionally recall, errors and intervals.

    Example: lofi evaluate activity_net.v1-3.min.json result.json --protocol 4728 --diagnose --page evaluation.html
    """
    thresholds = parse_thresholds(tiou)
    kept, left_out = _choose_videos(annotations, subset, protocol, only, exclude)
    task = _Evaluation(
        annotations, detections, subset, thresholds, left_out, kept, class_agnostic, ignore_ambiguous, against
    )
    draws = bootstrap or (_DRAWS if against is not None else 0)
    parts = task.evaluate(proposals=proposals, diagnose=diagnose, draws=draws)
    if page is not None:
        task.write_page(page, parts)
    if as_json:
        from lofi_tal.report import evaluation_json

        print_json(evaluation_json(*parts))
        return
    result, recall, errors, intervals = parts
    show_detections(result, intervals, difference=against is not None)
    if recall is not None:
        show_recall(recall)
    if errors is not None:
        show_diagnosis(errors)
    if page is not None:
        say(f"Page: {page}")


def _choose_videos(
    annotations: Path, subset: str, protocol: str | None, only: Path | None, exclude: Path | None
) -> tuple[frozenset[str] | None, frozenset[str]]:
    """Return the ids to keep, None for all, and those to leave out."""
    from lofi_tal.evaluation import read_video_ids, require_protocol

    kept = None if protocol is None else require_protocol(protocol, annotations, subset)
    if only is not None:
        kept = read_video_ids(only) if kept is None else kept & read_video_ids(only)
    return kept, frozenset() if exclude is None else read_video_ids(exclude)


class _Parts(NamedTuple):
    """What was evaluated; None where it was not asked for."""

    result: DetectionResult
    recall: ProposalResult | None
    errors: Diagnosis | None
    intervals: BootstrapResult | None


@dataclass(frozen=True)
class _Evaluation:
    """The files of an evaluation and what counts in them: the same for all its parts."""

    annotations: Path
    detections: Path
    subset: str
    thresholds: Sequence[float] | None
    exclude: frozenset[str]
    only: frozenset[str] | None
    class_agnostic: bool
    ignore_ambiguous: bool
    against: Path | None

    def evaluate(self, *, proposals: bool, diagnose: bool, draws: int) -> _Parts:
        """Compute mAP, and what else is asked for."""
        from lofi_tal.evaluation import evaluate_detections, evaluate_proposals
        from lofi_tal.files import read_json

        result = evaluate_detections(
            self.annotations, self.detections, self.subset, self.thresholds, exclude=self.exclude, only=self.only,
            class_agnostic=self.class_agnostic, ignore_ambiguous=self.ignore_ambiguous,
        )  # fmt: skip
        if not (proposals or diagnose or draws):
            return _Parts(result, None, None, None)
        truth, found = read_json(self.annotations), read_json(self.detections)
        recall = errors = intervals = None
        if proposals:
            recall = evaluate_proposals(
                truth, found, self.subset, self.thresholds, exclude=self.exclude, only=self.only
            )
        if diagnose:
            errors = self._errors(truth, found)
        if draws:
            intervals = self._intervals(truth, found, draws)
        return _Parts(result, recall, errors, intervals)

    def _errors(self, truth: Any, found: Any) -> Diagnosis:
        from lofi_tal.evaluation import diagnose_detections

        return diagnose_detections(
            truth, found, self.subset, self.thresholds, exclude=self.exclude, only=self.only,
            ignore_ambiguous=self.ignore_ambiguous,
        )  # fmt: skip

    def _intervals(self, truth: Any, found: Any, draws: int) -> BootstrapResult:
        from lofi_tal.evaluation import bootstrap_detections
        from lofi_tal.files import read_json

        return bootstrap_detections(
            truth, found, self.subset, self.thresholds,
            baseline=None if self.against is None else read_json(self.against), replicates=draws,
            exclude=self.exclude, only=self.only, class_agnostic=self.class_agnostic,
            ignore_ambiguous=self.ignore_ambiguous,
        )  # fmt: skip

    def write_page(self, page: Path, parts: _Parts) -> None:
        """Write the HTML page, and its numbers beside it."""
        from lofi_tal.report import write_evaluation

        facts = {"command": command_line(), "annotations": str(self.annotations), "detections": str(self.detections)}
        if self.against is not None:
            facts["compared with"] = str(self.against)
        write_evaluation(page, self.detections.name, *parts, difference=self.against is not None, facts=facts)


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
    if result.repeated:
        say(
            f"{result.repeated} detections repeat a segment with another label; each segment counts once, ranked by "
            + ("its proposal score." if result.ranked_by == "proposal_score" else "its best score.")
        )
    _say_ids(result.missing_videos, "videos with instances have no detection; their instances count as missed")
    _say_ids(result.extra_videos, "videos with detections are not in the subset; they count as false positives")
    _say_ids(result.excluded_videos, "videos of the subset were left out on request", most=None)
    for hint in result.hints:
        complain(hint)
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
