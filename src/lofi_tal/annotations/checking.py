"""Check annotations, and the videos behind them, before any training: what would fail later is found now."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lofi_tal.annotations.document import Annotations, VideoAnnotation, lost_classes
from lofi_tal.annotations.events import are_events
from lofi_tal.annotations.findings import CheckReport, Finding, Severity
from lofi_tal.annotations.labels import check_duplicates, check_labels
from lofi_tal.annotations.statistics import percentiles
from lofi_tal.annotations.units import OUTSIDE, check_units
from lofi_tal.errors import DataError, nearest
from lofi_tal.video import Clock, VideoError, VideoIndex, VideoManifest, VideoRecord, find_videos

SUBSETS = ("training", "validation", "testing")
"""The names that ActivityNet gives its subsets."""

_ROLES = {"train": "train", "eval": "evaluate"}
_WIDTH = "Set data.events in the recipe, or --events of this command, to its width, as 2 (seconds)."
_STOPPING = ("missing-subset", "subset-without-truth", "class-without-truth")
_NAMED = 10  # classes of a finding


def check_annotations(
    annotations: Annotations,
    videos: Path | None,
    *,
    manifest: VideoManifest | None = None,
    seen: Callable[[str], None] = lambda name: None,
    patience: float | None = None,
    subsets: tuple[str, str] = ("training", "validation"),
) -> CheckReport:
    """Check annotations, and with a folder also that each video is there and can be decoded.

    Of each video the packets are read, and a frame is decoded at five places from its start to its end.

    Args:
        annotations: As loaded, not cleaned.
        videos: Folder of the videos, or None to check the annotations alone.
        manifest: What is known of the files already, and keeps what is found now.
        seen: Called with the name of each video file that has been examined.
        patience: Share the examination with other processes; see :meth:`~lofi_tal.video.VideoManifest.examine`.
        subsets: Subset that is trained on, and subset that is evaluated.

    Raises:
        LofiError: If the folder cannot be read, or work is to be shared without a manifest that is kept.
        RunError: If the manifest cannot be written.
    """
    if videos is None:
        return check_examined(annotations, None, {}, subsets)
    index = find_videos(videos)
    manifest = manifest or VideoManifest(None)
    paths = [index[video.video_id] for video in annotations if video.video_id in index]
    records = manifest.examine(paths, decode=True, seen=lambda path, record: seen(path.name), patience=patience)
    return check_examined(annotations, index, records, subsets)


def check_examined(
    annotations: Annotations,
    index: VideoIndex | None,
    records: Mapping[Path, VideoRecord],
    subsets: tuple[str, str] = ("training", "validation"),
) -> CheckReport:
    """Check annotations against videos that have been examined; ``lofi data check``, ``init`` and ``run`` all do.

    Args:
        annotations: As loaded, not cleaned.
        index: Video files by id; None checks the annotations alone.
        records: What is known of the files.
        subsets: Subset that is trained on, and subset that is evaluated.
    """
    clocks, rates = _measured(annotations, index, records)
    findings = [Finding("warning", "left-out", "", note) for note in annotations.notes]
    units = check_units(annotations, _lengths(annotations, clocks), rates)
    unusable = {name: finding.detail for name, finding in units.items() if finding.severity == "error"}
    cleaned, _ = annotations.clean(clocks, unusable)
    findings += _check_subsets(annotations, cleaned, subsets)
    findings += check_labels(annotations, subsets[0])
    for video in annotations:
        if video.video_id in units:
            findings.append(units[video.video_id])
        if video.video_id not in unusable:
            findings += _check_segments(video, clocks.get(video.video_id))
        findings += check_duplicates(video)
    if index is not None:
        for video in annotations:
            findings += _check_file(video, index, records)
        findings += _check_sharing(annotations, index)
        findings += _check_copies(annotations, index, records)
    summary = {name: _summary(annotations.subset(name), cleaned.subset(name)) for name in annotations.subsets}
    return CheckReport(tuple(findings), summary)


def measure_videos(
    annotations: Annotations, videos: Path | None, seen: Callable[[str], None] = lambda name: None
) -> tuple[dict[str, Clock], dict[str, str], dict[str, str]]:
    """Return what decides which segments can be used: the clocks of the files, and whose times are no seconds.

    Args:
        annotations: As loaded, not cleaned.
        videos: Folder of the videos; None if there are none, and the annotated durations have to do.
        seen: Called with the name of each video file that has been examined.

    Returns:
        Clocks by id; the ids of videos of which no segment can be trusted, and why; the ids of videos that cannot be
        read, and why.

    Raises:
        LofiError: If the folder cannot be read.
    """
    index = None if videos is None else find_videos(videos)
    paths, missing = ({}, {}) if index is None else index.find_all(annotations.videos)
    failed = {video_id: str(error) for video_id, error in missing.items()}
    records = VideoManifest(None).examine(paths.values(), seen=lambda path, record: seen(path.name))
    failed |= {name: records[path].error for name, path in paths.items() if records[path].error}
    clocks, rates = _measured(annotations, index, records)
    units = check_units(annotations, _lengths(annotations, clocks), rates)
    return clocks, {name: one.detail for name, one in units.items() if one.severity == "error"}, failed


def require_usable(report: CheckReport) -> None:
    """Refuse data of which a subset, or a class of one, has no truth that lies in its videos.

    Raises:
        DataError: With what is wrong, and the unit that the times seem to have.
    """
    stopping = [finding.detail for finding in report.findings if finding.kind in _STOPPING]
    if stopping:
        units = next((finding for finding in report.findings if finding.kind == "units"), None)
        hint = (
            f" {units.video_id}: {units.detail}."
            if units
            else " Times must be seconds: are they frames or milliseconds?"
        )
        raise DataError(f"{' '.join(stopping)}{hint} `lofi data check` lists everything.")


def _measured(
    annotations: Annotations, index: VideoIndex | None, records: Mapping[Path, VideoRecord]
) -> tuple[dict[str, Clock], dict[str, float]]:
    """Return the clocks and the frame rates of the files."""
    clocks, rates = {}, {}
    for video in annotations:
        record = records.get(index[video.video_id]) if index is not None and video.video_id in index else None
        if record is not None and not record.error:
            clocks[video.video_id] = record.clock
            rates[video.video_id] = record.frames / record.duration
    return clocks, rates


def _lengths(annotations: Annotations, clocks: Mapping[str, Clock]) -> dict[str, float]:
    """Return the lengths of the videos, by their files or else by the annotations."""
    lengths = {video.video_id: video.duration for video in annotations if video.duration is not None}
    return lengths | {name: clock.end for name, clock in clocks.items()}


def _check_subsets(annotations: Annotations, cleaned: Annotations, used: tuple[str, str]) -> Iterator[Finding]:
    counts = annotations.subsets
    for name, (key, role) in zip(used, _ROLES.items(), strict=True):
        if name not in counts:
            there = ", ".join(f"{other!r} ({count})" for other, count in counts.items())
            detail = (
                f"No video is in subset {name!r}, the one to {role}; the annotations have {there}."
                f"{nearest(name, counts)} Divide them with `lofi data split`, or name the subset to {role}: "
                f"--{key}-subset of `lofi data check` and `lofi init`, data.{key}_subset in a recipe."
            )
            yield Finding("error", "missing-subset", "", detail)
    for name, count in counts.items():
        if name not in (*SUBSETS, *used):
            names = ", ".join(dict.fromkeys((*SUBSETS, *used)))
            detail = f"Subset {name!r} ({count} videos) is none of {names}: name it in the recipe to use it."
            yield Finding("warning", "unknown-subset", "", detail)
        if name in used or name != "testing":
            yield from _check_truth(annotations.subset(name), cleaned.subset(name), name, used)
    if set(used) <= counts.keys():
        trained = set(annotations.subset(used[0]).labels)
        unseen = [label for label in annotations.subset(used[1]).labels if label not in trained]
        if unseen:
            which = f"{_named(unseen)} {'is' if len(unseen) == 1 else 'are'} in {used[1]}, but no {used[0]} video shows"
            detail = f"{which} {'it' if len(unseen) == 1 else 'them'}: the AP can only be 0."
            yield Finding("warning", "unseen-class", "", detail)
        measured = set(annotations.subset(used[1]).labels)
        unmeasured = [label for label in annotations.subset(used[0]).labels if label not in measured]
        if measured and unmeasured:
            which = f"{_named(unmeasured)} {'is' if len(unmeasured) == 1 else 'are'} in {used[0]}, but not in {used[1]}"
            detail = f"{which}: mAP says nothing about {'it' if len(unmeasured) == 1 else 'them'}."
            yield Finding("warning", "unmeasured-class", "", detail)


def _check_truth(subset: Annotations, cleaned: Annotations, name: str, used: tuple[str, str]) -> Iterator[Finding]:
    """Check that a subset, and each class in it, has a segment in its videos."""
    before, after = (sum(len(video.segments) for video in one) for one in (subset, cleaned))
    if not before:
        yield Finding(
            "error", "subset-without-truth", "", f"None of the {len(subset)} videos of {name!r} has a segment."
        )
    elif not after and are_events(subset):
        detail = f"All {before} labels of {name!r} start and end at one time: they are point events, and need a width."
        yield Finding("error", "subset-without-truth", "", f"{detail} {_WIDTH}")
    elif not after:
        what = "The only segment" if before == 1 else f"Each of the {before} segments"
        detail = f"{what} of {name!r} lies outside its video, is not in seconds or has no length: nothing is left."
        yield Finding("error", "subset-without-truth", "", detail)
    elif name in used and (lost := lost_classes(subset, cleaned)):
        detail = (
            f"Every segment of {_named(lost)} in {name!r} lies outside its video, is not in seconds or has no length."
        )
        yield Finding("error", "class-without-truth", "", detail)


def _named(labels: Sequence[str]) -> str:
    names = ", ".join(map(repr, labels[:_NAMED])) + (", ..." if len(labels) > _NAMED else "")
    return f"class {names}" if len(labels) == 1 else f"{len(labels)} classes ({names})"


def _check_segments(video: VideoAnnotation, clock: Clock | None) -> Iterator[Finding]:
    segments = video.segments
    first, limit = video.bounds(clock)
    extent = f"the video of {limit:.4g} s" if first <= OUTSIDE else f"the pictures, [{first:.4g}, {limit:.4g}] s"
    names = [f"Annotation {i} ({label})" for i, label in enumerate(segments.label)]
    names += [f"Ignored part {i}" for i in range(len(video.ignored))]
    starts, ends = np.append(segments.start, video.ignored[:, 0]), np.append(segments.end, video.ignored[:, 1])
    for name, start, end in zip(names, starts, ends, strict=True):
        span = f"{name} [{start:g}, {end:g}] s"
        if end <= start:
            hint = f" If it is a point event: {_WIDTH}" if end == start else ""
            yield Finding("warning", "empty-segment", video.video_id, f"{span} does not end after its start.{hint}")
        elif start < first - OUTSIDE or end > limit + OUTSIDE:
            left = "lies outside" if start >= limit or end <= first else "leaves"
            yield Finding("warning", "segment-outside", video.video_id, f"{span} {left} {extent}.")
    if np.isinf(limit) and len(segments):
        detail = "The annotations give no duration, so nothing tells whether the segments lie in the video."
        yield Finding("warning", "no-duration", video.video_id, detail)


def _check_file(video: VideoAnnotation, index: VideoIndex, records: Mapping[Path, VideoRecord]) -> Iterator[Finding]:
    try:
        path = index.find(video.video_id)
    except VideoError as error:
        yield Finding("error", "missing-video", video.video_id, str(error))
        return
    record = records.get(path)
    if record is None:  # a file that has come since
        return
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
    if abs(record.start) > OUTSIDE:
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
        path = index.get(video.video_id)
        if path is not None and path in records and records[path].content:
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


def _summary(annotations: Annotations, cleaned: Annotations) -> dict[str, Any]:
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
