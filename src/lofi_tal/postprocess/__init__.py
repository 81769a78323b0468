"""From proposals to detections: suppression, score voting and class scores."""

from lofi_tal.postprocess.class_scores import (
    ClassScores,
    label_proposals,
    read_cuhk_scores,
    read_hacs_scores,
    write_cuhk_scores,
    write_hacs_scores,
)
from lofi_tal.postprocess.nms import BMN_SUPPRESSION, Suppression, soft_nms, soft_nms_indices
from lofi_tal.postprocess.spacing import as_events, keep_apart
from lofi_tal.postprocess.voting import vote

__all__ = [
    "BMN_SUPPRESSION",
    "ClassScores",
    "Suppression",
    "as_events",
    "keep_apart",
    "label_proposals",
    "read_cuhk_scores",
    "read_hacs_scores",
    "soft_nms",
    "soft_nms_indices",
    "vote",
    "write_cuhk_scores",
    "write_hacs_scores",
]
