"""The page of an evaluation: mAP, recall of proposals, diagnosis and intervals, with the numbers beside it as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lofi_tal.evaluation import BootstrapResult, DetectionResult, Diagnosis, ProposalResult
from lofi_tal.files import write_text
from lofi_tal.report.page import Picture
from lofi_tal.report.tables import class_rows, class_table
from lofi_tal.report.theme import write_page


def evaluation_json(
    result: DetectionResult,
    proposals: ProposalResult | None = None,
    diagnosis: Diagnosis | None = None,
    bootstrap: BootstrapResult | None = None,
) -> dict[str, Any]:
    """Return the keys of the detection result, and under ``proposals``, ``diagnosis``, ``bootstrap`` what there is."""
    more = {"proposals": proposals, "diagnosis": diagnosis, "bootstrap": bootstrap}
    return {**result.to_json(), **{name: part.to_json() for name, part in more.items() if part is not None}}


def write_evaluation(
    path: Path,
    title: str,
    result: DetectionResult,
    proposals: ProposalResult | None = None,
    diagnosis: Diagnosis | None = None,
    bootstrap: BootstrapResult | None = None,
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
        difference: The intervals are those of the difference to another system.
        facts: Files, protocol and the like, by name.
    """
    from lofi_tal.report import evaluation_plots, plots

    document = evaluation_json(result, proposals, diagnosis, bootstrap)
    write_text(path.with_suffix(".json"), json.dumps(document, indent=1, allow_nan=False) + "\n")
    line = {"mAP": (result.tiou_thresholds, result.mAP)}
    pictures = [Picture("mAP against tIoU", "", plots.to_svg(plots.map_against_tiou(line), "tiou"))]
    if proposals is not None:
        detail = f"AUC {100 * proposals.auc:.2f} %"
        pictures.append(
            Picture("Recall of proposals", detail, plots.to_svg(evaluation_plots.recall_curve(proposals), "recall"))
        )
    errors: list[Picture] = []
    if diagnosis is not None:
        place = diagnosis.nearest_threshold()
        at = f"at tIoU {diagnosis.tiou_thresholds[place]:g}"
        profile = evaluation_plots.false_positive_profile(diagnosis, place)
        errors = [
            Picture("What detections are", at, plots.to_svg(profile, "profile")),
            Picture("Cost of each kind of error", "", plots.to_svg(evaluation_plots.gains(diagnosis), "gain")),
        ]
        for character in diagnosis.sensitivity:
            figure = evaluation_plots.sensitivity(diagnosis, character, place)
            detail = "number of instances in brackets; the dashed line is all of them"
            errors.append(
                Picture(f"Which instances are hard: {character}", detail, plots.to_svg(figure, f"by-{character}"))
            )
    plain = {"detections": result.to_json()}
    labels, detail = class_rows(plain)
    averages = {"detections": {name: one.average for name, one in result.per_class.items()}}
    classes = Picture(
        "Average AP of each class", detail, plots.to_svg(plots.class_ap_bars(averages, labels), "classes")
    )
    write_page(
        path,
        "evaluation.html",
        title=title,
        result=result,
        proposals=proposals,
        diagnosis=diagnosis,
        bootstrap=bootstrap,
        bootstrap_difference=difference,
        charts=pictures,
        errors=errors,
        classes=classes,
        class_rows=class_table(plain),
        facts=facts or {},
        json_name=path.with_suffix(".json").name,
    )
