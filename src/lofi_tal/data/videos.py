"""Untrimmed videos: the files of a subset, joined with their truth, and split for training and selection.

N: segments of one video.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from lofi_tal.annotations import Annotations, Change
from lofi_tal.errors import DataError, counted
from lofi_tal.files import hash_object
from lofi_tal.runtime import derive_seed
from lofi_tal.segments import Segments
from lofi_tal.snippets import Window, Windows
from lofi_tal.video import Clock, VideoIndex, VideoManifest, VideoRecord

logger = logging.getLogger("lofi_tal")


@dataclass(frozen=True)
class VideoFile:
    """A decodable video file.

    Args:
        path: The file.
        stamp: Its identity: another stamp is another file, or one that is read differently.
        duration: Seconds from the first picture to the end of the last one.
        frames: F.
        start: Seconds on the player's clock at which the first picture appears.
        steps: Features in a file of features that keeps its own number of them.
    """

    path: Path
    stamp: str
    duration: float
    frames: int
    start: float = 0.0
    steps: int | None = None

    def snippets(self, windows: Windows) -> int:
        """Return N, its snippets if it is cut like this."""
        return self.steps or windows.snippets(self.duration)

    @property
    def clock(self) -> Clock:
        """What turns times of annotations and results into shares of the pictures, and back."""
        return Clock(self.start, self.duration)


@dataclass(frozen=True, eq=False)
class TruthVideo:
    """An untrimmed video, or a window of it, and its truth on the unit interval.

    Args:
        video_id: Id in the annotations.
        file: The file.
        segments: ``(N, 2)`` start and end as shares of the file's pictures, or of the window, in [0, 1].
        labels: ``(N,)`` class numbers.
        window: The part of the video that is meant; None for the whole.
    """

    video_id: str
    file: VideoFile
    segments: Tensor
    labels: Tensor
    window: Window | None = None

    @property
    def clock(self) -> Clock:
        """The clock of the file."""
        return self.file.clock

    @property
    def duration(self) -> float:
        """Seconds of the file's pictures."""
        return self.file.duration

    @property
    def name(self) -> str:
        """The id, and the first snippet of a window."""
        return self.video_id if self.window is None else f"{self.video_id}@{self.window.first}"

    def to_segments(self, names: Sequence[str]) -> Segments:
        """Return the truth in seconds on the player's clock, with the class names."""
        spans = self.clock.seconds(self.segments.double().numpy())
        labels = tuple(names[int(label)] for label in self.labels)
        return Segments(self.video_id, spans[:, 0], spans[:, 1], labels, np.ones(len(labels)), self.clock.end)


@dataclass(frozen=True, eq=False)
class Videos(Sequence[TruthVideo]):
    """The videos of a subset, in the order of the annotations.

    Args:
        videos: Those that can be read.
        labels: Class names in the order of their numbers.
        failed: Reason for each video that cannot be read, by id.
        dropped: Segments that lie outside their video, are not in seconds or have no length.
    """

    videos: list[TruthVideo]
    labels: tuple[str, ...]
    failed: dict[str, str]
    dropped: tuple[Change, ...] = ()

    def __len__(self) -> int:
        return len(self.videos)

    @overload
    def __getitem__(self, index: int) -> TruthVideo: ...
    @overload
    def __getitem__(self, index: slice) -> Videos: ...
    def __getitem__(self, index: int | slice) -> TruthVideo | Videos:
        """Return one video, or a part of them."""
        return replace(self, videos=self.videos[index]) if isinstance(index, slice) else self.videos[index]

    def __repr__(self) -> str:
        lost = f", {len(self.failed)} that cannot be read" if self.failed else ""
        lost += f", {len(self.dropped)} annotations that cannot be used" if self.dropped else ""
        return f"Videos({counted(len(self), 'video')}, {counted(len(self.labels), 'class')}{lost})"


def video_files(paths: Mapping[str, Path], manifest: VideoManifest) -> tuple[dict[str, VideoFile], dict[str, str]]:
    """Return the readable files by id, and for each other one the reason.

    Args:
        paths: Id to path.
        manifest: What is known of files already.
    """
    records = manifest.examine(paths.values())
    files: dict[str, VideoFile] = {}
    failed: dict[str, str] = {}
    for video_id, path in paths.items():
        if records[path].error:
            failed[video_id] = records[path].error
        else:
            files[video_id] = _file(path, records[path])
    return files, failed


def _file(path: Path, record: VideoRecord) -> VideoFile:
    for note in record.notes:
        logger.warning("%s: %s", path, note)
    return VideoFile(path, record.identity, record.duration, record.frames, record.start)


def find_files(
    annotations: Annotations, index: VideoIndex, manifest: VideoManifest
) -> tuple[dict[str, VideoFile], dict[str, str]]:
    """Return the readable video files of one subset by id, and the reason for each other video.

    Args:
        annotations: One subset.
        index: The video files.
        manifest: What is known of files already.
    """
    paths, missing = index.find_all(annotations.videos)
    files, failed = video_files(paths, manifest)
    return files, {video_id: str(error) for video_id, error in missing.items()} | failed


