"""Evaluation of detections and proposals: mAP, average recall, diagnosis, confidence intervals."""

from lofi_tal.evaluation.arrays import as_one_class, detections_of, ground_truth_of
from lofi_tal.evaluation.bootstrap import BootstrapResult, Interval, bootstrap_detections
from lofi_tal.evaluation.detection import (
    ACTIVITYNET_THRESHOLDS,
    THRESHOLDS,
    THUMOS_THRESHOLDS,
    ClassResult,
    DetectionResult,
    evaluate_detections,
    score_detections,
)
from lofi_tal.evaluation.diagnosis import KINDS, Bin, Diagnosis, diagnose_detections
from lofi_tal.evaluation.documents import GroundTruth, load_ground_truth, read_video_ids
from lofi_tal.evaluation.proposals import ProposalResult, evaluate_proposals, score_proposals
from lofi_tal.evaluation.protocols import PROTOCOLS, protocol_videos, require_protocol

__all__ = [
    "ACTIVITYNET_THRESHOLDS",
    "KINDS",
    "PROTOCOLS",
    "THRESHOLDS",
    "THUMOS_THRESHOLDS",
    "Bin",
    "BootstrapResult",
    "ClassResult",
    "DetectionResult",
    "Diagnosis",
    "GroundTruth",
    "Interval",
    "ProposalResult",
    "as_one_class",
    "bootstrap_detections",
    "detections_of",
    "diagnose_detections",
    "evaluate_detections",
    "evaluate_proposals",
    "ground_truth_of",
    "load_ground_truth",
    "protocol_videos",
    "read_video_ids",
    "require_protocol",
    "score_detections",
    "score_proposals",
]
