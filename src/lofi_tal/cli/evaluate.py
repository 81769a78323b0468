"""The command that evaluates result files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from lofi_tal.cli.common import JsonOption, command_line, print_json, read_threshold, refuse_beside, say
from lofi_tal.cli.evaluation_tables import show_detections, show_diagnosis, show_floors, show_recall, show_seen
from lofi_tal.errors import LofiError

if TYPE_CHECKING:
    from lofi_tal.evaluation import (
        Assessment,
        BootstrapResult,
        DetectionResult,
        Diagnosis,
        Floors,
        ProposalResult,
        ScoreSheet,
    )

_NAMED = {"activitynet": None, "thumos": (0.3, 0.4, 0.5, 0.6, 0.7)}
_DRAWS = 1000
_WITH_EVENTS = ("annotations", "detections", "subset", "events", "only", "exclude", "bootstrap", "against", "as_json")

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


ThresholdOption = Annotated[
    float | None,
    typer.Option(
        help="Lowest score shown: prints precision, recall and F1 there. Default: the best F1.", callback=read_threshold
    ),
]
EventsOption = Annotated[
    str | None,
    typer.Option(
        help="Point events: mAP at SoccerNet's tolerances (tight: 1 to 5 s, loose: 5 to 60 s), at close ones (0.5 to 5 "
        "s) or at seconds a,b,c. The arguments may be folders of SoccerNet's games."
    ),
]
DiagnoseOption = Annotated[bool, typer.Option("--diagnose", help="Also print error types and the mAP that each costs.")]
MultiLabelOption = Annotated[
    bool, typer.Option("--multi-label", help="Classes overlap: precision and recall count every label of a span.")
]
AgnosticOption = Annotated[
    bool, typer.Option("--class-agnostic", help="Ignore labels; each distinct segment counts once.")
]
ExcludeOption = Annotated[
    Path | None, typer.Option(help="Exclude these videos from truth and results; same forms as --only.")
]
FloorsOption = Annotated[
    bool, typer.Option("--floors", help="Also print mAP of what needs no training: whole video, a grid, motion energy.")
]
VideosOption = Annotated[
    Path | None, typer.Option(help="Folder of the evaluated videos: --floors with motion energy, which looks at them.")
]
ModelOption = Annotated[
    Path | None, typer.Option("--model", "-m", help="Model or run folder: judges its thresholds and probabilities.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("evaluate")(evaluate)


def evaluate(
    context: typer.Context,
    annotations: Annotated[Path, typer.Argument(help="ActivityNet-style JSON.")],
    detections: Annotated[Path, typer.Argument(help='Result JSON: {"version", "results", "external_data"}.')],
    subset: Annotated[str, typer.Option(help="Subset to evaluate.")] = "validation",
    tiou: TiouOption = "activitynet",
    protocol: ProtocolOption = None,
    only: OnlyOption = None,
    exclude: ExcludeOption = None,
    class_agnostic: AgnosticOption = False,
    ignore_ambiguous: AmbiguousOption = False,
    proposals: Annotated[bool, typer.Option("--proposals", help="Also print AR@AN and AUC, without labels.")] = False,
    diagnose: DiagnoseOption = False,
    threshold: ThresholdOption = None,
    multi_label: MultiLabelOption = False,
    events: EventsOption = None,
    model: ModelOption = None,
    floors: FloorsOption = False,
    videos: VideosOption = None,
    bootstrap: BootstrapOption = 0,
    against: AgainstOption = None,
    page: PageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute detection mAP as the official ActivityNet evaluator does, and precision and recall at a threshold.

    Example: lofi evaluate activity_net.v1-3.min.json result.json --protocol 4728 --diagnose --page evaluation.html
    """
    draws = bootstrap or (_DRAWS if against is not None else 0)
    if events is not None:
        from lofi_tal.cli.events import evaluate_files

        refuse_beside(context, "--events", _WITH_EVENTS)
        chosen = _choose_videos(annotations, subset, None, only, exclude)
        evaluate_files(annotations, detections, against, subset, events, draws, chosen, as_json=as_json)
        return
    thresholds = parse_thresholds(tiou)
    kept, left_out = _choose_videos(annotations, subset, protocol, only, exclude)
    task = _Evaluation(
        annotations, detections, subset, thresholds, left_out, kept, class_agnostic, ignore_ambiguous, against
    )
    sheet = None if model is None else read_sheet(model, threshold)
    parts = task.evaluate(proposals=proposals, diagnose=diagnose, draws=draws)
    if not class_agnostic:
        parts = parts._replace(seen=task.assess(sheet, threshold, several=multi_label or is_multi_label(model)))
    if floors or videos is not None:
        parts = parts._replace(floors=task.floors(videos))
    if page is not None:
        task.write_page(page, parts)
    _show_parts(parts, page, difference=against is not None, as_json=as_json)


def _show_parts(parts: _Parts, page: Path | None, *, difference: bool, as_json: bool) -> None:
    if as_json:
        from lofi_tal.report import evaluation_json

        print_json(evaluation_json(*parts))
        return
    result, recall, errors, intervals, seen, floors = parts
    show_detections(result, intervals, difference=difference)
    if floors is not None:
        show_floors(floors)
    if recall is not None:
        show_recall(recall)
    if errors is not None:
        show_diagnosis(errors)
    if seen is not None:
        show_seen(seen)
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
    seen: Assessment | None = None
    floors: Floors | None = None


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

    def assess(self, sheet: ScoreSheet | None, threshold: float | None, *, several: bool) -> Assessment:
        """Return what a person sees of the detections, and what is wrong with it."""
        from lofi_tal.evaluation import assess_documents

        return assess_documents(
            self.annotations, self.detections, self.subset, self.thresholds, sheet=sheet, threshold=threshold,
            exclude=self.exclude, only=self.only, ignore_ambiguous=self.ignore_ambiguous, several=several,
        )  # fmt: skip

    def floors(self, videos: Path | None) -> Floors:
        """Return what needs no training; with motion energy if there are videos."""
        from lofi_tal.cli.floors import floors_of

        return floors_of(
            self.annotations, self.subset, self.thresholds, exclude=self.exclude, only=self.only, videos=videos
        )

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


def read_sheet(model: Path, threshold: float | None) -> ScoreSheet:
    """Return what a model knows of its scores.

    Raises:
        LofiError: If it knows nothing, or there is a threshold besides.
    """
    from lofi_tal.evaluation import load_sheet
    from lofi_tal.model_folders import find_model

    if threshold is not None:
        raise LofiError("--threshold and --model exclude each other: the model brings its own thresholds.")
    sheet = load_sheet(find_model(model))
    if sheet is None:
        raise LofiError(f"{find_model(model)} has no scores.json: train stage 3 again, or give --threshold instead.")
    return sheet


def is_multi_label(model: Path | None) -> bool:
    """Say whether a model, if there is one, shows all labels of a span (``detect.multi_label``)."""
    from lofi_tal.files import read_json
    from lofi_tal.model_folders import RECORD, find_model

    content = None if model is None else read_json(find_model(model) / RECORD)
    section = content.get("detect") if isinstance(content, dict) else None
    return isinstance(section, dict) and section.get("multi_label") is True


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
