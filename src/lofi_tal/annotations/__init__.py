"""Annotations in and out, checked, split and described: ActivityNet's JSON, other tools' files, lists of clips."""

from lofi_tal.annotations.activitynet import load_annotations, parse_annotations, save_annotations
from lofi_tal.annotations.checking import SUBSETS, CheckReport, Finding, check_annotations
from lofi_tal.annotations.clips import Clip, clip_labels, load_clip_list
from lofi_tal.annotations.document import Annotations, VideoAnnotation, require_truth
from lofi_tal.annotations.mirroring import Mirroring, judge_mirroring
from lofi_tal.annotations.splitting import Split, split_annotations
from lofi_tal.annotations.statistics import Statistics, describe

__all__ = [
    "SUBSETS",
    "Annotations",
    "CheckReport",
    "Clip",
    "Finding",
    "Mirroring",
    "Split",
    "Statistics",
    "VideoAnnotation",
    "check_annotations",
    "clip_labels",
    "describe",
    "judge_mirroring",
    "load_annotations",
    "load_clip_list",
    "parse_annotations",
    "require_truth",
    "save_annotations",
    "split_annotations",
]
