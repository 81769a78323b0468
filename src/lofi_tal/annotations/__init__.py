"""Annotations in and out, and checks of them: ActivityNet's JSON, and clip lists as Kinetics has them."""

from lofi_tal.annotations.activitynet import load_annotations, save_annotations
from lofi_tal.annotations.checking import SUBSETS, CheckReport, Finding, check_annotations
from lofi_tal.annotations.clips import Clip, load_clip_list
from lofi_tal.annotations.document import Annotations, VideoAnnotation, require_truth

__all__ = [
    "SUBSETS",
    "Annotations",
    "CheckReport",
    "Clip",
    "Finding",
    "VideoAnnotation",
    "check_annotations",
    "load_annotations",
    "load_clip_list",
    "require_truth",
    "save_annotations",
]
