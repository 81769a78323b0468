"""What the stages feed on: videos and their windows with truth, clips, and loaders whose order is set by the step.

Shapes: B videos, L snippets, T frames, S × S pixels; frames are uint8 (..., S, S, 3), the decoder's own layout.
"""

from __future__ import annotations

import contextlib
import functools
import math
import multiprocessing
import os
import shutil
import signal
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Sampler

from lofi_tal.annotations import Annotations
from lofi_tal.errors import DataError, LofiError, RunError
from lofi_tal.features import PublishedFeatures
from lofi_tal.fidelity import Fidelity
from lofi_tal.files import hash_object
from lofi_tal.leases import Alone, Leases
from lofi_tal.runtime import TrainingRun, derive_seed, pinned
from lofi_tal.segments import Segments
from lofi_tal.snippets import SnippetGrid, Window, Windows, clip_times, pace_times
from lofi_tal.video import FrameCache, Picture, VideoError, VideoManifest, View, find_videos, stream_frames, watch

RESIZE = 8 / 7  # short side before the crop: 256 for 224 (public TSM preprocessing)
_CROP_SCALES = (1.0, 0.875, 0.75, 0.66)  # public TSM multi-scale crop
WHOLE = 0.9
"""A window is trained on if it shows more than this share of an action (public G-TAD and BSN code for THUMOS14)."""
VISIBLE = 0.5
"""Of the actions that a window cuts, it keeps those of which it shows at least this share (ActionFormer's code)."""


_AHEAD = 2
"""Batches that a loader process prepares ahead."""
_SHARED = Path("/dev/shm")  # noqa: S108 (where Linux has shared memory)

_Key = TypeVar("_Key")
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class VideoFile:
    """A decodable video file: path, identity, and its time axis (seconds, frames)."""

    path: Path
    stamp: str
    duration: float
    frames: int


@dataclass(frozen=True, eq=False)
class TruthVideo:
    """An untrimmed video, or a window of it, and its truth on the unit interval.

    Args:
        video_id: Id in the annotations.
        file: The file.
        duration: Seconds by the annotation's clock, which the segments refer to.
        segments: ``(N, 2)`` start and end as shares of the duration, or of the window, in [0, 1].
        labels: ``(N,)`` class numbers.
        window: The part of the video that is meant; None for the whole.
    """

    video_id: str
    file: VideoFile
    duration: float
    segments: Tensor
    labels: Tensor
    window: Window | None = None

    @property
    def name(self) -> str:
        """The id, and the first snippet of a window."""
        return self.video_id if self.window is None else f"{self.video_id}@{self.window.first}"

    def within(self, window: Window) -> TruthVideo:
        """Return a window of this video, with the actions of which at least :data:`VISIBLE` lies inside, cut to it."""
        if window.whole:
            return self
        segments = _shares(self.segments, window)
        keep = _visible(segments) >= VISIBLE
        return replace(self, segments=segments[keep].clamp(0, 1).float(), labels=self.labels[keep], window=window)

    def to_segments(self, names: Sequence[str]) -> Segments:
        """Return the truth in seconds, with the class names."""
        spans = self.segments.double().numpy() * self.duration
        labels = tuple(names[int(label)] for label in self.labels)
        return Segments(self.video_id, spans[:, 0], spans[:, 1], labels, np.ones(len(labels)), self.duration)


def video_files(
    paths: Mapping[str, Path | None], manifest: VideoManifest
) -> tuple[dict[str, VideoFile], dict[str, str]]:
    """Return the readable files by id, and for each other one the reason.

    Args:
        paths: Id to path; None stands for a missing file.
        manifest: What is known of files already.
    """
    records = manifest.examine(path for path in paths.values() if path is not None)
    files: dict[str, VideoFile] = {}
    failed: dict[str, str] = {}
    for video_id, path in paths.items():
        if path is None:
            failed[video_id] = "no file of this id"
        elif records[path].error:
            failed[video_id] = records[path].error
        else:
            files[video_id] = VideoFile(path, records[path].stamp, records[path].duration, records[path].frames)
    return files, failed


