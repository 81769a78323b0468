"""Ground truth and detections as flat arrays: reading, checking, selecting a subset.

Both documents have ActivityNet's layout. The ground truth is ``{"database": {id: {"subset", "annotations":
[{"label", "segment": [start, end]}]}}}``, with ambiguous parts under ``"ignored": [{"segment": [start, end]}]`` of a
video; detections are ``{"results": {id: [{"label", "score", "segment"}]}}``; seconds.

Legend: G instances, N detections, I ambiguous parts.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lofi_tal.annotations import read_document, refuse_other_keys
from lofi_tal.errors import DataError, counted, nearest
from lofi_tal.evaluation.records import check_numbers, columns, has_labels, positions, proposal_scores
from lofi_tal.files import read_json, read_text
from lofi_tal.segments import best_of_each

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Document = Path | str | Mapping[str, Any]

ANY_LABEL = "action"
"""The one label of class-agnostic evaluation."""

_LAYOUT = (
    'annotations in ActivityNet\'s layout, {"database": {id: {"subset", "annotations": [{"segment", "label"}]}}}. '
    "`lofi data convert` makes it of the files of other tools."
)


@dataclass(frozen=True)
class GroundTruth:
    """The instances of one subset.

    Args:
        videos: Ids of the subset's videos, with or without instances, in the order of the document.
        labels: Class names by first appearance in the subset.
        video: ``(G,)`` position in ``videos``.
        label: ``(G,)`` position in ``labels``.
        segment: ``(G, 2)`` seconds. Instances that are empty, reversed or outside the video are kept: they
            count as missed.
        duration: ``(V,)`` seconds, NaN where the document has none.
        excluded: Ids of the subset that were left out.
        known_labels: Every label anywhere in the document.
        class_agnostic: Whether all labels count as one.
        ambiguous_video: ``(I,)`` position in ``videos`` of each ambiguous part; empty unless they were asked for.
        ambiguous_segment: ``(I, 2)`` seconds.
        subset: Its name.
        elsewhere: Subset of each id that is in another one.
    """

    videos: tuple[str, ...]
    labels: tuple[str, ...]
    video: Indices
    label: Indices
    segment: Floats
    duration: Floats
    excluded: tuple[str, ...]
    known_labels: frozenset[str]
    class_agnostic: bool
    ambiguous_video: Indices
    ambiguous_segment: Floats
    subset: str = ""
    elsewhere: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Detections:
    """The detections that count, flat.

    Args:
        video: ``(N,)`` position in the ground truth's ``videos``; -1 for a video that is not in the subset.
        video_id: ``(N,)`` position in ``videos`` of this object.
        label: ``(N,)`` position in the ground truth's ``labels``.
        segment: ``(N, 2)`` seconds.
        score: ``(N,)``.
        videos: Ids with an entry in the document, without the excluded ones.
        ignored_labels: Number of detections a class that the ground truth knows, but not in this subset.
        proposal_score: ``(N,)`` confidence before class scores, where the detections have it.
        repeated: Number of detections that :meth:`distinct` has left out.
        ranked_by: What ``score`` is: ``score`` or ``proposal_score``.
    """

    video: Indices
    video_id: Indices
    label: Indices
    segment: Floats
    score: Floats
    videos: tuple[str, ...]
    ignored_labels: dict[str, int]
    proposal_score: Floats | None = None
    repeated: int = 0
    ranked_by: str = "score"

    def only(self, keep: NDArray[Any]) -> Detections:
        """Return some of the detections, by mask or positions."""
        return replace(
            self,
            video=self.video[keep],
            video_id=self.video_id[keep],
            label=self.label[keep],
            segment=self.segment[keep],
            score=self.score[keep],
            proposal_score=None if self.proposal_score is None else self.proposal_score[keep],
        )

    def distinct(self) -> Detections:
        """Return every distinct segment of a video once: what class-agnostic evaluation counts.

        A proposal that is written for several labels is one. It is ranked by its proposal score, or, where not all
        detections have one, by the best score that the segment has.
        """
        rank = self.score if self.proposal_score is None else self.proposal_score
        kept = best_of_each(np.column_stack([self.video_id, self.segment]), rank)
        once = replace(self, score=rank, proposal_score=None).only(kept)
        ranked_by = "score" if self.proposal_score is None else "proposal_score"
        return replace(once, repeated=len(rank) - len(kept), ranked_by=ranked_by)


def load_document(document: Document) -> tuple[Mapping[str, Any], str]:
    """Return the parsed document and what to call it in messages."""
    if isinstance(document, Mapping):
        return document, "the document given"
    if Path(document).is_dir():
        raise DataError(f"{document} is a folder: give a JSON file. SoccerNet's games are judged with --events tight.")
    return read_json(Path(document)), str(document)


def load_ground_truth(
    document: Document,
    subset: str,
    *,
    exclude: Collection[str] = (),
    only: Collection[str] | None = None,
    class_agnostic: bool = False,
    ambiguous: bool = False,
) -> GroundTruth:
    """Read the instances of ``subset``.

    Args:
        document: Path or parsed document.
        subset: Name of the subset.
        exclude: Ids to leave out.
        only: Ids to keep, if not all.
        class_agnostic: Give every instance the same label.
        ambiguous: Read the ambiguous parts as well (the key ``ignored``), which must be there.

    Raises:
        DataError: If the document is malformed (the message says where), the subset has no instance, or there are
            no ambiguous parts although they were asked for.
    """
    content: Any = document if isinstance(document, Mapping) else read_document(document)
    name = "the document given" if isinstance(document, Mapping) else str(document)
    database = content.get("database") if isinstance(content, Mapping) else None
    if not isinstance(database, Mapping):
        raise DataError(f"{name} has no 'database': expected {_LAYOUT}")
    members = _read_subset(database, name, subset, set(exclude), None if only is None else set(only), ambiguous)
    _require_instances(members, database, name, subset, ambiguous)
    labels = (ANY_LABEL,) if class_agnostic else tuple(dict.fromkeys(label for _, label, _ in members.instances))
    position = dict.fromkeys(members.known, 0) if class_agnostic else {label: i for i, label in enumerate(labels)}
    return GroundTruth(
        videos=tuple(members.videos),
        labels=labels,
        video=np.array([row[0] for row in members.instances]),
        label=np.array([position[row[1]] for row in members.instances]),
        segment=np.array([[float(edge) for edge in row[2]] for row in members.instances]),
        duration=np.array(members.durations, dtype=np.float64),
        excluded=tuple(members.left_out),
        known_labels=frozenset(members.known),
        class_agnostic=class_agnostic,
        ambiguous_video=np.array([video for video, _ in members.ambiguous], dtype=np.int64),
        ambiguous_segment=np.array([[float(edge) for edge in span] for _, span in members.ambiguous]).reshape(-1, 2),
        subset=subset,
        elsewhere=members.elsewhere,
    )


@dataclass
class _Subset:
    """What a document holds of a subset, as it is written."""

    videos: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    instances: list[tuple[int, str, Any]] = field(default_factory=list)  # position of the video, label, segment
    ambiguous: list[tuple[int, Any]] = field(default_factory=list)
    known: set[str] = field(default_factory=set)  # labels anywhere in the document
    elsewhere: dict[str, str] = field(default_factory=dict)  # subset of each id of another one


def _read_subset(
    database: Mapping[str, Any], name: str, subset: str, excluded: set[str], kept: set[str] | None, ambiguous: bool
) -> _Subset:
    """Read the videos of a subset; every video of the document is checked."""
    members = _Subset()
    for video_id, entry in database.items():
        where = f"{name}: database[{video_id!r}]"
        annotations = _annotations(entry, where)
        members.known.update(str(annotation["label"]) for annotation in annotations)
        if entry.get("subset") != subset:
            members.elsewhere[video_id] = str(entry.get("subset"))
            continue
        if video_id in excluded or (kept is not None and video_id not in kept):
            members.left_out.append(video_id)
            continue
        video = len(members.videos)
        members.instances.extend((video, str(a["label"]), a["segment"]) for a in annotations)
        if ambiguous:
            members.ambiguous.extend((video, span["segment"]) for span in _ignored(entry, where))
        members.videos.append(video_id)
        members.durations.append(_number(entry.get("duration")))
    return members


def _require_instances(members: _Subset, database: Mapping[str, Any], name: str, subset: str, ambiguous: bool) -> None:
    """Refuse a subset without instances, or without the ambiguous parts that were asked for."""
    if not members.instances:
        subsets = sorted({str(e.get("subset")) for e in database.values()})
        raise DataError(
            f"{name} has no instance in subset {subset!r} ({counted(len(members.videos), 'video')} of it, "
            f"{len(members.left_out)} excluded); its subsets are: {', '.join(subsets)}.{nearest(subset, subsets)}"
        )
    if ambiguous and not members.ambiguous:
        raise DataError(
            f"{name}: none of the {len(members.videos)} evaluated videos of subset {subset!r} has an ambiguous part "
            "(key 'ignored'). `lofi data convert --from thumos` writes those of THUMOS14; where there are none, "
            "evaluate without ignoring them."
        )


def read_video_ids(path: Path | str) -> frozenset[str]:
    """Read a list of video ids, for ``exclude`` or ``only``.

    ActivityNet-1.3 has 4,926 validation videos. G-TAD, BMN and the figures of the LoFi paper count the 4,728
    that remain without those that are no longer available; ActionFormer and TSP count all. The list belongs
    to the annotation files and is read from whatever form of it there is.

    Args:
        path: JSON list of ids, JSON object with ids as keys, annotations (``{"database": ...}``), or text
            with one id a line. A leading ``v_`` is dropped from 13-character names.

    Raises:
        DataError: If the file cannot be read or holds no id.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        content = read_json(path)
        if isinstance(content, Mapping):
            content = content.get("database", content)
        if not isinstance(content, Mapping | list):
            raise DataError(f"{path} is {type(content).__name__}; expected a list of video ids or annotations.")
        names = [str(name) for name in content]
    else:
        names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not names:
        raise DataError(f"{path} holds no video id.")
    return frozenset(name[2:] if len(name) == 13 and name.startswith("v_") else name for name in names)


