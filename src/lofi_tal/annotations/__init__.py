"""Annotations in and out, checked, split and described: ActivityNet's JSON, other tools' files, lists of clips."""

from lofi_tal.annotations.activitynet import (
    load_annotations,
    parse_annotations,
    read_document,
    refuse_other_keys,
    save_annotations,
)
from lofi_tal.annotations.checking import SUBSETS, check_annotations, check_examined, measure_videos, require_usable
from lofi_tal.annotations.clips import Clip, clip_labels, load_clip_list
from lofi_tal.annotations.document import Annotations, Change, VideoAnnotation, require_truth
from lofi_tal.annotations.events import are_events, read_labels, with_width
from lofi_tal.annotations.findings import CheckReport, Finding, FindingLine, group_findings
from lofi_tal.annotations.mirroring import Mirroring, judge_mirroring
from lofi_tal.annotations.splitting import Split, split_annotations
from lofi_tal.annotations.statistics import Statistics, describe

__all__ = [
    "SUBSETS",
    "Annotations",
    "Change",
    "CheckReport",
    "Clip",
    "Finding",
    "FindingLine",
    "Mirroring",
    "Split",
    "Statistics",
    "VideoAnnotation",
    "are_events",
    "check_annotations",
    "check_examined",
    "clip_labels",
    "describe",
    "group_findings",
    "judge_mirroring",
    "load_annotations",
    "load_clip_list",
    "measure_videos",
    "parse_annotations",
    "read_document",
    "read_labels",
    "refuse_other_keys",
    "require_truth",
    "require_usable",
    "save_annotations",
    "split_annotations",
    "with_width",
]
