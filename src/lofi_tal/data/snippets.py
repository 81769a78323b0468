"""Snippets of videos and windows, for training, extraction and prediction.

Shapes: L snippets, T frames, S × S pixels; frames are uint8 (..., S, S, 3).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lofi_tal.data.crops import Square, crop
from lofi_tal.data.items import FrameDataset, Request
from lofi_tal.data.loading import make_loader
from lofi_tal.data.videos import TruthVideo, VideoFile
from lofi_tal.fidelity import RESIZE, Fidelity
from lofi_tal.leases import Alone, Leases
from lofi_tal.snippets import SnippetGrid
from lofi_tal.video import FrameCache, VideoError, View, stream_frames


def read_squares(
    path: Path,
    times: NDArray[np.float64],
    size: int,
    *,
    seed: int | None = None,
    flip: bool = False,
    decoder: str,
    resize: float = RESIZE,
) -> Iterator[tuple[int, Callable[[NDArray[np.uint8]], None]]]:
    """Decode frames once, in order, and yield the index of each time with what writes its square.

    Args:
        path: The video.
        times: Seconds from the first frame, each of them once, in order.
        size: Side of the square in pixels.
        seed: Of place and mirroring, the same for all frames; None takes the centre.
        flip: Mirror at random.
        decoder: One of :data:`~lofi_tal.video.decode.DECODERS`.
        resize: Short side before the crop, as a multiple of ``size``.

    Raises:
        VideoError: If the file cannot be decoded.
    """
    square: Square | None = None
    for index, picture in stream_frames(path, times, short_side=round(size * resize), decoder=decoder):
        square = square or Square.draw(picture.shape, size, seed, flip)
        yield index, functools.partial(square.take, picture)


class SnippetDataset(FrameDataset[TruthVideo]):
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
        return View(times.reshape(-1), short_side=round(fidelity.size * fidelity.takes.resize))

    def name(self, index: int) -> str:
        """Return the id of the video."""
        return self.videos[index].video_id

    def target(self, index: int) -> TruthVideo:
        """Return the video or window, with its segments and labels."""
        return self.videos[index]

    def shape(self, fidelity: Fidelity) -> tuple[int, ...]:
        """Return ``(L, T, S, S, 3)``."""
        return fidelity.snippets, self.frames, fidelity.size, fidelity.size, 3

    def read(self, request: Request, into: Tensor) -> str:
        """Write one crop of the snippets of a video or window."""
        video, pixels = self.videos[request.index], into.flatten(0, 1).numpy()
        path, view = video.file.path, self.view(video, request.fidelity)
        try:
            if self.cache.folder is None:  # whole frames would only be held to be cropped
                times, indices = np.unique(view.times, return_inverse=True)
                squares = read_squares(
                    path,
                    times,
                    request.fidelity.size,
                    seed=request.seed,
                    flip=self.flip,
                    decoder=self.cache.decoder,
                    resize=request.fidelity.takes.resize,
                )
                for index, write in squares:
                    first, *others = np.flatnonzero(indices == index).tolist()
                    write(pixels[first])
                    pixels[others] = pixels[first]
            else:
                also = (self.view(video, fidelity) for fidelity in self.fidelities if fidelity != request.fidelity)
                decoded, indices = self.cache.distinct(path, view, also=also)
                crop(decoded.frames, pixels, request.seed, self.flip, indices)
        except VideoError as error:
            return str(error)
        return ""


def stream_snippets(
    file: VideoFile, grid: SnippetGrid, size: int, *, at_once: int, decoder: str = "pyav", resize: float = RESIZE
) -> Iterator[Tensor]:
    """Yield the snippets of a whole video in pieces ``(at_once, T, size, size, 3)`` uint8, the last one shorter.

    The file is decoded once, in order; held are the frames of a piece, whatever the length of the video. Centre crops.

    Args:
        file: The video.
        grid: Snippets of T frames.
        size: Side of the crop in pixels.
        at_once: Snippets of a piece.
        decoder: One of :data:`~lofi_tal.video.decode.DECODERS`.
        resize: Short side before the crop, as a multiple of ``size``.

    Raises:
        VideoError: If the file cannot be decoded.
    """
    times = grid.times(file.duration, file.frames)
    distinct, inverse = np.unique(times, return_inverse=True)
    indices = inverse.reshape(times.shape)
    frames = read_squares(file.path, distinct, size, decoder=decoder, resize=resize)
    held: dict[int, NDArray[np.uint8]] = {}
    for first in range(0, len(indices), at_once):
        piece = indices[first : first + at_once]
        held = {index: frame for index, frame in held.items() if index >= piece.min()}
        while int(piece.max()) not in held:
            index, write = next(frames)
            held[index] = np.empty((size, size, 3), dtype=np.uint8)
            write(held[index])
        chosen = np.stack([held[index] for index in piece.flatten().tolist()])
        yield torch.from_numpy(chosen).view(*piece.shape, size, size, 3)


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
