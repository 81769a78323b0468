"""Proposal quality: average recall against the average number of proposals (AR@AN) and its area (AUC).

Source: activitynet/ActivityNet, ``Evaluation/eval_proposal.py``. Classes play no part.

Legend: V videos with instances, G instances, N proposals, T tIoU thresholds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lofi_tal.errors import LofiError
from lofi_tal.evaluation.detection import ACTIVITYNET_THRESHOLDS
from lofi_tal.evaluation.documents import Detections, Document, GroundTruth, load_detections, load_ground_truth
from lofi_tal.evaluation.matching import overlapping_pairs

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
REPORTED = (1, 5, 10, 100)
MOST = 100
"""Largest average number of proposals a video."""


@dataclass(frozen=True)
class ProposalResult:
    """Average recall of proposals; every figure is a share in [0, 1].

    Args:
        auc: Area under the AR-AN curve divided by the largest AN. (The curve begins at 1, so it stays below
            1.)
        average_recall: Mean recall over the thresholds at each average number of proposals.
        average_number: Average number of proposals a video, 1 to 100.
        subset: Name of the subset.
        videos: Number of videos with instances.
        instances: Number of instances.
        proposals: Number of proposals in those videos.
        missing_videos: Ids with instances but without proposals: their instances count as missed.
        excluded_videos: Ids left out on request.
    """

    auc: float
    average_recall: tuple[float, ...]
    average_number: tuple[float, ...]
    subset: str
    videos: int
    instances: int
    proposals: int
    missing_videos: tuple[str, ...]
    excluded_videos: tuple[str, ...]

    def at(self, number: int) -> float:
        """Return AR@``number``.

        Raises:
            LofiError: If the curve has no such number.
        """
        if not 1 <= number <= MOST:
            raise LofiError(f"AR@{number} is not on the curve: allowed are 1 to {MOST}.")
        return self.average_recall[number - 1]

    def to_json(self) -> dict[str, Any]:
        """Return the result as a JSON-like dict, with the usual points of the curve by name."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}
        points = {f"AR@{number}": self.at(number) for number in REPORTED}
        return {**points, **plain}


def evaluate_proposals(
    ground_truth: Document,
    proposals: Document,
    subset: str = "validation",
    tiou_thresholds: Sequence[float] | None = None,
    *,
    exclude: Collection[str] = (),
    only: Collection[str] | None = None,
) -> ProposalResult:
    """Evaluate proposals.

    Args:
        ground_truth: Path or parsed document, ``{"database": {id: {"subset", "annotations"}}}``.
        proposals: Path or parsed document, ``{"results": {id: [{"score", "segment"}]}}``. Labels are not needed; if
            all records have one, a proposal written for several of them counts once.
        subset: Subset of the ground truth.
        tiou_thresholds: 0.50:0.05:0.95 if not given.
        exclude: Video ids to leave out on both sides.
        only: Video ids to keep, if not all.

    Raises:
        DataError: If a document is malformed or the subset has no instance.
    """
    truth = load_ground_truth(ground_truth, subset, exclude=exclude, only=only, class_agnostic=True)
    return score_proposals(truth, load_detections(proposals, truth, labelled=False), tiou_thresholds)


def score_proposals(
    truth: GroundTruth, proposals: Detections, tiou_thresholds: Sequence[float] | None = None
) -> ProposalResult:
    """Evaluate proposals that are arrays already, against a ground truth of one class."""
    thresholds = np.asarray(ACTIVITYNET_THRESHOLDS if tiou_thresholds is None else tiou_thresholds, np.float64)
    with_instances = np.unique(truth.video)
    total = len(proposals.score)
    proposals = proposals.only(np.isin(proposals.video, with_instances))
    videos = len(with_instances)
    rank, kept = _keep_best(proposals, len(truth.videos), MOST * videos / max(1, total))
    # Instance g is found by rank first[t, g] at threshold t; infinity if never.
    pairs = overlapping_pairs(proposals.video, proposals.segment, truth.video, truth.segment, float(thresholds.min()))
    first = np.full((len(thresholds), len(truth.video)), np.inf)
    for index, threshold in enumerate(thresholds):
        reaches = pairs.tiou >= threshold
        np.minimum.at(first[index], pairs.instance[reaches], rank[pairs.detection[reaches]])
    recall, number = _curve(first, truth.video, kept, videos)
    area = float(np.trapezoid(recall, number) / number[-1])
    return ProposalResult(
        auc=area,
        average_recall=tuple(recall.tolist()),
        average_number=tuple(number.tolist()),
        subset=truth.subset,
        videos=videos,
        instances=len(truth.video),
        proposals=len(proposals.score),
        missing_videos=tuple(sorted(truth.videos[v] for v in with_instances if not kept[v])),
        excluded_videos=truth.excluded,
    )


def _keep_best(proposals: Detections, videos: int, share: float) -> tuple[Floats, Indices]:
    """Return each proposal's rank within its video (infinite for those cut) and how many each video keeps.

    Every video keeps the same share of its proposals: all of them, unless there are more than 100 a video on
    average.
    """
    count = np.bincount(proposals.video, minlength=videos)
    kept = np.minimum((count * share).astype(np.int64), count)
    order = np.lexsort((proposals.segment[:, 1], proposals.segment[:, 0], -proposals.score, proposals.video))
    rank = np.empty(len(order))
    rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
    rank[rank >= kept[proposals.video]] = np.inf
    return rank, kept


def _curve(first: Floats, video: Indices, kept: Indices, videos: int) -> tuple[Floats, Floats]:
    """Return the mean recall over the thresholds ``(100,)`` at each average number of proposals ``(100,)``."""
    total = max(1, int(kept.sum()))
    shares = np.arange(1, 101) / 100.0 * (MOST * videos / total)
    # At every point of the curve each video contributes the same share of what it keeps.
    number = np.minimum((kept[video] * shares[:, None]).astype(np.int64), kept[video])
    recall = np.array([(first < n).mean() for n in number])
    return recall, shares * (total / videos)
