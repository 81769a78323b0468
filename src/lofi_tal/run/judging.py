"""What the arms of a run are worth beside their mAP: intervals, floors, rates at the threshold, mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lofi_tal.evaluation import (
    THRESHOLDS,
    GroundTruth,
    Interval,
    MotionEnergy,
    ScoreSheet,
    assess,
    bootstrap_matched,
    detections_of,
    floor_scores,
    load_sheet,
)
from lofi_tal.evaluation.detection import Matched
from lofi_tal.evaluation.ways import match_ways
from lofi_tal.report import Judgement
from lofi_tal.run.arms import ArmResult
from lofi_tal.run.run import Run
from lofi_tal.segments import Segments
from lofi_tal.showing import Shown
from lofi_tal.stages.motion import motion_of

_SAME = 1e-6  # of two mAP
_MANY = 100_000
"""Detections from which on the bootstrap takes fewer draws, so that a report takes minutes at most."""


@dataclass(frozen=True, eq=False)
class ArmOutput:
    """What an arm has left, read once for all that the report says of it.

    Args:
        result: Of its stage 3.
        detections: By video id.
        sheet: What its scores mean, if its model knows.
        several: Classes overlap: a span is shown with all its labels.
    """

    result: ArmResult
    detections: dict[str, Segments]
    sheet: ScoreSheet | None
    several: bool = False

    @property
    def shown(self) -> Shown:
        """What of its detections is shown."""
        shown = Shown(self.result.chosen["threshold"]) if self.sheet is None else self.sheet.shown()
        return replace(shown, one_label=not self.several)


def read_output(run: Run, result: ArmResult) -> ArmOutput:
    """Read what an arm has left."""
    several = run.recipe.detect.multi_label
    return ArmOutput(result, run.detections(result.arm), load_sheet(result.model), several)


def judge_arms(run: Run, outputs: Sequence[ArmOutput]) -> Judgement:
    """Return what there is to say about the arms, from their detections, models and the truth.

    Args:
        run: The run.
        outputs: Of its arms.
    """
    if not outputs:
        return Judgement()
    data, tiou = run.data(), THRESHOLDS[run.recipe.data.tiou]
    training = [video.to_segments(data.labels) for video in (*data.train, *data.selection)]
    most = max(sum(map(len, one.detections.values())) for one in outputs)
    replicates = 500 if most <= _MANY else 100
    intervals, gains = _intervals(data.truth, outputs, tiou, replicates)
    return Judgement(
        assessments={
            one.result.arm: assess(
                data.truth,
                detections_of(list(one.detections.values()), data.truth),
                sheet=one.sheet,
                threshold=None if one.sheet else one.result.chosen["threshold"],
                tiou=tiou,
                replicates=replicates,
                several=one.several,
            )
            for one in outputs
        },
        intervals=intervals,
        gains=gains,
        floors=floor_scores(data.truth, training, tiou, _motion(run)),
        main="lofi" if "lofi" in {one.result.arm for one in outputs} else outputs[0].result.arm,
    )


def _motion(run: Run) -> dict[str, MotionEnergy]:
    """Return the motion energy of the evaluated videos; nothing where there are only features."""
    if run.recipe.features is not None:
        return {}
    return motion_of(
        run.folder.common / "motion.jsonl",
        run.snippets(run.data().evaluation),
        windows=run.windows,
        fidelity=run.full,
        workers=run.recipe.data.workers,
        quiet=run.quiet,
    )


def _intervals(
    truth: GroundTruth, outputs: Sequence[ArmOutput], tiou: Sequence[float], replicates: int
) -> tuple[dict[str, dict[str, Interval]], dict[str, dict[str, Interval]]]:
    """Return the intervals of each arm's average mAP, and of its gain over the first arm, by way.

    With the true classes, detections give the figure of the arm only if its head scores no classes itself.
    """
    intervals: dict[str, dict[str, Interval]] = {one.result.arm: {} for one in outputs}
    gains: dict[str, dict[str, Interval]] = {one.result.arm: {} for one in outputs}
    first: dict[str, Matched] = {}
    for one in outputs:
        arm = one.result.arm
        for way, matched in match_ways(truth, list(one.detections.values()), tiou).items():
            interval = bootstrap_matched([matched], replicates).average_mAP
            if way == "oracle" and abs(interval.value - one.result.scores[way]["average_mAP"]) > _SAME:
                continue
            intervals[arm][way] = interval
            if one is outputs[0]:
                first[way] = matched
            elif way in first:
                gains[arm][way] = bootstrap_matched([matched, first[way]], replicates).average_mAP
    return intervals, gains
