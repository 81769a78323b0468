"""Extraction: features of every video at full fidelity, with the encoder frozen; one safetensors file a video.

Every snippet of a video is encoded once; windows that overlap share its features. Long videos go through in pieces.

Shapes: C channels, N snippets of a video (L if it is one window), T frames, S × S pixels.

Each file carries the provenance of its features (encoder weights, time grid, size, file stamp) and a hash of them. A
whole file of the same provenance is never made again; anything else, damaged files too, is replaced. So extraction
resumes at the video where it stopped.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from lofi_tal.data import Request, SnippetDataset, TruthVideo, as_clips, make_loader
from lofi_tal.encoders import Encoder
from lofi_tal.errors import counted
from lofi_tal.features import FeatureStore
from lofi_tal.fidelity import Fidelity
from lofi_tal.leases import Alone, Leases
from lofi_tal.progress import Progress
from lofi_tal.runtime import PeakMemory, gather, on_first, rank_and_size
from lofi_tal.snippets import Windows

logger = logging.getLogger("lofi_tal")
FRAMES_AT_ONCE = 256
"""Frames that go through the encoder together; it bounds the memory."""


@torch.inference_mode()
def encode_snippets(encoder: Encoder, frames: Tensor, fabric: Fabric) -> Tensor:
    """Encode snippets in pieces of :data:`FRAMES_AT_ONCE` frames.

    Args:
        encoder: In eval mode on the device of ``fabric``.
        frames: ``(N, T, S, S, 3)`` uint8.
        fabric: Device and precision.

    Returns:
        ``(N, C)`` float32 on the CPU.
    """
    pieces = torch.split(frames, snippets_at_once(frames.shape[1]))
    with fabric.autocast():
        return torch.cat([encoder(as_clips(piece.to(fabric.device))).float().cpu() for piece in pieces])


def snippets_at_once(frames: int) -> int:
    """Return the snippets of T ``frames`` that go through the encoder together."""
    return max(1, FRAMES_AT_ONCE // frames)


def extract(
    store: FeatureStore,
    fabric: Fabric,
    encoder: Encoder,
    *,
    videos: SnippetDataset,
    windows: Windows,
    fidelity: Fidelity,
    workers: int,
    leases: Leases | None = None,
    quiet: bool = False,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the features of all videos that are not there yet.

    Args:
        store: Where they go.
        fabric: Device, precision and processes.
        encoder: Frozen.
        videos: Whole videos.
        windows: How many snippets a video has, and how many are read at once.
        fidelity: Full fidelity.
        workers: Loader processes.
        leases: To share the videos with processes that are not joined to this one; it ends when all videos are done.
        quiet: No progress.

    Returns:
        Figures of the stage, and the reason for each video that could not be read.
    """
    began = time.monotonic()
    peak = PeakMemory(fabric.device)
    names = [video.video_id for video in videos.videos]
    # one process looks, for all: the others' files appear while it does
    todo = on_first(lambda: [index for index, video in enumerate(videos.videos) if not store.has(video)])
    _tell_ruined(store, [names[index] for index in todo])
    todo.sort(key=lambda index: -videos.videos[index].file.duration)  # the longest first: no straggler at the end
    rank, ranks = rank_and_size()
    todo = todo[rank::ranks]
    encode = partial(encode_snippets, encoder.to(fabric.device).eval(), fabric=fabric)
    made, shared = 0, leases or Alone()
    is_made = _watch(store, videos, todo) if leases else lambda index: False
    mine = len(videos) if ranks == 1 else len(todo)
    title = f"extract {fidelity.snippets}×{fidelity.size}px"
    with Progress(title, mine, done=mine - len(todo), quiet=quiet or rank > 0) as progress:
        for chosen in shared.rounds(
            todo,
            key=names.__getitem__,
            done=is_made,
            waiting=lambda left: progress.advance(f"{left} at work elsewhere", 0),
        ):
            encoded = encode_videos(videos, encode, chosen=chosen, windows=windows, fidelity=fidelity, workers=workers)
            for video, features in encoded:
                if isinstance(features, str):
                    shared.fail(video.video_id, features)
                else:
                    store.write(video, features.numpy())
                    shared.release(video.video_id)
                    made += 1
                progress.advance(video.video_id)
    failed = {names[index]: reason for index in todo if (reason := shared.failure(names[index]))}
    failed = {key: reason for lost in gather(failed) for key, reason in lost.items()}
    figures = {
        "videos": len(videos) - len(failed),
        "new": sum(gather(made)),
        "seconds": time.monotonic() - began,
        "peak_memory_bytes": peak.bytes(),
    }
    return figures, failed


def _tell_ruined(store: FeatureStore, names: Sequence[str]) -> None:
    """Say which of the files that are to be made are there already, and cannot be used."""
    ruined = [path for name in names if (path := store.path(name)).exists()]
    if ruined and rank_and_size()[0] == 0:
        text = "Damaged or of other inputs, and made again: %s of features; the first: %s."
        logger.warning(text, counted(len(ruined), "file"), ruined[0])


def _watch(store: FeatureStore, videos: SnippetDataset, todo: Iterable[int]) -> Callable[[int], bool]:
    """Return what says whether another process has written features since now; they are whole when they are there."""
    before = {index: store.stamp(videos.videos[index]) for index in todo}
    return lambda index: store.stamp(videos.videos[index]) not in (None, before[index])


def encode_videos(
    videos: SnippetDataset,
    encode: Callable[[Tensor], Tensor],
    *,
    chosen: Iterable[int],
    windows: Windows,
    fidelity: Fidelity,
    workers: int,
) -> Iterator[tuple[TruthVideo, Tensor | str]]:
    """Yield videos with the features ``(N, C)`` of their snippets, or the reason why there are none.

    Args:
        videos: Whole videos.
        encode: Gives ``(n, C)`` on the CPU for uint8 frames ``(n, T, S, S, 3)``; a long video goes through in pieces.
        chosen: Indices of the videos that are wanted, in this order; asked for as the loader processes get to them.
        windows: How many snippets a video has, and how many are read at once.
        fidelity: Full fidelity.
        workers: Loader processes.
    """
    pieces = [windows.pieces(windows.snippets(video.file.duration)) for video in videos.videos]
    first = list(accumulate(map(len, pieces), initial=0))
    windowed = [replace(video, window=piece) for video, cut in zip(videos.videos, pieces, strict=True) for piece in cut]
    requests = (
        Request(first[index] + position, replace(fidelity, snippets=piece.count), None)
        for index in chosen
        for position, piece in enumerate(pieces[index])
    )
    features: list[Tensor] = []
    error = ""
    for sample in make_loader(videos.of(windowed).__getitem__, requests, workers):
        index = bisect_right(first, sample.index) - 1
        error = error or sample.error
        if sample.frames is not None and not error:
            features.append(encode(sample.frames))
        if sample.index + 1 == first[index + 1]:
            yield videos.videos[index], error or torch.cat(features)
            features, error = [], ""


def usable(videos: Sequence[TruthVideo], failed: dict[str, str]) -> list[TruthVideo]:
    """Return the videos that were extracted."""
    return [video for video in videos if video.video_id not in failed]
