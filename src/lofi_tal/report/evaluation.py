"""The page of an evaluation: mAP, recall of proposals, diagnosis and intervals, with the numbers beside it as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lofi_tal.evaluation import (
    Assessment,
    BootstrapResult,
    DetectionResult,
    Diagnosis,
    Floors,
    ProposalResult,
    floors_json,
)
from lofi_tal.files import write_text
from lofi_tal.report.judgement import assessed_parts
from lofi_tal.report.tables import class_rows, class_table, rate_rows
from lofi_tal.report.theme import Picture, write_page


def evaluation_json(
    result: DetectionResult,
    proposals: ProposalResult | None = None,
    diagnosis: Diagnosis | None = None,
    bootstrap: BootstrapResult | None = None,
    seen: Assessment | None = None,
    floors: Floors | None = None,
) -> dict[str, Any]:
    """Return the keys of the detection result, and what else there is under the names of the arguments."""
    more = {"proposals": proposals, "diagnosis": diagnosis, "bootstrap": bootstrap, "seen": seen}
    content = {**result.to_json(), **{name: part.to_json() for name, part in more.items() if part is not None}}
    return content if floors is None else {**content, "floors": floors_json(floors)}


def write_evaluation(
    path: Path,
    title: str,
    result: DetectionResult,
    proposals: ProposalResult | None = None,
    diagnosis: Diagnosis | None = None,
    bootstrap: BootstrapResult | None = None,
    seen: Assessment | None = None,
    floors: Floors | None = None,
    *,
    difference: bool = False,
    facts: dict[str, str] | None = None,
) -> None:
    """Write the page, and beside it, with the suffix ``.json``, what :func:`evaluation_json` gives.

    Args:
        path: The page, such as ``evaluation.html``.
        title: Heading.
        result: Detection mAP.
        proposals: AR@AN, if it was computed.
        diagnosis: Kinds of false positives, if they were computed.
        bootstrap: Intervals over videos, if they were computed.
        seen: What a person sees at the threshold, if it was assessed.
        floors: What needs no training reaches, by name and way, if it was computed.
        difference: The intervals are those of the difference to another system.
        facts: Files, protocol and the like, by name.
    """
    document = evaluation_json(result, proposals, diagnosis, bootstrap, seen, floors)
    write_text(path.with_suffix(".json"), json.dumps(document, indent=1, allow_nan=False) + "\n")
    write_page(
        path,
        "evaluation.html",
        title=title,
        result=result,
        proposals=proposals,
        diagnosis=diagnosis,
        bootstrap=bootstrap,
        bootstrap_difference=difference,
        rates=[] if seen is None else rate_rows({"detections": seen}),
        assessed=None if seen is None else assessed_parts(seen),
        floors=floors or {},
        charts=_curves(result, proposals),
        errors=[] if diagnosis is None else _errors(diagnosis),
        classes=_classes(result),
        class_rows=class_table({"detections": result.to_json()}),
        facts=facts or {},
        json_name=path.with_suffix(".json").name,
    )


def _curves(result: DetectionResult, proposals: ProposalResult | None) -> list[Picture]:
    from lofi_tal.report.evaluation_plots import map_against_tiou, recall_curve
    from lofi_tal.report.plot_style import to_svg

    line = {"mAP": (result.tiou_thresholds, result.mAP)}
    pictures = [Picture("mAP against tIoU", "", to_svg(map_against_tiou(line), "tiou"))]
    if proposals is not None:
        detail = f"AUC {100 * proposals.auc:.2f} %"
        pictures.append(Picture("Recall of proposals", detail, to_svg(recall_curve(proposals), "recall")))
    return pictures


def _errors(diagnosis: Diagnosis) -> list[Picture]:
    from lofi_tal.report.evaluation_plots import false_positive_profile, gains, sensitivity
    from lofi_tal.report.plot_style import to_svg

    index = diagnosis.nearest_threshold()
    at = f"at tIoU {diagnosis.tiou_thresholds[index]:g}"
    pictures = [
        Picture("What detections are", at, to_svg(false_positive_profile(diagnosis, index), "profile")),
        Picture("Cost of each kind of error", "", to_svg(gains(diagnosis), "gain")),
    ]
    detail = "number of instances in brackets; the dashed line is all of them"
    for character in diagnosis.sensitivity:
        svg = to_svg(sensitivity(diagnosis, character, index), f"by-{character}")
        pictures.append(Picture(f"Which instances are hard: {character}", detail, svg))
    return pictures


def _classes(result: DetectionResult) -> Picture:
    from lofi_tal.report.evaluation_plots import class_ap_bars
    from lofi_tal.report.plot_style import to_svg

    labels, detail = class_rows({"detections": result.to_json()})
    averages = {"detections": {name: one.average for name, one in result.per_class.items()}}
    return Picture("Average AP of each class", detail, to_svg(class_ap_bars(averages, labels), "classes"))
