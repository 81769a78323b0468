"""Evaluation of detections and proposals: mAP, average recall, diagnosis, confidence intervals."""

from lofi_tal.evaluation.advice import Advice
from lofi_tal.evaluation.arrays import as_one_class, detections_of, ground_truth_of
from lofi_tal.evaluation.assessment import Assessment, assess, assess_documents
from lofi_tal.evaluation.bootstrap import BootstrapResult, Interval, bootstrap_detections, bootstrap_matched
from lofi_tal.evaluation.calibration import Calibration, Curve, Reliability, fit_calibration, reliability
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
from lofi_tal.evaluation.floors import FLOORS, Floors, MotionEnergy, floor_scores, floors_json, moving_spans
from lofi_tal.evaluation.mistakes import MISTAKES, Mistakes, VideoMistakes, find_mistakes
from lofi_tal.evaluation.operating import (
    OperatingPoint,
    Rates,
    Thresholds,
    choose_thresholds,
    measure,
    operating_point,
)
from lofi_tal.evaluation.proposals import ProposalResult, evaluate_proposals, score_proposals
from lofi_tal.evaluation.protocols import PROTOCOLS, protocol_videos, require_protocol
from lofi_tal.evaluation.score_sheet import ScoreSheet, load_sheet, make_sheet, save_sheet
from lofi_tal.evaluation.verdicts import TIOU, Verdicts, judge, judge_documents
from lofi_tal.model_folders import SHEET

__all__ = [
    "ACTIVITYNET_THRESHOLDS",
    "FLOORS",
    "KINDS",
    "MISTAKES",
    "PROTOCOLS",
    "SHEET",
    "THRESHOLDS",
    "THUMOS_THRESHOLDS",
    "TIOU",
    "Advice",
    "Assessment",
    "Bin",
    "BootstrapResult",
    "Calibration",
    "ClassResult",
    "Curve",
    "DetectionResult",
    "Diagnosis",
    "Floors",
    "GroundTruth",
    "Interval",
    "Mistakes",
    "MotionEnergy",
    "OperatingPoint",
    "ProposalResult",
    "Rates",
    "Reliability",
    "ScoreSheet",
    "Thresholds",
    "Verdicts",
    "VideoMistakes",
    "as_one_class",
    "assess",
    "assess_documents",
    "bootstrap_detections",
    "bootstrap_matched",
    "choose_thresholds",
    "detections_of",
    "diagnose_detections",
    "evaluate_detections",
    "evaluate_proposals",
    "find_mistakes",
    "fit_calibration",
    "floor_scores",
    "floors_json",
    "ground_truth_of",
    "judge",
    "judge_documents",
    "load_ground_truth",
    "load_sheet",
    "make_sheet",
    "measure",
    "moving_spans",
    "operating_point",
    "protocol_videos",
    "read_video_ids",
    "reliability",
    "require_protocol",
    "save_sheet",
    "score_detections",
    "score_proposals",
]
