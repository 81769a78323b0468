"""Extraction: features of every video at full fidelity, with the encoder frozen; one safetensors file a video.

Every snippet of a video is encoded once; windows that overlap share its features. Long videos go through in pieces.

Shapes: C channels, N snippets of a video (L if it is one window), T frames, S × S pixels.

Each file carries the provenance of its features (encoder weights, time grid, size, file stamp) and a hash of them. A
whole file of the same provenance is never made again; anything else, damaged files too, is replaced. So extraction
resumes at the video where it stopped.
"""

from __future__ import annotations

import hashlib
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from lofi_tal.encoders import Encoder
from lofi_tal.errors import DataError
from lofi_tal.fidelity import Fidelity
from lofi_tal.files import hash_object, inside, write_bytes
from lofi_tal.leases import Alone, Leases
from lofi_tal.runtime import PeakMemory, Progress, gather, on_first, rank_and_size
from lofi_tal.snippets import Windows
from lofi_tal.stages.data import Request, SnippetDataset, TruthVideo, as_clips, make_loader

FRAMES_AT_ONCE = 256
"""Frames that go through the encoder together; it bounds the memory."""
_KEY = "features"


class FeatureStore:
    """Features of videos in a folder, ``(N, C)`` float32 each.

    Args:
        folder: One file a video.
        provenance: What the features were made from, JSON-like.
    """

    def __init__(self, folder: Path, provenance: dict[str, Any]) -> None:
        self.folder = folder
        self.provenance = hash_object(provenance)

    def path(self, video_id: str) -> Path:
        """Return the file of a video."""
        return inside(self.folder, video_id, ".safetensors")

    def has(self, video: TruthVideo) -> bool:
        """Say whether whole features of this very file and provenance are there."""
        try:
            self.read(video)
        except DataError:
            return False
        return True

    def stamp(self, video: TruthVideo) -> tuple[int, int] | None:
        """Return what changes when the features of a video are written, without reading them; None without a file."""
        try:
            status = self.path(video.video_id).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def write(self, video: TruthVideo, features: NDArray[np.float32]) -> None:
        """Write the features ``(N, C)`` of one video in one atomic step."""
        features = np.ascontiguousarray(features)
        metadata = {"provenance": self._stamp(video, features)}  # one key: their order in the file is not fixed
        write_bytes(self.path(video.video_id), save({_KEY: features}, metadata=metadata))

    def read(self, video: TruthVideo) -> Tensor:
        """Return the features ``(C, N)``.

        Raises:
            DataError: If the file is missing or damaged, or holds the features of something else.
        """
        path = self.path(video.video_id)
        try:
            with safe_open(str(path), framework="numpy") as handle:
                features: NDArray[np.float32] = handle.get_tensor(_KEY)
                stamp = (handle.metadata() or {}).get("provenance")
        except (OSError, SafetensorError) as error:
            raise DataError(f"Features {path} cannot be read ({error}); run the extraction again.") from error
        if stamp != self._stamp(video, features):
            raise DataError(f"Features {path} are damaged or of other inputs; run the extraction again.")
        return torch.from_numpy(features).T.contiguous()

    def _stamp(self, video: TruthVideo, features: NDArray[np.float32]) -> str:
        content = hashlib.sha256(features.data).hexdigest()[:16]
        return hash_object([self.provenance, video.file.stamp, str(features.dtype), features.shape, content])


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
    # one process looks, for all: the others' files appear while it does
    todo = on_first(lambda: [index for index, video in enumerate(videos.videos) if not store.has(video)])
    todo.sort(key=lambda index: -videos.videos[index].file.duration)  # the longest first: no straggler at the end
    rank, ranks = rank_and_size()
    todo = todo[rank::ranks]
    made, shared = 0, leases or Alone()
    encoder = encoder.to(fabric.device).eval()
    title = f"extract {fidelity.snippets}×{fidelity.size}px"
    mine = len(videos) if ranks == 1 else len(todo)

    def name(index: int) -> str:
        return videos.videos[index].video_id

    before = {index: store.stamp(videos.videos[index]) for index in todo} if leases else {}

    def is_made(index: int) -> bool:
        """Say whether another process has written features since we looked; they are whole when they are there."""
        return leases is not None and store.stamp(videos.videos[index]) not in (None, before[index])

    with Progress(title, mine, done=mine - len(todo), quiet=quiet or rank > 0) as progress:
        for chosen in shared.rounds(
            todo,
            key=name,
            done=is_made,
            waiting=lambda left: progress.advance(f"{left} at work elsewhere", 0),
        ):
            for video, features in encode_videos(
                videos,
                lambda frames: encode_snippets(encoder, frames, fabric),
                chosen=chosen,
                windows=windows,
                fidelity=fidelity,
                workers=workers,
            ):
                if isinstance(features, str):
                    shared.fail(video.video_id, features)
                else:
                    store.write(video, features.numpy())
                    shared.release(video.video_id)
                    made += 1
                progress.advance(video.video_id)
    failed = {name(index): reason for index in todo if (reason := shared.failure(name(index)))}
    failed = {key: reason for lost in gather(failed) for key, reason in lost.items()}
    figures = {
        "videos": len(videos) - len(failed),
        "new": sum(gather(made)),
        "seconds": time.monotonic() - began,
        "peak_memory_bytes": peak.bytes(),
    }
    return figures, failed


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
    parts = [replace(video, window=piece) for video, cut in zip(videos.videos, pieces, strict=True) for piece in cut]
    requests = (
        Request(first[index] + place, replace(fidelity, snippets=piece.count), None)
        for index in chosen
        for place, piece in enumerate(pieces[index])
    )
    features: list[Tensor] = []
    error = ""
    for sample in make_loader(videos.of(parts).__getitem__, requests, workers):
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
