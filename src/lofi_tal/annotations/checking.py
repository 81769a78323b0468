"""Check annotations, and the videos behind them, before any training: what would fail later is found now."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lofi_tal.annotations.document import Annotations, VideoAnnotation
from lofi_tal.annotations.statistics import percentiles
from lofi_tal.video import VideoError, VideoIndex, VideoManifest, VideoRecord, find_videos

Severity = Literal["error", "warning"]

SUBSETS = ("training", "validation", "testing")
"""The names that ActivityNet gives its subsets."""

_OUTSIDE = 0.1  # seconds that a segment may reach past the video before it is worth a word


@dataclass(frozen=True)
class Finding:
    """One thing that is, or may be, wrong.

    Args:
        severity: ``error`` if training or evaluation would stop or lose videos, ``warning`` if it can go on.
        kind: Short name, the same for all findings of a kind.
        video_id: The video, or an empty string.
        detail: One sentence.
    """

    severity: Severity
    kind: str
    video_id: str
    detail: str


@dataclass(frozen=True, eq=False)
class CheckReport:
    """What a check found.

    Args:
        findings: In the order of the annotations.
        summary: Per subset: videos, videos with truth, instances, classes, hours, and percentiles of the segments'
            lengths in seconds and as a share of their video.
    """

    findings: tuple[Finding, ...]
    summary: dict[str, dict[str, Any]]

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings do not count."""
        return not any(finding.severity == "error" for finding in self.findings)

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings of each kind, the most frequent first."""
        return dict(Counter(finding.kind for finding in self.findings).most_common())

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values for a JSON file."""
        return {
            "ok": self.ok,
            "counts": self.counts,
            "summary": self.summary,
            "findings": [asdict(finding) for finding in self.findings],
        }


def check_annotations(
    annotations: Annotations,
    videos: Path | None,
    *,
    manifest: VideoManifest | None = None,
    seen: Callable[[str], None] = lambda name: None,
    patience: float | None = None,
) -> CheckReport:
    """Check annotations, and with a folder also that each video is there and can be decoded.

    Of each video the packets are read, and a frame is decoded at five places from its start to its end.

    Args:
        annotations: As loaded, not cleaned.
        videos: Folder of the videos, or None to check the annotations alone.
        manifest: What is known of the files already, and keeps what is found now.
        seen: Called with the name of each video file that has been examined.
        patience: Share the examination with other processes; see :meth:`~lofi_tal.video.VideoManifest.examine`.

    Raises:
        LofiError: If the folder cannot be read, or work is to be shared without a manifest that is kept.
        RunError: If the manifest cannot be written.
    """
    findings = [Finding("warning", "left-out", "", note) for note in annotations.notes]
    findings += _check_subsets(annotations)
    for video in annotations:
        findings += _check_segments(video)
    if videos is not None:
        index = find_videos(videos)
        manifest = manifest or VideoManifest(None)
        paths = [index[video.video_id] for video in annotations if video.video_id in index]
        records = manifest.examine(paths, decode=True, seen=lambda path, record: seen(path.name), patience=patience)
        for video in annotations:
            findings += _check_file(video, index, records)
        findings += _check_sharing(annotations, index)
        findings += _check_copies(annotations, index, records)
    return CheckReport(tuple(findings), {name: _summary(annotations.subset(name)) for name in annotations.subsets})


def _check_subsets(annotations: Annotations) -> Iterator[Finding]:
    for name, count in annotations.subsets.items():
        if name not in SUBSETS:
            yield Finding(
                "warning",
                "unknown-subset",
                "",
                f"Subset {name!r} ({count} videos) is none of {', '.join(SUBSETS)}: name it in the recipe to use it.",
            )
        if name != "testing" and not annotations.subset(name).labels:
            yield Finding("error", "subset-without-truth", "", f"None of the {count} videos of {name!r} has a segment.")
    if {"training", "validation"} <= annotations.subsets.keys():
        trained = set(annotations.subset("training").labels)
        for label in annotations.subset("validation").labels:
            if label not in trained:
                detail = f"Class {label!r} is in validation, but no training video shows it: its AP can only be 0."
                yield Finding("warning", "unseen-class", "", detail)


def _check_segments(video: VideoAnnotation) -> Iterator[Finding]:
    segments = video.segments
    limit = np.inf if video.duration is None else video.duration
    names = [f"Annotation {i} ({label})" for i, label in enumerate(segments.label)]
    names += [f"Ignored part {i}" for i in range(len(video.ignored))]
    starts, ends = np.append(segments.start, video.ignored[:, 0]), np.append(segments.end, video.ignored[:, 1])
    for name, start, end in zip(names, starts, ends, strict=True):
        span = f"{name} [{start:g}, {end:g}] s"
        if end <= start:
            yield Finding("warning", "empty-segment", video.video_id, f"{span} does not end after its start.")
        elif start < -_OUTSIDE or end > limit + _OUTSIDE:
            yield Finding("warning", "segment-outside", video.video_id, f"{span} leaves the video of {limit:g} s.")
    if video.duration is None and len(segments):
        yield Finding("warning", "no-duration", video.video_id, "The annotations give no duration.")


