"""Everything that a report says about one system's detections, beside its mAP: what a person sees, and what to do next.

Legend: C classes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lofi_tal.evaluation.advice import Advice, advise
from lofi_tal.evaluation.bootstrap import Interval, class_intervals
from lofi_tal.evaluation.calibration import Reliability, reliability
from lofi_tal.evaluation.detection import match_detections
from lofi_tal.evaluation.diagnosis import Diagnosis, diagnose_arrays
from lofi_tal.evaluation.documents import (
    Detections,
    Document,
    GroundTruth,
    load_detections,
    load_document,
    load_ground_truth,
)
from lofi_tal.evaluation.mistakes import Mistakes, find_mistakes
from lofi_tal.evaluation.operating import OperatingPoint, Thresholds, choose_thresholds, measure, operating_point
from lofi_tal.evaluation.score_sheet import ScoreSheet
from lofi_tal.evaluation.verdicts import Verdicts, of_matched, one_label

WIDE = 0.2
"""An interval of a class's AP that is wider says too little about the class."""
FEW_VIDEOS = 5
"""A class in fewer videos cannot be judged: a bootstrap over them does not see what it lacks."""


@dataclass(frozen=True, eq=False)
class Assessment:
    """What there is to say about a system's detections.

    Args:
        point: What its thresholds get on the evaluated videos.
        chosen_here: The thresholds are those with the best F1 on these very videos: a hope, not a measurement.
        promised: What the selection videos promised of them, if the model says so.
        raw: How often detections of like score are right; each span once.
        calibrated: The same of probabilities, if the model is calibrated.
        curves: Recall and precision at falling scores, by class.
        mistakes: What is wrong with what is shown.
        diagnosis: Kinds of errors and hard instances, in bins of these data.
        classes: Average AP of each class with its interval.
        unjudged: Classes with too few instances: an interval wider than 20 points, or fewer than five videos.
        advice: What to do next, the dominant error first.
    """

    point: OperatingPoint
    chosen_here: bool
    promised: OperatingPoint | None
    raw: Reliability
    calibrated: Reliability | None
    curves: dict[str, tuple[list[float], list[float]]]
    mistakes: Mistakes
    diagnosis: Diagnosis
    classes: dict[str, Interval]
    unjudged: tuple[str, ...]
    advice: tuple[Advice, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the assessment as a JSON-like dict."""
        return {
            "point": self.point.to_json(),
            "chosen_here": self.chosen_here,
            "promised": None if self.promised is None else self.promised.to_json(),
            "reliability": {
                "raw": self.raw.to_json(),
                "calibrated": None if self.calibrated is None else self.calibrated.to_json(),
            },
            "curves": {label: {"recall": r, "precision": p} for label, (r, p) in self.curves.items()},
            "mistakes": self.mistakes.to_json(),
            "diagnosis": self.diagnosis.to_json(),
            "classes": {label: one.to_json() for label, one in self.classes.items()},
            "unjudged": list(self.unjudged),
            "advice": [vars(one) for one in self.advice],
        }


def assess(
    truth: GroundTruth,
    detections: Detections,
    *,
    sheet: ScoreSheet | None = None,
    threshold: float | None = None,
    tiou: Sequence[float] | None = None,
    replicates: int = 500,
    several: bool = False,
) -> Assessment:
    """Say what a person sees of detections, how sure it is, what is wrong with it, and what to do.

    Args:
        truth: The instances.
        detections: Against it, with raw scores.
        sheet: Of the model; its thresholds and probabilities are held against the truth.
        threshold: One lowest score for all classes instead.
        tiou: Thresholds of mAP; ActivityNet's if not given.
        replicates: Of each bootstrap.
        several: Classes overlap: a span is shown with all its labels, not with the best one alone.
    """
    known = detections.only(detections.video >= 0)
    verdicts = of_matched(match_detections(truth, known if several else one_label(known), [0.5]))
    thresholds, promised = _thresholds(verdicts, sheet, threshold, replicates)
    matched = match_detections(truth, detections, tiou)
    classes = class_intervals(matched, replicates)
    mistakes = find_mistakes(truth, detections, thresholds, several=several)
    diagnosis = diagnose_arrays(matched)
    labels = [verdicts.labels[number] for number in verdicts.label]
    calibration = None if sheet is None else sheet.calibration
    probability = None if calibration is None else calibration.probability(verdicts.score, labels)
    return Assessment(
        point=measure(verdicts, thresholds, replicates=replicates),
        chosen_here=sheet is None and threshold is None,
        promised=promised,
        raw=reliability(verdicts.score, verdicts.right),
        calibrated=None if probability is None else reliability(probability, verdicts.right),
        curves=precision_recall(verdicts),
        mistakes=mistakes,
        diagnosis=diagnosis,
        classes=classes,
        unjudged=_unjudged(truth, classes),
        advice=advise(truth, mistakes),
    )


def assess_documents(
    ground_truth: Document,
    detections: Document,
    subset: str = "validation",
    tiou_thresholds: Sequence[float] | None = None,
    *,
    sheet: ScoreSheet | None = None,
    threshold: float | None = None,
    exclude: Collection[str] = (),
    only: Collection[str] | None = None,
    ignore_ambiguous: bool = False,
    several: bool = False,
) -> Assessment:
    """Assess a result file: see :func:`assess`, and :func:`lofi_tal.evaluation.evaluate_detections` for the rest.

    With a sheet, raw scores count where all detections have them (``raw_score``, as `lofi detect` writes).
    """
    truth = load_ground_truth(ground_truth, subset, exclude=exclude, only=only, ambiguous=ignore_ambiguous)
    content, _ = load_document(detections)
    if sheet is not None:
        content = with_raw_scores(content)
    found = load_detections(content, truth)
    return assess(truth, found, sheet=sheet, threshold=threshold, tiou=tiou_thresholds, several=several)


def with_raw_scores(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a result document with raw scores for scores, if all of its detections have them."""
    results = content.get("results") if isinstance(content, Mapping) else None
    if not isinstance(results, Mapping) or not all(isinstance(records, list) for records in results.values()):
        return content
    records = [record for records in results.values() for record in records]
    if not records or not all(isinstance(record, Mapping) and "raw_score" in record for record in records):
        return content
    raw = {name: [{**one, "score": one["raw_score"]} for one in records] for name, records in results.items()}
    return {**content, "results": raw}


def _thresholds(
    verdicts: Verdicts, sheet: ScoreSheet | None, threshold: float | None, replicates: int
) -> tuple[Thresholds, OperatingPoint | None]:
    """Return the thresholds to be held against the truth, and what was promised of them."""
    if threshold is not None:
        return Thresholds(threshold), None
    if sheet is None:
        return choose_thresholds(verdicts), None
    promised = operating_point(sheet.verdicts, replicates=replicates)
    return promised.thresholds, promised


def _unjudged(truth: GroundTruth, classes: dict[str, Interval]) -> tuple[str, ...]:
    """Return the classes with too few instances to be judged."""
    videos = [len(set(truth.video[truth.label == number].tolist())) for number in range(len(truth.labels))]
    return tuple(
        label
        for number, (label, one) in enumerate(classes.items())
        if videos[number] > 0 and (one.high - one.low > WIDE or videos[number] < FEW_VIDEOS)
    )


def precision_recall(verdicts: Verdicts, most: int = 200) -> dict[str, tuple[list[float], list[float]]]:
    """Return recall and precision at falling scores, by class, at ``most`` places; classes without an instance not."""
    curves = {}
    for number, label in enumerate(verdicts.labels):
        there = int((verdicts.instance_label == number).sum())
        if not there:
            continue
        right = verdicts.right[verdicts.label == number]
        hits, ranks = np.cumsum(right), np.arange(1, len(right) + 1)
        last = np.flatnonzero(right)
        places = last if len(last) <= most else last[np.linspace(0, len(last) - 1, most).astype(np.int64)]
        curves[label] = ((hits[places] / there).tolist(), (hits[places] / ranks[places]).tolist())
    return curves