def _annotations(entry: Any, where: str) -> list[Mapping[str, Any]]:
    """Return the annotations of one video after checking their form."""
    if not isinstance(entry, Mapping):
        raise DataError(f"{where} is {type(entry).__name__}, not an object.")
    refuse_other_keys(entry, where)
    annotations = entry.get("annotations") or []
    for index, annotation in enumerate(annotations):
        if not _has_segment(annotation) or "label" not in annotation:
            raise DataError(
                f'{where}, annotation {index} is {annotation!r}; expected {{"label": name, "segment": [start, end]}} '
                "with finite seconds."
            )
    return list(annotations)


def _ignored(entry: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
    """Return the ambiguous parts of one video after checking their form."""
    spans = entry.get("ignored")
    if not isinstance(spans, list | None):
        raise DataError(f"{where}, ignored is {type(spans).__name__}, not a list.")
    for index, span in enumerate(spans or []):
        if not _has_segment(span):
            raise DataError(
                f'{where}, ignored part {index} is {span!r}; expected {{"segment": [start, end]}} with finite seconds.'
            )
    return spans or []


def _has_segment(record: Any) -> bool:
    """Say whether a record has a segment of two finite numbers."""
    try:
        start, end = (float(edge) for edge in record["segment"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return False
    return bool(np.isfinite(start) and np.isfinite(end))


def _number(value: Any) -> float:
    """Return ``value`` as a float, NaN if it is not one (HACS writes durations as text)."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def load_detections(document: Document, truth: GroundTruth, *, labelled: bool = True) -> Detections:
    """Read detections against a ground truth; if that is class-agnostic, every distinct segment once.

    Args:
        document: Path or parsed document.
        truth: The ground truth; detections in its excluded videos are left out.
        labelled: False for proposals: labels are not needed, and all count as the first class.

    Raises:
        DataError: If the document is malformed, a number is not finite, a segment is reversed or a label is
        unknown;
            the message says where.
    """
    content, name = load_document(document)
    results = content.get("results") if isinstance(content, Mapping) else None
    if not isinstance(results, Mapping):
        raise DataError(
            f"{name} has no 'results': expected detections as "
            '{"results": {id: [{"label", "score", "segment"}]}}.'
        )
    excluded = set(truth.excluded)
    results = {video_id: records for video_id, records in results.items() if video_id not in excluded}
    keys = ("label", "score", "segment") if labelled else ("score", "segment")
    label, score, segment = columns(results, name, keys)
    counts = [len(records) for records in results.values()]
    check_numbers(results, score, segment, name)
    video_position = {video_id: i for i, video_id in enumerate(truth.videos)}
    video_id = np.repeat(np.arange(len(results)), counts)
    video = np.array([video_position.get(v, -1) for v in results], dtype=np.int64)[video_id]
    ignored: dict[str, int] = {}
    label_index = np.zeros(len(score), dtype=np.int64)
    if labelled and not truth.class_agnostic:
        label_index, ignored = _label_index(label, truth, results, name)
    found = Detections(video, video_id, label_index, segment, score, tuple(results), ignored)
    if not truth.class_agnostic:
        return found.only(label_index >= 0)
    if not has_labels(results):
        return found
    return replace(found, proposal_score=proposal_scores(results, name)).distinct()


def _label_index(
    label: list[str], truth: GroundTruth, results: Mapping[str, Any], name: str
) -> tuple[Indices, dict[str, int]]:
    """Return positions in ``truth.labels`` ``(N,)``, -1 for classes that the subset does not have, and their counts."""
    position = dict.fromkeys(truth.known_labels, -1)
    position.update({known: index for index, known in enumerate(truth.labels)})
    try:
        index = np.array(list(map(position.__getitem__, label)), dtype=np.int64)
    except (KeyError, TypeError) as error:
        first = next(i for i, value in enumerate(label) if not isinstance(value, str) or value not in position)
        video_id, row = next(itertools.islice(positions(results), first, None))
        raise DataError(
            f"{name}: results[{video_id!r}], detection {row} has label {label[first]!r}, which the ground truth does "
            f"not have.{nearest(str(label[first]), position)}"
        ) from error
    ignored: dict[str, int] = {}
    for i in np.flatnonzero(index < 0):
        ignored[label[i]] = ignored.get(label[i], 0) + 1
    return index, ignored