def _check_file(video: VideoAnnotation, index: VideoIndex, records: Mapping[Path, VideoRecord]) -> Iterator[Finding]:
    try:
        path = index.find(video.video_id)
    except VideoError as error:
        yield Finding("error", "missing-video", video.video_id, str(error))
        return
    record = records[path]
    if record.error:
        yield Finding("error", "undecodable-video", video.video_id, record.error)
        return
    if record.damaged:
        times = ", ".join(f"{seconds:.1f} s" for seconds in record.damaged)
        yield Finding("warning", "damaged-video", video.video_id, f"{path}: no frame can be decoded near {times}.")
    yield from _check_clock(video.video_id, path, record)
    lengths = np.array([record.clock.end, record.duration])
    if video.duration is not None and abs(lengths - video.duration).min() > max(0.5, 0.02 * video.duration):
        yield Finding(
            "warning",
            "duration-differs",
            video.video_id,
            f"The annotations say {video.duration:.2f} s, {path} lasts {record.duration:.2f} s.",
        )


def _check_clock(video_id: str, path: Path, record: VideoRecord) -> Iterator[Finding]:
    """Find files whose pictures begin later than their clock, and files whose time stamps are not in line."""
    if abs(record.start) > _OUTSIDE:
        detail = (
            f"{path}: the first picture appears at {record.start:.2f} s, the last one ends at {record.clock.end:.2f} s "
            "on the player's clock, on which labels are read and results written."
        )
        yield Finding("warning", "late-pictures", video_id, detail)
    for note in record.notes:
        yield Finding("warning", "time-stamps", video_id, f"{path}: {note}.")


def _check_copies(
    annotations: Annotations, index: VideoIndex, records: Mapping[Path, VideoRecord]
) -> Iterator[Finding]:
    """Find different files with the same content, which would leak between subsets."""
    copies: dict[str, dict[Path, VideoAnnotation]] = {}
    for video in annotations:
        if video.video_id in index and records[index[video.video_id]].content:
            path = index[video.video_id]
            copies.setdefault(records[path].content, {}).setdefault(_target(path), video)
    for same in copies.values():
        if len(same) > 1:
            yield _alike(list(same.values()), "copied-file", "These videos have the same content:")


def _alike(videos: Sequence[VideoAnnotation], name: str, what: str) -> Finding:
    """Return what there is to say of videos that show the same: an error if their subsets differ."""
    names = ", ".join(f"{video.video_id!r} ({video.subset})" for video in videos)
    severity: Severity = "error" if len({video.subset for video in videos}) > 1 else "warning"
    return Finding(severity, name, videos[0].video_id, f"{what} {names}.")


def _check_sharing(annotations: Annotations, index: VideoIndex) -> Iterator[Finding]:
    """Find files that several ids share, which would leak between subsets, and ids that several files have."""
    users: dict[Path, list[VideoAnnotation]] = {}
    for video in annotations:
        if video.video_id in index:
            users.setdefault(_target(index[video.video_id]), []).append(video)
    for path, sharing in users.items():
        if len(sharing) > 1:
            yield _alike(sharing, "shared-file", f"{path} is the video of")
    for paths in index.ambiguous.values():
        for video in users.get(_target(paths[0]), []):
            others = ", ".join(map(str, paths[1:]))
            yield Finding("warning", "several-files", video.video_id, f"{paths[0]} is used, not {others}.")


def _target(path: Path) -> Path:
    """Return the file that a link leads to; one that leads to itself is its own target."""
    return Path(os.path.realpath(path))


def _summary(annotations: Annotations) -> dict[str, Any]:
    cleaned, _ = annotations.clean()
    lengths = [video.segments.end - video.segments.start for video in cleaned]
    shares = [length / video.duration for length, video in zip(lengths, cleaned, strict=True) if video.duration]
    return {
        "videos": len(annotations),
        "videos_with_truth": len(annotations.with_truth()),
        "instances": sum(len(video.segments) for video in annotations),
        "classes": len(annotations.labels),
        "hours": round(sum(video.duration or 0.0 for video in annotations) / 3600, 3),
        "segment_seconds": percentiles(np.concatenate([np.zeros(0), *lengths])),
        "segment_share": percentiles(np.concatenate([np.zeros(0), *shares])),
    }
