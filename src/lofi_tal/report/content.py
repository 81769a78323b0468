"""What a report is made of: plain values, as the stages and the evaluation leave them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lofi_tal.segments import Segments


@dataclass(frozen=True)
class StageSummary:
    """A stage of the run.

    Args:
        name: Name.
        seconds: Time it took.
        peak_memory_bytes: Peak memory; 0 if it was not measured.
        skipped: Whether it was up to date and did not run again.
        metrics: Lines of its ``metrics.jsonl``; every key may be missing.
        running: Whether it is not finished.
    """

    name: str
    seconds: float
    peak_memory_bytes: int
    skipped: bool
    metrics: list[dict[str, Any]] = field(default_factory=list)
    running: bool = False


@dataclass(frozen=True)
class Arm:
    """One of the systems that are compared.

    Args:
        name: Short name.
        description: What it is, in a few words.
        scores: ``DetectionResult.to_json()`` by way: ``fused``, ``agnostic``, ``oracle``; any may be missing.
    """

    name: str
    description: str
    scores: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class TimelineEntry:
    """What one arm found in one video; entries of the same video share a timeline.

    Args:
        video_id: Id of the video.
        video: Its file, if there is one.
        truth: Ground truth, if it is known.
        detections: What was found.
        arm: Name of the arm.
        threshold: Lowest score shown at first, as long as it is few enough to read; without it the ten best are shown.
    """

    video_id: str
    video: Path | None
    truth: Segments | None
    detections: Segments
    arm: str
    threshold: float | None = None


@dataclass(frozen=True)
class Report:
    """Everything that a report shows.

    Args:
        title: Heading.
        subtitle: One line below it.
        arms: Systems that are compared; differences are to the first one.
        stages: What was run, in order.
        timelines: Videos to look at.
        facts: Command, seed, hardware, versions, data and the like, by name.
        notes: What the reader should know, such as videos that were left out.
        lengths: Lengths of segments in seconds by group (such as training and validation), for a histogram.
        links: Other pages of the run by their names, as URLs relative to the report.
    """

    title: str
    subtitle: str = ""
    arms: list[Arm] = field(default_factory=list)
    stages: list[StageSummary] = field(default_factory=list)
    timelines: list[TimelineEntry] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    lengths: dict[str, list[float]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
