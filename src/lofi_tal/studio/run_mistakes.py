"""What a run got wrong, video by video, by the labels as they are now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lofi_tal.evaluation import Thresholds, detections_of, ground_truth_of
from lofi_tal.evaluation.documents import Detections, GroundTruth
from lofi_tal.evaluation.mistakes import Sorted, sort_mistakes
from lofi_tal.segments import Segments
from lofi_tal.showing import Shown

KINDS = ("missed", "doubled", "mislabelled", "misplaced", "false")
"""What can be wrong, as the page names it."""


@dataclass(frozen=True, eq=False)
class VideoLabels:
    """The labels of one video as they are now: its id, and rows of start, end (seconds) and label."""

    id: str
    rows: Sequence[tuple[float, float, str]]


def mistakes_of(
    detections: Sequence[Segments], shown: Shown, labels: Iterable[VideoLabels], events: float = 0.0
) -> dict[str, Any]:
    """Return what is wrong with what a run shows, video by video, by the labels as they are now.

    The kinds are those of :mod:`lofi_tal.evaluation.mistakes`: *missed* actions; *mislabelled* and *false* detections;
    *misplaced* ones overlap their action by 0.1 to 0.5; a *doubled* one overlaps, with its label or another, an action
    that another detection has. One that overlaps an action with another label by less than 0.5 is none of these: its
    action counts as missed. Each has its score; a missed action has none (None).

    Args:
        detections: Of the evaluated videos.
        shown: What of them is shown.
        labels: Of all videos that have been looked at.
        events: Seconds that a label lasts that starts and ends at one time, as the run took it (``data.events``).

    Returns:
        ``videos``, those with most mistakes first; ``counts`` of each kind; ``unlabelled`` ids that were left out.
    """
    known = {one.id: one for one in labels}
    judged = [one for one in detections if one.video_id in known]
    left_out = [one.video_id for one in detections if one.video_id not in known]
    truth = ground_truth_of([_truth(known[one.video_id], events) for one in judged])
    names = tuple(dict.fromkeys([*truth.labels, *(label for one in judged for label in one.label)]))
    truth = replace(truth, labels=names)
    found = detections_of(judged, truth)
    table = _sorted_by_video(truth, sort_mistakes(truth, found, Thresholds(shown.limit, shown.limits)))
    videos = [{"id": name, **kinds} for name, kinds in table.items() if any(kinds[kind] for kind in KINDS)]
    videos.sort(key=lambda one: -sum(len(one[kind]) for kind in KINDS))
    counts = {kind: sum(len(one[kind]) for one in videos) for kind in KINDS}
    return {"videos": videos, "counts": counts, "judged": len(judged), "unlabelled": left_out}


def _truth(video: VideoLabels, events: float) -> Segments:
    spans = [(start, end) if end > start else (start - events / 2, end + events / 2) for start, end, _ in video.rows]
    rows = [{"segment": span, "label": row[2]} for span, row in zip(spans, video.rows, strict=True)]
    return Segments.from_activitynet(video.id, rows)


def _sorted_by_video(truth: GroundTruth, found: Sorted) -> dict[str, dict[str, Any]]:
    """Return the mistakes of each video by kind, each in the order of time, and the number of right detections."""
    table: dict[str, dict[str, Any]] = {
        name: {**{kind: [] for kind in KINDS}, "right": 0} for name in truth.videos
    }  # fmt: skip
    shown = found.shown

    def add(video: int, kind: str, detection: int, instance: int) -> None:
        action = None if instance < 0 else _action(truth, instance)
        item = {**action, "score": None} if detection < 0 and action else _detected(shown, truth, detection)
        table[truth.videos[video]][kind].append({**item, "truth": None if detection < 0 else action})

    for row in range(len(shown.score)):
        video = int(shown.video[row])
        table[truth.videos[video]]["right"] += int(found.right[row] >= 0)
        if found.wrong[row] >= 0:
            add(video, "mislabelled", row, int(found.wrong[row]))
        elif found.double[row]:
            add(video, "doubled", row, int(found.near[row]))
        elif found.alarm[row]:
            add(video, "false", row, -1)
    for row in range(len(found.state)):
        if found.state[row] == 1:
            add(int(truth.video[row]), "misplaced", int(found.placed[row]), row)
        elif found.state[row] == 2:
            add(int(truth.video[row]), "missed", -1, row)
    for kinds in table.values():
        for kind in KINDS:
            kinds[kind].sort(key=lambda item: (item["start"], item["end"]))
    return table


def _action(truth: GroundTruth, row: int) -> dict[str, Any]:
    start, end = truth.segment[row].tolist()
    return {"start": start, "end": end, "label": truth.labels[truth.label[row]]}


def _detected(shown: Detections, truth: GroundTruth, row: int) -> dict[str, Any]:
    start, end = shown.segment[row].tolist()
    return {"start": start, "end": end, "label": truth.labels[shown.label[row]], "score": float(shown.score[row])}