def find_files(
    annotations: Annotations, folder: Path, manifest: VideoManifest
) -> tuple[dict[str, VideoFile], dict[str, str]]:
    """Return the readable video files of one subset by id, and the reason for each other video.

    Args:
        annotations: One subset.
        folder: Folder of the videos.
        manifest: What is known of files already.
    """
    paths = find_videos(folder)
    return video_files({video_id: paths.get(video_id) for video_id in annotations.videos}, manifest)


def find_features(annotations: Annotations, features: PublishedFeatures) -> tuple[dict[str, VideoFile], dict[str, str]]:
    """Return the feature files of one subset in the place of its videos, and the reason for each other video."""
    files: dict[str, VideoFile] = {}
    failed: dict[str, str] = {}
    for video_id, video in annotations.videos.items():
        place = features.place(video_id)
        if isinstance(place, str):
            failed[video_id] = place
        elif video.duration is None:
            failed[video_id] = "has features, but no duration in the annotations to place them in time"
        else:
            files[video_id] = VideoFile(place[0], place[1], video.duration, 0)
    return files, failed


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
        duration = video.duration or file.duration
        spans = np.stack([video.segments.start, video.segments.end], 1) / duration
        segments = torch.from_numpy(np.clip(spans, 0, 1).astype(np.float32))
        known = torch.tensor([numbers.get(label, -1) for label in video.segments.label], dtype=torch.long)
        keep = (known >= 0) & (segments[:, 1] > segments[:, 0])
        videos.append(TruthVideo(video_id, file, duration, segments[keep], known[keep]))
    return videos


def split_selection(videos: Sequence[TruthVideo], share: float, seed: int) -> tuple[list[TruthVideo], list[TruthVideo]]:
    """Split training videos into those that stages train on and those on which choices are made.

    Videos are drawn class by class (by their first label), so that small sets keep every class on the training side.
    """
    if share <= 0:
        return list(videos), []
    groups: dict[int, list[TruthVideo]] = {}
    for video in videos:
        groups.setdefault(int(video.labels[0]) if len(video.labels) else -1, []).append(video)
    wanted = share * len(videos)
    ranked = []
    for label, group in groups.items():
        order = np.random.default_rng(derive_seed(seed, "selection", label)).permutation(len(group))
        # the last video of a class always stays with the training side
        ranked += [((place + 0.5) / len(group), label, int(i)) for place, i in enumerate(order[: len(group) - 1])]
    chosen = {groups[label][i].video_id for _, label, i in sorted(ranked)[: round(wanted)]}
    return [v for v in videos if v.video_id not in chosen], [v for v in videos if v.video_id in chosen]


def _shares(segments: Tensor, window: Window) -> Tensor:
    """Return segments ``(N, 2)`` of a video as shares of a window, which may lie outside [0, 1]."""
    return (segments.double() * window.of - window.first) / window.count


def _visible(segments: Tensor) -> Tensor:
    """Return the share ``(N,)`` of each segment ``(N, 2)`` that lies in [0, 1]."""
    start, end = segments.unbind(1)
    return (end.clamp(0, 1) - start.clamp(0, 1)) / (end - start)


def training_windows(videos: Sequence[TruthVideo], windows: Windows) -> list[TruthVideo]:
    """Return the windows of some videos that show more than :data:`WHOLE` of an action; whole videos as they are.

    Raises:
        DataError: If there is none.
    """
    if windows.seconds is None:
        return list(videos)
    found = [
        video.within(window)
        for video in videos
        for window in windows.cut(windows.snippets(video.file.duration))
        if _shown(video, window).any()
    ]
    if not found:
        raise DataError(
            f"No window of {windows.seconds:g} s shows more than {WHOLE:.0%} of an action of the {len(videos)} "
            "training videos: raise snippets.window to twice the length of your longest actions."
        )
    return found


def cut_actions(videos: Sequence[TruthVideo], windows: Windows) -> int:
    """Return the number of actions of which no window shows more than :data:`WHOLE`."""
    shown = [
        torch.stack([_shown(video, window) for window in windows.cut(windows.snippets(video.file.duration))]).any(0)
        for video in videos
    ]
    return sum(int((~video).sum()) for video in shown)


def _shown(video: TruthVideo, window: Window) -> Tensor:
    """Say of each action ``(N,)`` whether the window shows more than :data:`WHOLE` of it."""
    return _visible(_shares(video.segments, window)) > WHOLE


