"""Ground truth and detections from `Segments`, without a document in between."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from lofi_tal.evaluation.documents import ANY_LABEL, Detections, GroundTruth
from lofi_tal.segments import Segments


def ground_truth_of(videos: Sequence[Segments], subset: str = "") -> GroundTruth:
    """Return the instances of some videos, in seconds.

    Args:
        videos: Truth of each video.
        subset: What to call them in results.
    """
    names = [label for segments in videos for label in segments.label]
    labels = tuple(dict.fromkeys(names))
    index = {label: number for number, label in enumerate(labels)}
    durations = [np.nan if segments.duration is None else segments.duration for segments in videos]
    return GroundTruth(
        videos=tuple(segments.video_id for segments in videos),
        labels=labels,
        video=np.repeat(np.arange(len(videos)), [len(segments) for segments in videos]),
        label=np.array([index[name] for name in names], dtype=np.int64),
        segment=_spans(videos),
        duration=np.array(durations, dtype=np.float64),
        excluded=(),
        known_labels=frozenset(labels),
        class_agnostic=False,
        ambiguous_video=np.zeros(0, dtype=np.int64),
        ambiguous_segment=np.zeros((0, 2)),
        subset=subset,
    )


def as_one_class(truth: GroundTruth) -> GroundTruth:
    """Return a ground truth in which all labels count as one."""
    return replace(truth, labels=(ANY_LABEL,), label=np.zeros_like(truth.label), class_agnostic=True)


def restricted(truth: GroundTruth, videos: Collection[str], labels: Collection[str]) -> GroundTruth:
    """Return the part of a ground truth that lies in some videos and is of some classes, in the order that it has.

    Classes without an instance there are left out; ambiguous parts are not carried over.
    """
    kept = [name for name in truth.videos if name in videos]
    place = {name: number for number, name in enumerate(kept)}
    video = np.array([place.get(name, -1) for name in truth.videos], dtype=np.int64)[truth.video]
    rows = (video >= 0) & np.array([name in labels for name in truth.labels], dtype=bool)[truth.label]
    there = set(truth.label[rows].tolist())
    names = [number for number in range(len(truth.labels)) if number in there]
    index = np.full(len(truth.labels), -1, dtype=np.int64)
    index[names] = np.arange(len(names))
    return replace(
        truth,
        videos=tuple(kept),
        labels=tuple(truth.labels[number] for number in names),
        video=video[rows],
        label=index[truth.label[rows]],
        segment=truth.segment[rows],
        duration=np.array([truth.duration[i] for i, name in enumerate(truth.videos) if name in place]),
        ambiguous_video=np.zeros(0, dtype=np.int64),
        ambiguous_segment=np.zeros((0, 2)),
    )


def detections_of(videos: Sequence[Segments], truth: GroundTruth) -> Detections:
    """Return detections against a ground truth; those of classes that it does not have are left out.

    Args:
        videos: Detections of each video, in seconds.
        truth: The ground truth. If it is class-agnostic, every distinct segment counts once
            (:meth:`lofi_tal.evaluation.documents.Detections.distinct`).
    """
    index = {label: number for number, label in enumerate(truth.labels)}
    names = [label for segments in videos for label in segments.label]
    label = np.array([0 if truth.class_agnostic else index.get(name, -1) for name in names], dtype=np.int64)
    position = {video_id: number for number, video_id in enumerate(truth.videos)}
    counts = [len(segments) for segments in videos]
    known = np.array([position.get(segments.video_id, -1) for segments in videos], dtype=np.int64)
    found = Detections(
        video=np.repeat(known, counts),
        video_id=np.repeat(np.arange(len(videos)), counts),
        label=label,
        segment=_spans(videos),
        score=np.concatenate([np.zeros(0), *(segments.score for segments in videos)]),
        videos=tuple(segments.video_id for segments in videos),
        ignored_labels={},
        proposal_score=_proposal_scores(videos),
    )
    return found.distinct() if truth.class_agnostic else found.only(label >= 0)


def _proposal_scores(videos: Sequence[Segments]) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
    """Return the proposal score of each detection ``(N,)``; None unless all have one."""
    parts = [segments.proposal_score for segments in videos if len(segments)]
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if known and len(known) == len(parts) else None


def _spans(videos: Sequence[Segments]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return all segments ``(N, 2)``."""
    parts = [np.stack([segments.start, segments.end], 1) for segments in videos]
    spans: np.ndarray[tuple[int, int], np.dtype[np.float64]] = np.concatenate([np.zeros((0, 2)), *parts])
    return spans