def truth_videos(
    annotations: Annotations, files: Mapping[str, VideoFile], failed: Mapping[str, str], labels: Sequence[str]
) -> list[TruthVideo]:
    """Join annotations with the files on disk.

    Args:
        annotations: One subset, cleaned.
        files: Files by id.
        failed: Why each other video has none, for the message.
        labels: Class names in the order of their numbers.

    Returns:
        The videos that have a file, in the order of the annotations.

    Raises:
        DataError: If no video has one.
    """
    if not files:
        reason = next(iter(failed.values()), "the subset is empty")
        raise DataError(f"None of the {len(failed)} videos can be read; the first: {reason}.")
    numbers = {label: number for number, label in enumerate(labels)}
    videos = []
    for video_id, file in files.items():
        video = annotations.videos[video_id]
        spans = file.clock.shares(np.stack([video.segments.start, video.segments.end], 1))
        segments = torch.from_numpy(np.clip(spans, 0, 1).astype(np.float32))
        known = torch.tensor([numbers.get(label, -1) for label in video.segments.label], dtype=torch.long)
        inside = segments[:, 1] > segments[:, 0]
        _tell_lost(video.segments[~inside.numpy()], file)
        keep = (known >= 0) & inside
        videos.append(TruthVideo(video_id, file, segments[keep], known[keep]))
    return videos


def _tell_lost(lost: Segments, file: VideoFile) -> None:
    """Say which segments lie outside the pictures of a file."""
    if len(lost):
        clock, first = file.clock, lost[0]
        logger.warning(
            "%s: left out, outside its pictures, which go from %.2f to %.2f s: %s; the first is %s [%g, %g] s",
            file.path,
            clock.start,
            clock.end,
            counted(len(lost), "segment"),
            first.label,
            first.start,
            first.end,
        )


def split_selection(
    videos: Sequence[TruthVideo], share: float, seed: int, seen: Collection[str] = ()
) -> tuple[list[TruthVideo], list[TruthVideo]]:
    """Split training videos into those that stages train on and those on which choices are made.

    Videos are drawn class by class (by their first label), so that small sets keep every class on the training side.

    Args:
        videos: Training videos.
        share: Of those on which choices are made.
        seed: Of the draw.
        seen: Ids of videos on which the first weights have been trained: they are drawn last.
    """
    if share <= 0:
        return list(videos), []
    groups: dict[int, list[TruthVideo]] = {}
    for video in videos:
        groups.setdefault(int(video.labels[0]) if len(video.labels) else -1, []).append(video)
    wanted = share * len(videos)
    ranked = []
    for label, group in groups.items():
        drawn = np.random.default_rng(derive_seed(seed, "selection", label)).permutation(len(group)).tolist()
        order = sorted(drawn, key=lambda i: group[i].video_id in seen)
        # the last video of a class always stays with the training side
        ranked += [
            (group[i].video_id in seen, (rank + 0.5) / len(group), label, i)
            for rank, i in enumerate(order[: len(group) - 1])
        ]
    chosen = {groups[label][i].video_id for *_, label, i in sorted(ranked)[: round(wanted)]}
    return [v for v in videos if v.video_id not in chosen], [v for v in videos if v.video_id in chosen]


def count_instances(videos: Sequence[TruthVideo], classes: int) -> list[int]:
    """Return the number of instances of each class."""
    labels = torch.cat([torch.zeros(0, dtype=torch.long), *(video.labels for video in videos)])
    counts: list[int] = torch.bincount(labels, minlength=classes).tolist()
    return counts


def content_hash(videos: Sequence[TruthVideo]) -> str:
    """Return a hash of the files and their truth: what a stage that trains on them depends on."""
    return hash_object(
        [
            [v.video_id, v.file.stamp, v.duration, v.segments.tolist(), v.labels.tolist(), *_shift(v.file)]
            for v in videos
        ]
    )


def _shift(file: VideoFile) -> list[float]:
    """Return where the pictures begin on the player's clock, unless that is where it begins itself."""
    return [file.start] if file.start else []


def video_contents(
    videos: Sequence[TruthVideo], names: Sequence[str], held_out: Sequence[TruthVideo] = ()
) -> dict[str, Any]:
    """Return what :func:`content_hash` stands for, so that a difference can be told in words.

    Times are in seconds on the player's clock, as in the annotations: where only the clock of a file changes, its
    segments stay, and where its labels change, its clock stays.

    Args:
        videos: What is hashed.
        names: Class names.
        held_out: Videos of the same subset that are left out: the draw changes with the videos.
    """
    return {
        "unit": "video",
        "held out": [video.video_id for video in held_out],
        "items": {
            video.video_id: {
                "file": video.file.stamp,
                "duration": round(video.duration, 3),
                **({"start": round(video.file.start, 3)} if video.file.start else {}),
                "segments": [
                    [*(round(video.clock.seconds(share), 3) for share in span), names[label]]
                    for span, label in zip(video.segments.tolist(), video.labels.tolist(), strict=True)
                ],
            }
            for video in videos
        },
    }