def content_hash(videos: Sequence[TruthVideo]) -> str:
    """Return a hash of the files and their truth: what a stage that trains on them depends on."""
    return hash_object([[v.video_id, v.file.stamp, v.duration, v.segments.tolist(), v.labels.tolist()] for v in videos])


@dataclass(frozen=True)
class Request:
    """One item of a batch; ``seed`` is that of its augmentation, None for the centre view."""

    index: int
    fidelity: Fidelity
    seed: int | None


@dataclass(frozen=True, eq=False)
class Sample:
    """What a loader worker makes of a request; ``error`` says why there are no frames."""

    index: int
    frames: Tensor | None
    error: str = ""


def stream_snippets(
    file: VideoFile, grid: SnippetGrid, size: int, *, at_once: int, decoder: str = "pyav"
) -> Iterator[Tensor]:
    """Yield the snippets of a whole video in pieces ``(at_once, T, size, size, 3)`` uint8, the last one shorter.

    The file is decoded once, in order; held are the frames of a piece, whatever the length of the video. Centre crops.

    Args:
        file: The video.
        grid: Snippets of T frames.
        size: Side of the crop in pixels.
        at_once: Snippets of a piece.
        decoder: One of :data:`~lofi_tal.video.decode.DECODERS`.

    Raises:
        VideoError: If the file cannot be decoded.
    """
    times = grid.times(file.duration, file.frames)
    distinct, inverse = np.unique(times, return_inverse=True)
    places = inverse.reshape(times.shape)
    frames = stream_frames(file.path, distinct, short_side=round(size * RESIZE), decoder=decoder)
    held: dict[int, NDArray[np.uint8]] = {}
    square: Square | None = None
    for first in range(0, len(places), at_once):
        piece = places[first : first + at_once]
        held = {place: frame for place, frame in held.items() if place >= piece.min()}
        while int(piece.max()) not in held:
            place, picture = next(frames)
            square = square or Square.draw(picture.shape, size, None, flip=False)
            held[place] = np.empty((size, size, 3), dtype=np.uint8)
            square.take(picture, held[place])
        chosen = np.stack([held[place] for place in piece.flatten().tolist()])
        yield torch.from_numpy(chosen).view(*piece.shape, size, size, 3)


class FrameDataset(Dataset[Sample], ABC):
    """Items whose frames, as many for each, are read into memory that is there already."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """Return the name of an item's file for the user: what is lost is listed by it."""

    @abstractmethod
    def shape(self, fidelity: Fidelity) -> tuple[int, ...]:
        """Return the shape of an item's frames, ``(..., S, S, 3)``."""

    @abstractmethod
    def read(self, request: Request, into: Tensor) -> str:
        """Write an item's frames into uint8 memory of that shape; return why there are none, or nothing."""

    def __getitem__(self, request: Request) -> Sample:
        frames = torch.empty(self.shape(request.fidelity), dtype=torch.uint8)
        error = self.read(request, frames)
        return Sample(request.index, None if error else frames, error)

    def batch(self, requests: Sequence[Request], memory: Tensor | None = None) -> Batch:
        """Return several items of one fidelity, those that can be read.

        Where not one item of a training batch can be read, the next item of the data that can be read stands in, so
        that a lost video never ends a run; the centre views of an evaluation have no stand-in.

        Args:
            requests: The items.
            memory: ``(N,)`` uint8, at least as large as their frames, which are written there; None allocates it.

        Raises:
            RunError: If no item of the data at all can be read.
        """
        shape = (len(requests), *self.shape(requests[0].fidelity))
        frames = torch.empty(shape, dtype=torch.uint8) if memory is None else memory[: math.prod(shape)].view(shape)
        indices: list[int] = []
        failed: dict[int, str] = {}

        def take(request: Request) -> None:
            error = self.read(request, frames[len(indices)])
            if error:
                failed[request.index] = error
            else:
                indices.append(request.index)

        for request in requests:
            take(request)
        stand_ins = self._stand_ins(requests[-1])
        while not indices and (stand_in := next(stand_ins, None)) is not None:
            take(stand_in)
        if not indices and requests[-1].seed is not None:
            raise RunError(f"Not one of {len(failed)} videos can be read; the first: {next(iter(failed.values()))}")
        return Batch(indices, frames[: len(indices)], failed)

    def reasons(self, batch: Batch) -> dict[str, str]:
        """Return why items of a batch could not be read, by name."""
        return {self.name(index): reason for index, reason in batch.failed.items()}

    def _stand_ins(self, last: Request) -> Iterator[Request]:
        """Yield the same view of every other item, those after ``last`` first; nothing for a centre view."""
        if last.seed is not None:
            for step in range(1, len(self)):
                yield replace(last, index=(last.index + step) % len(self))


