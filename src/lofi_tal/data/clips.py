"""Clips of one class each: trimmed files, segments of untrimmed videos, and what lies between these.

Shapes: T frames, S × S pixels; frames are uint8 (..., S, S, 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lofi_tal.data.crops import crop, multi_scale_crop
from lofi_tal.data.items import FrameDataset, Request
from lofi_tal.data.videos import TruthVideo, VideoFile
from lofi_tal.errors import LofiError
from lofi_tal.fidelity import RESIZE, Fidelity
from lofi_tal.snippets import clip_times, pace_times
from lofi_tal.video import FrameCache, VideoError


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
    excerpts = []
    for video in videos:
        edge = 0.0
        for start, end in [*sorted(video.segments.tolist()), [1.0, 1.0]]:
            if (start - edge) * video.file.frames >= least:
                excerpts.append(Excerpt.between(video, label, edge, start))
            edge = max(edge, end)
    return excerpts


class ClipDataset(FrameDataset[int]):
    """Clips of one class each, ``(T, S, S, 3)`` uint8, or ``(2, T, S, S, 3)`` at two paces.

    Args:
        clips: Where they lie.
        labels: Class names in the order of their numbers.
        frames: T.
        stride: Frames between two of them (dense sampling).
        sampling: ``dense``, ``uniform``, or ``pace`` for the two paces of SpeedNet.
        cache: Decoded-frame cache.
        whole: Keep whole files in the cache, which random sampling can use again.
        multi_scale: Crop at random scales as well.
        flip: Mirror at random.
        resize: Short side before the crop, as a multiple of the crop's side (``encoder.takes.resize``).
    """

    def __init__(
        self,
        clips: Sequence[Excerpt],
        labels: Sequence[str],
        *,
        frames: int,
        stride: float,
        sampling: str,
        cache: FrameCache,
        whole: bool,
        multi_scale: bool,
        flip: bool,
        resize: float = RESIZE,
    ) -> None:
        self.clips, self.frames, self.stride, self.sampling = clips, frames, stride, sampling
        self.numbers = {label: number for number, label in enumerate(labels)}
        self.cache, self.whole, self.multi_scale, self.flip = cache, whole, multi_scale, flip
        self.resize = resize

    def __len__(self) -> int:
        return len(self.clips)

    def name(self, index: int) -> str:
        """Return the path of the clip."""
        return str(self.clips[index].file.path)

    def target(self, index: int) -> int:
        """Return the number of the clip's class, or -1 if it has none."""
        return self.numbers.get(self.clips[index].label, -1)

    def shape(self, fidelity: Fidelity) -> tuple[int, ...]:
        """Return ``(T, S, S, 3)``, or ``(2, T, S, S, 3)`` at two paces."""
        shape = (self.frames, fidelity.size, fidelity.size, 3)
        return (2, *shape) if self.sampling == "pace" else shape

    def read(self, request: Request, into: Tensor) -> str:
        """Write one view of a clip."""
        clip = self.clips[request.index]
        file, size, short_side = clip.file, request.fidelity.size, round(request.fidelity.size * self.resize)
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


def whole_files_fit(clips: Sequence[Excerpt], size: int, limit_bytes: float, resize: float = RESIZE) -> bool:
    """Say whether all frames of all files fit into the cache, at a 4:3 aspect."""
    pixels = (size * resize) ** 2 * 4 / 3
    return sum(file.frames for file in {clip.file for clip in clips}) * pixels * 3 <= limit_bytes


def clip_contents(clips: Sequence[Excerpt]) -> dict[str, Any]:
    """Return which files and stretches the clips are, so that a difference can be told in words; times in seconds."""
    items: dict[str, dict[str, Any]] = {}
    for clip in clips:
        name = "/".join(clip.file.path.parts[-2:])
        item = items.setdefault(name, {"file": clip.file.stamp, "segments": []})
        item["segments"].append([round(clip.start, 3), round(clip.start + clip.duration, 3), clip.label])
    return {"unit": "clip", "items": items}
