"""Three ways to look at the same detections: with their own classes, without classes, and with the true ones.

All three come from the detections alone, so they are defined for any result file. *Own class scores* ranks detections
as they are. *Class-agnostic* counts every distinct segment once, ranked by its proposal score. *True class* writes each
of those for every class that is true in its video: what a perfect classifier of whole videos would give.

Legend: N detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lofi_tal.evaluation.arrays import as_one_class, detections_of
from lofi_tal.evaluation.detection import Matched, match_detections
from lofi_tal.evaluation.documents import Detections, GroundTruth
from lofi_tal.segments import Segments

WAYS = ("fused", "agnostic", "oracle")
"""Own class scores, class-agnostic, true class: as the scores of a run are named."""


def match_ways(
    truth: GroundTruth, detections: Sequence[Segments], tiou: Sequence[float] | None = None
) -> dict[str, Matched]:
    """Return detections with their verdicts, by way.

    Args:
        truth: The instances.
        detections: Of each video; those of classes that the truth lacks do not count.
        tiou: Thresholds; ActivityNet's without them.
    """
    one_class = as_one_class(truth)
    once = detections_of(detections, one_class)
    return {
        "fused": match_detections(truth, detections_of(detections, truth), tiou),
        "agnostic": match_detections(one_class, once, tiou),
        "oracle": match_detections(truth, with_true_classes(truth, once), tiou),
    }


def with_true_classes(truth: GroundTruth, once: Detections) -> Detections:
    """Return every detection once for each true class of its video.

    In a video without an instance it can only be a false positive, whatever its class: it is given the first one.

    Args:
        truth: The instances.
        once: Against it with all classes as one: every distinct segment once.
    """
    classes = np.unique(np.stack([truth.video, truth.label], axis=1), axis=0)  # by video, then by class
    first = np.searchsorted(classes[:, 0], once.video, side="left")
    count = np.searchsorted(classes[:, 0], once.video, side="right") - first
    times = np.maximum(count, 1)
    index = np.repeat(np.arange(len(once.score)), times)
    turn = np.arange(len(index)) - np.repeat(np.cumsum(times) - times, times)
    rows = np.minimum(first[index] + turn, len(classes) - 1)
    return replace(once.only(index), label=np.where(count[index] > 0, classes[rows, 1], 0))