class SnippetDataset(FrameDataset):
    """Snippets of videos or windows, ``(L, T, S, S, 3)`` uint8; one crop and one flip for all of an item.

    Args:
        videos: The videos or windows.
        frames: T.
        stride: Frames of the video from one frame of a snippet to the next.
        cache: Decoded-frame cache.
        flip: Mirror at random.
        fidelities: Others that will be asked for: a video that has to be decoded is kept at all of them.
    """

    def __init__(
        self,
        videos: Sequence[TruthVideo],
        *,
        frames: int,
        stride: float,
        cache: FrameCache,
        flip: bool = False,
        fidelities: Sequence[Fidelity] = (),
    ) -> None:
        self.videos, self.frames, self.stride, self.cache, self.flip = videos, frames, stride, cache, flip
        self.fidelities = fidelities

    def __len__(self) -> int:
        return len(self.videos)

    def of(self, videos: Sequence[TruthVideo]) -> SnippetDataset:
        """Return a data set of other videos or windows that are read in the same way."""
        return SnippetDataset(videos, frames=self.frames, stride=self.stride, cache=self.cache, flip=self.flip)

    def view(self, video: TruthVideo, fidelity: Fidelity) -> View:
        """Return what of a video's frames a fidelity takes."""
        grid = SnippetGrid(fidelity.snippets, self.frames, self.stride)
        times = grid.times(video.file.duration, video.file.frames, video.window)
        return View(times.reshape(-1), short_side=round(fidelity.size * RESIZE))

    def name(self, index: int) -> str:
        """Return the id of the video."""
        return self.videos[index].video_id

    def shape(self, fidelity: Fidelity) -> tuple[int, ...]:
        """Return ``(L, T, S, S, 3)``."""
        return fidelity.snippets, self.frames, fidelity.size, fidelity.size, 3

    def read(self, request: Request, into: Tensor) -> str:
        """Write one crop of the snippets of a video or window."""
        video, pixels = self.videos[request.index], into.flatten(0, 1).numpy()
        path, view = video.file.path, self.view(video, request.fidelity)
        try:
            if self.cache.folder is None:  # whole frames would only be held to be cropped
                times, places = np.unique(view.times, return_inverse=True)
                frames = stream_frames(path, times, short_side=view.short_side, decoder=self.cache.decoder)
                square: Square | None = None
                for place, picture in frames:
                    square = square or Square.draw(picture.shape, request.fidelity.size, request.seed, self.flip)
                    first, *others = np.flatnonzero(places == place).tolist()
                    square.take(picture, pixels[first])
                    pixels[others] = pixels[first]
            else:
                also = (self.view(video, fidelity) for fidelity in self.fidelities if fidelity != request.fidelity)
                decoded, places = self.cache.distinct(path, view, also=also)
                crop(decoded.frames, pixels, request.seed, self.flip, places)
        except VideoError as error:
            return str(error)
        return ""


def fill(
    videos: SnippetDataset, fidelities: Sequence[Fidelity], workers: int, leases: Leases | None = None
) -> Iterator[tuple[int, bool, str]]:
    """Fill the frame cache; yield ``(index, kept, reason)``: whether all is kept now, and why a video is not decoded.

    Args:
        videos: The videos or windows, and how they are read.
        fidelities: What is kept of each of them, in one pass over its file.
        workers: Loader processes.
        leases: To share the videos with processes that are not joined to this one.
    """
    shared = leases or Alone()
    what = " ".join(map(str, fidelities))
    keys = {index: f"{video.name} {what}" for index, video in enumerate(videos.videos)}

    def is_kept(index: int) -> bool:
        video = videos.videos[index]
        views = (videos.view(video, fidelity) for fidelity in fidelities)
        return leases is not None and videos.cache.holds(video.file.path, views)

    for chosen in shared.rounds(keys, key=keys.__getitem__, done=is_kept):
        for index, kept, reason in make_loader(functools.partial(_fill, videos, fidelities), chosen, workers):
            if reason:
                shared.fail(keys[index], reason)
            else:
                shared.release(keys[index])
            yield index, kept, reason
    for index, key in keys.items():
        if reason := shared.failure(key):
            yield index, False, reason


