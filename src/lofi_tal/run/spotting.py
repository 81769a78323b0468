"""What a run on point events reports beside mAP over tIoU: SoccerNet's mAP over tolerances in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lofi_tal.annotations import load_annotations
from lofi_tal.evaluation.spotting import TOLERANCES, evaluate_events
from lofi_tal.segments import Segments

SETS = ("tight", "close")
"""Sets of tolerances that a run reports."""


def score_events(annotations: Path, subset: str, detections: Mapping[str, Segments]) -> dict[str, dict[str, Any]]:
    """Return the results of ``lofi evaluate --events`` by set of tolerances, JSON-like; nothing without an event.

    Args:
        annotations: The labels as they are: an event starts and ends at its time.
        subset: The one that is evaluated; a video without detections counts as missed.
        detections: By video id.
    """
    truth = {video.video_id: video.segments for video in load_annotations(annotations).subset(subset)}
    if not any(map(len, truth.values())):
        return {}
    return {name: evaluate_events(truth, detections, TOLERANCES[name]).to_json() for name in SETS}
