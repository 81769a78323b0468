"""What a report says about detections beside their mAP: rates at the threshold, mistakes, what to do next."""

from __future__ import annotations

from typing import Any

from lofi_tal.evaluation import MISTAKES, Assessment
from lofi_tal.evaluation.bootstrap import few_videos_warning
from lofi_tal.report.content import Judgement
from lofi_tal.report.tables import class_rates, confusion_table, rate_rows
from lofi_tal.report.theme import Picture

MOST_VIDEOS = 200
"""Rows of the table of videos with mistakes."""


def judgement_parts(judgement: Judgement) -> dict[str, Any]:
    """Return what the templates need of a judgement."""
    main = judgement.assessments.get(judgement.main)
    if main is None:
        return {"main": "", "rates": [], "assessed": None}
    return {
        "main": judgement.main,
        "rates": rate_rows(judgement.assessments),
        "assessed": assessed_parts(main),
    }


def assessed_parts(one: Assessment) -> dict[str, Any]:
    """Return what the templates need of one assessment."""
    videos = one.mistakes.videos
    return {
        "advice": one.advice,
        "chosen_here": one.chosen_here,
        "confidence": round(100 * one.point.confidence),
        "replicates": one.point.replicates,
        "warning": few_videos_warning(one.point.videos),
        "class_rates": class_rates(one),
        "unjudged": one.unjudged,
        "confusion": confusion_table(one.mistakes),
        "reliability": _reliability(one),
        "errors": _errors(one),
        "curves": _curves(one),
        "kinds": MISTAKES,
        "videos": videos[:MOST_VIDEOS],
        "more_videos": max(0, len(videos) - MOST_VIDEOS),
        "classes": sorted({label for video in videos for label in video.classes}),
    }


def _reliability(one: Assessment) -> list[Picture]:
    from lofi_tal.report.assessment_plots import reliability_diagram
    from lofi_tal.report.plot_style import to_svg

    errors = f"expected calibration error: raw {100 * one.raw.error:.2f} points"
    if one.calibrated is not None:
        errors += f", calibrated {100 * one.calibrated.error:.2f} points"
    return [Picture("Is a score a probability?", errors, to_svg(reliability_diagram(one), "reliability"))]


def _curves(one: Assessment) -> list[Picture]:
    from lofi_tal.report.assessment_plots import MOST_CURVES, precision_recall_curves
    from lofi_tal.report.plot_style import to_svg

    if not one.curves:
        return []
    detail = "each span once, with its best label; the dot is where its threshold lies"
    if len(one.curves) > MOST_CURVES:
        detail += f"; the {MOST_CURVES // 2} best and the {MOST_CURVES // 2} worst of {len(one.curves)} classes"
    return [Picture("Precision and recall at tIoU 0.5", detail, to_svg(precision_recall_curves(one), "precision"))]


def _errors(one: Assessment) -> list[Picture]:
    from lofi_tal.report.evaluation_plots import gains, sensitivity
    from lofi_tal.report.plot_style import to_svg

    index = one.diagnosis.nearest_threshold()
    detail = "number of instances in brackets; the bins are fifths of these data"
    return [
        Picture("Cost of each kind of error", "of the ranking as a whole", to_svg(gains(one.diagnosis), "gain")),
        Picture("Which lengths are hard", detail, to_svg(sensitivity(one.diagnosis, "length", index), "by-length")),
    ]
