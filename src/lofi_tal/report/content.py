"""What a report is made of: plain values, as the stages and the evaluation leave them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lofi_tal.evaluation import Assessment, Floors, Interval, floors_json
from lofi_tal.segments import Segments
from lofi_tal.showing import Shown


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
        events: ``SpottingResult.to_json()`` by set of tolerances, where the labels are point events.
    """

    name: str
    description: str
    scores: dict[str, dict[str, Any]]
    events: dict[str, dict[str, Any]] = field(default_factory=dict)


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
        shown: What is shown at first, instead of a threshold.
    """

    video_id: str
    video: Path | None
    truth: Segments | None
    detections: Segments
    arm: str
    threshold: float | None = None
    shown: Shown | None = None


@dataclass(frozen=True)
class Judgement:
    """What there is to say about the arms beside their mAP; any part may be empty.

    Args:
        assessments: By arm.
        intervals: Of each arm's average mAP: by arm and way.
        gains: Of the difference of its average mAP to the first arm's: by arm and way.
        floors: What needs no training reaches: by its name and way.
        main: The arm that the mistakes are shown of.
    """

    assessments: dict[str, Assessment] = field(default_factory=dict)
    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict)
    gains: dict[str, dict[str, Interval]] = field(default_factory=dict)
    floors: Floors = field(default_factory=dict)
    main: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the judgement as a JSON-like dict."""
        return {
            "assessments": {arm: one.to_json() for arm, one in self.assessments.items()},
            **{
                name: {arm: {way: one.to_json() for way, one in ways.items()} for arm, ways in parts.items()}
                for name, parts in (("intervals", self.intervals), ("gains", self.gains))
            },
            "floors": floors_json(self.floors),
            "main": self.main,
        }


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
        judgement: What there is to say about the arms beside their mAP.
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
    judgement: Judgement = field(default_factory=Judgement)