def _fill(videos: SnippetDataset, fidelities: Sequence[Fidelity], index: int) -> tuple[int, bool, str]:
    video = videos.videos[index]
    try:
        return index, videos.cache.fill(video.file.path, [videos.view(video, fidelity) for fidelity in fidelities]), ""
    except VideoError as error:
        return index, False, str(error)


@dataclass(frozen=True)
class Excerpt:
    """A stretch of a video file that shows one class; a trimmed clip is the whole of its file.

    Args:
        file: The file.
        label: Class name.
        start: Seconds from the first frame.
        duration: Seconds.
        frames: Number of frames in it.
    """

    file: VideoFile
    label: str
    start: float
    duration: float
    frames: int

    @classmethod
    def whole(cls, file: VideoFile, label: str) -> Excerpt:
        """Return the whole of a file."""
        return cls(file, label, 0.0, file.duration, file.frames)

    @classmethod
    def between(cls, video: TruthVideo, label: str, start: float, end: float) -> Excerpt:
        """Return the part of an untrimmed video from ``start`` to ``end``, shares of its duration."""
        file = video.file
        frames = max(1, round((end - start) * file.frames))
        return cls(file, label, start * file.duration, max(end - start, 1 / file.frames) * file.duration, frames)


def excerpts(videos: Sequence[TruthVideo], labels: Sequence[str]) -> list[Excerpt]:
    """Return the segments of untrimmed videos as clips of their classes (ACP+)."""
    return [
        Excerpt.between(video, labels[int(label)], start, end)
        for video in videos
        for (start, end), label in zip(video.segments.tolist(), video.labels, strict=True)
    ]


def background(videos: Sequence[TruthVideo], label: str, *, least: int) -> list[Excerpt]:
    """Return what lies between the segments, as clips of one more class (as in TSP).

    Args:
        videos: The videos.
        label: Name of that class.
        least: Frames that a gap must have to be taken.
    """
    found = []
    for video in videos:
        edge = 0.0
        for start, end in [*sorted(video.segments.tolist()), [1.0, 1.0]]:
            if (start - edge) * video.file.frames >= least:
                found.append(Excerpt.between(video, label, edge, start))
            edge = max(edge, end)
    return found


class ClipDataset(FrameDataset):
    """Clips of one class each, ``(T, S, S, 3)`` uint8, or ``(2, T, S, S, 3)`` at two paces.

    Args:
        clips: Where they lie.
        frames: T.
        stride: Frames between two of them (dense sampling).
        sampling: ``dense``, ``uniform``, or ``pace`` for the two paces of SpeedNet.
        cache: Decoded-frame cache.
        whole: Keep whole files in the cache, which random sampling can use again.
        multi_scale: Crop at random scales as well.
        flip: Mirror at random.
    """

    def __init__(
        self,
        clips: Sequence[Excerpt],
        *,
        frames: int,
        stride: float,
        sampling: str,
        cache: FrameCache,
        whole: bool,
        multi_scale: bool,
        flip: bool,
    ) -> None:
        self.clips, self.frames, self.stride, self.sampling = clips, frames, stride, sampling
        self.cache, self.whole, self.multi_scale, self.flip = cache, whole, multi_scale, flip

    def __len__(self) -> int:
        return len(self.clips)

    def name(self, index: int) -> str:
        """Return the path of the clip."""
        return str(self.clips[index].file.path)

    def shape(self, fidelity: Fidelity) -> tuple[int, ...]:
        """Return ``(T, S, S, 3)``, or ``(2, T, S, S, 3)`` at two paces."""
        shape = (self.frames, fidelity.size, fidelity.size, 3)
        return (2, *shape) if self.sampling == "pace" else shape

    def read(self, request: Request, into: Tensor) -> str:
        """Write one view of a clip."""
        clip = self.clips[request.index]
        file, size, short_side = clip.file, request.fidelity.size, round(request.fidelity.size * RESIZE)
        try:
            times = clip.start + self._times(clip, request.seed)
            if self.whole:
                interval = file.duration / file.frames
                every = (np.arange(file.frames) + 0.5) * interval
                everything = self.cache.frames(file.path, every, short_side=short_side).frames
                frames = everything[np.clip((times.reshape(-1) / interval).astype(int), 0, file.frames - 1)]
            else:
                frames = self.cache.frames(file.path, times.reshape(-1), short_side=short_side).frames
        except (VideoError, LofiError) as error:
            return str(error)
        into = into.view(-1, size, size, 3)
        if self.multi_scale and request.seed is not None:
            into.copy_(multi_scale_crop(frames, size, request.seed, self.flip))
        else:
            crop(frames, into.numpy(), request.seed, self.flip)
        return ""

    def _times(self, clip: Excerpt, seed: int | None) -> NDArray[np.float64]:
        """Return the seconds from the start of the clip, ``(T,)`` or ``(2, T)``."""
        random = None if seed is None else np.random.default_rng([seed, 1])
        if self.sampling == "pace":
            return pace_times(clip.duration, clip.frames, frames=self.frames, stride=self.stride, random=random)
        start = 0.5 if random is None else random.random()
        return clip_times(
            clip.duration, clip.frames, frames=self.frames, stride=self.stride, start=start, sampling=self.sampling
        )


@dataclass(frozen=True)
class Square:
    """Which square of its pictures an item shows, and whether mirrored; pixels."""

    top: int
    left: int
    size: int
    mirrored: bool

    @classmethod
    def draw(cls, shape: tuple[int, int], size: int, seed: int | None, flip: bool) -> Square:
        """Return the centre of pictures of a height and width, or with a seed a random place and flip."""
        height, width = shape
        if seed is None:
            return cls((height - size) // 2, (width - size) // 2, size, False)
        random = np.random.default_rng(seed)
        top, left = int(random.integers(height - size + 1)), int(random.integers(width - size + 1))
        return cls(top, left, size, flip and bool(random.integers(2)))

    def take(self, picture: Picture, into: NDArray[np.uint8]) -> None:
        """Write the square of a picture into ``(size, size, 3)``."""
        picture.write(into, self.top, self.left, mirrored=self.mirrored)


def crop(
    frames: NDArray[np.uint8],
    into: NDArray[np.uint8],
    seed: int | None,
    flip: bool,
    places: NDArray[np.intp] | None = None,
) -> None:
    """Write a square of ``(N, H, W, 3)`` into ``(N, S, S, 3)``: the centre, or with a seed a random place and flip.

    With ``places`` ``(M,)`` the result is ``(M, S, S, 3)``, these frames in this order.
    """
    height, width = frames.shape[1:3]
    square = Square.draw((height, width), into.shape[1], seed, flip)
    view = frames.view(np.ndarray)[:, square.top : square.top + square.size, square.left : square.left + square.size]
    for frame, place in zip(into, range(len(view)) if places is None else places.tolist(), strict=True):
        frame[...] = view[place]
        if square.mirrored:
            # frame by frame in the processor's cache, by torch: a fifth of the time of NumPy's view[:, ::-1]
            pixels = torch.from_numpy(frame)
            pixels.copy_(pixels.flip(1))


def multi_scale_crop(frames: NDArray[np.uint8], size: int, seed: int, flip: bool) -> Tensor:
    """Cut a random region with sides of 1 to 0.66 of the short side and scale it to ``(N, size, size, 3)``.

    Source: public TSM code (`ops/transforms.py`, GroupMultiScaleCrop): the two sides differ by one scale at most.
    """
    random = np.random.default_rng(seed)
    first = int(random.integers(len(_CROP_SCALES)))
    second = int(np.clip(first + random.integers(-1, 2), 0, len(_CROP_SCALES) - 1))
    short = min(frames.shape[1:3])
    height, width = (round(short * _CROP_SCALES[i]) for i in (first, second))
    top = int(random.integers(frames.shape[1] - height + 1))
    left = int(random.integers(frames.shape[2] - width + 1))
    region = np.ascontiguousarray(frames[:, top : top + height, left : left + width])
    image = torch.from_numpy(region).permute(0, 3, 1, 2)
    image = functional.interpolate(image, (size, size), mode="bilinear", antialias=True)
    if flip and random.integers(2):
        image = image.flip(3)
    return image.permute(0, 2, 3, 1).contiguous()


@dataclass(frozen=True, eq=False)
class Batch:
    """Items of one step: ``frames`` (B, ..., S, S, 3) uint8, their ``indices``, and why others are not among them."""

    indices: list[int]
    frames: Tensor
    failed: dict[int, str]


def as_clips(frames: Tensor) -> Tensor:
    """Return ``(N, T, 3, S, S)`` for frames ``(N, T, S, S, 3)``, without a copy (the memory is channels_last)."""
    return frames.permute(0, 1, 4, 2, 3)


def epoch_batches(count: int, batch: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the index lists of one epoch's batches, which differ by one item at most.

    They are as many as batches of the full size would be: a last batch of one or two items would train on poor
    statistics, and could not be spread over several processes.
    """
    order = np.random.default_rng(derive_seed(seed, "order", epoch)).permutation(count)
    return [part.tolist() for part in np.array_split(order, steps_per_epoch(count, batch))]


def steps_per_epoch(count: int, batch: int) -> int:
    """Return the number of batches of an epoch."""
    return -(-count // batch)


def make_training_loader(
    run: TrainingRun,
    dataset: SnippetDataset | ClipDataset,
    *,
    batch: int,
    fidelity_at: Callable[[int, int], Fidelity],
    fidelities: Sequence[Fidelity],
    workers: int,
) -> Iterator[Batch]:
    """Return the batches of a training stage, from the step at which ``run`` begins, for this rank.

    As :func:`make_batches`; ``fidelities`` are all that ``fidelity_at`` gives.
    """
    requests = StepRequests(
        count=len(dataset),
        batch=batch,
        epochs=run.epochs,
        seed=run.seed,
        fidelity_at=fidelity_at,
        start=run.start,
        rank=run.fabric.global_rank,
        ranks=run.fabric.world_size,
    )
    return make_batches(dataset, requests, workers, count=-(-batch // run.fabric.world_size), fidelities=fidelities)


class StepRequests(Sampler[list[Request]]):
    """The requests of every step from ``start`` on, for this rank.

    Args:
        count: Items.
        batch: Items a step, over all ranks.
        epochs: Passes.
        seed: Of order and augmentation.
        fidelity_at: ``(epoch, step) -> Fidelity``.
        start: First step (of a resumed run).
        rank: This process.
        ranks: Number of processes.
    """

    def __init__(
        self,
        *,
        count: int,
        batch: int,
        epochs: int,
        seed: int,
        fidelity_at: Callable[[int, int], Fidelity],
        start: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.count, self.batch, self.epochs, self.seed = count, batch, epochs, seed
        self.fidelity_at, self.start, self.rank, self.ranks = fidelity_at, start, rank, ranks
        self.steps = steps_per_epoch(count, batch)

    def __len__(self) -> int:
        return self.epochs * self.steps - self.start

    def __iter__(self) -> Iterator[list[Request]]:
        for epoch in range(self.start // self.steps, self.epochs):
            for place, indices in enumerate(epoch_batches(self.count, self.batch, self.seed, epoch)):
                step = epoch * self.steps + place
                if step < self.start:
                    continue
                fidelity = self.fidelity_at(epoch, step)
                if len(indices) < self.ranks:
                    raise LofiError(
                        f"A batch of {len(indices)} items cannot be spread over {self.ranks} processes: use fewer "
                        "processes or a larger batch."
                    )
                yield [
                    Request(index, fidelity, derive_seed(self.seed, "view", epoch, index))
                    for index in indices[self.rank :: self.ranks]
                ]


def centre_requests(count: int, batch: int, fidelity: Fidelity) -> list[list[Request]]:
    """Return all items once, in order, centre view."""
    return [
        [Request(index, fidelity, None) for index in range(i, min(i + batch, count))] for i in range(0, count, batch)
    ]


def make_batches(
    dataset: FrameDataset,
    requests: Iterable[Sequence[Request]],
    workers: int,
    *,
    count: int,
    fidelities: Sequence[Fidelity],
) -> Iterator[Batch]:
    """Return the batch of each list of requests, in order.

    Loader processes write the frames into shared memory that is used in turns, for fresh memory costs more than what
    is written there: the frames of a batch hold until the next but one is asked for. On CUDA that memory is pinned, so
    that a copy to the device need not be waited for; a step of training is over before its frames are overwritten.

    Args:
        dataset: The items.
        requests: Those of each batch.
        workers: Loader processes.
        count: Items of the largest batch.
        fidelities: All that are asked for.

    Raises:
        RunError: If there is not that much shared memory.
    """
    if not workers:
        yield from make_loader(dataset.batch, requests, 0)
        return
    largest = count * max(math.prod(dataset.shape(fidelity)) for fidelity in fidelities)
    turns = workers * _AHEAD + 2  # those under way, the one in use and the next
    _check_shared_memory(turns * largest)
    storage = torch.UntypedStorage._new_shared(turns * largest)  # type: ignore[no-untyped-call]
    memory = torch.empty(0, dtype=torch.uint8).set_(storage).view(turns, largest)
    keys = ((number % turns, wanted) for number, wanted in enumerate(requests))
    items = make_loader(functools.partial(_write_batch, dataset, memory), keys, workers)
    with contextlib.ExitStack() as held:
        for number, (turn, shape, indices, failed) in enumerate(items):
            if number == 0:  # only now: the loader processes have been forked
                held.enter_context(pinned(memory))
            yield Batch(indices, memory[turn, : math.prod(shape)].view(shape), failed)


def _check_shared_memory(needed: int) -> None:
    """Refuse to begin what would end in a bus error, as in a container with the usual 64 MB."""
    if _SHARED.exists() and needed > (free := shutil.disk_usage(_SHARED).free):
        raise RunError(
            f"The loader processes need {needed / 2**30:.2f} GiB of shared memory for their batches, and {_SHARED} has "
            f"{free / 2**30:.2f} GiB left: lower data.workers (0 needs none), or give the container more (--shm-size)."
        )


def _write_batch(
    dataset: FrameDataset, memory: Tensor, key: tuple[int, Sequence[Request]]
) -> tuple[int, tuple[int, ...], list[int], dict[int, str]]:
    """Write a batch where its turn is; the frames themselves are not sent to the main process, which has them."""
    turn, requests = key
    batch = dataset.batch(requests, memory[turn])
    return turn, tuple(batch.frames.shape), batch.indices, batch.failed


def make_loader(read: Callable[[_Key], _Item], keys: Iterable[_Key], workers: int) -> Iterator[_Item]:
    """Return what ``read`` gives for each of ``keys``, in order; it is called in ``workers`` processes.

    A process in which a video file hangs ends; others go on in its place, to which that file is one that hangs.
    """
    told, tell = multiprocessing.Pipe(duplex=False)
    hanging: list[Path] = []
    waiting: deque[_Key] = deque()  # keys of which nothing has come yet
    left = iter(keys)
    while True:
        loader = DataLoader(
            _Caught(read),
            sampler=_noted(chain(tuple(waiting), left), waiting),
            batch_size=None,
            collate_fn=_unchanged,
            num_workers=workers,
            worker_init_fn=functools.partial(_begin_process, tell, tuple(hanging)),
            prefetch_factor=_AHEAD if workers else None,
        )
        waiting.clear()
        try:
            for item in loader:
                if isinstance(item, LofiError):
                    raise item
                waiting.popleft()
                yield item
            return
        except RuntimeError:  # a process has ended
            if not told.poll():
                raise
            while told.poll():
                hanging.append(Path(os.fsdecode(told.recv_bytes())))


def _noted(keys: Iterable[_Key], waiting: deque[_Key]) -> Iterator[_Key]:
    for key in keys:
        waiting.append(key)
        yield key


def _begin_process(tell: Connection, hanging: Collection[Path], worker: int) -> None:
    """Watch the files that this process reads, and let a signal to the whole group of processes end none with an error.

    On SIGTERM and SIGHUP loader processes leave at once, in silence: the main process has what its step needs, ends
    it, and writes a checkpoint. They must not ignore SIGTERM, which is how torch ends them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: os._exit(0))
    watch.watch_this_process(lambda path: tell.send_bytes(os.fsencode(path)), hanging)


class _Caught(Dataset[Any]):
    """Items whose errors are items too: raised in a loader process, they would come with its traceback as text."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self.read = read

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.read(key)
        except LofiError as error:
            return error


def _unchanged(item: Any) -> Any:
    return item
