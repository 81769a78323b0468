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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
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
    failed: dict[str, str] = {}
    encoder = encoder.to(fabric.device).eval()
    title = f"extract {fidelity.snippets}×{fidelity.size}px"
    mine = len(videos) if ranks == 1 else len(todo)
    with Progress(title, mine, done=mine - len(todo), quiet=quiet or rank > 0) as progress:
        for video, features in encode_videos(
            videos.of([videos.videos[index] for index in todo]),
            lambda frames: encode_snippets(encoder, frames, fabric),
            windows=windows,
            fidelity=fidelity,
            workers=workers,
        ):
            if isinstance(features, str):
                failed[video.video_id] = features
            else:
                store.write(video, features.numpy())
            progress.advance(video.video_id)
    made = len(todo) - len(failed)
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
    windows: Windows,
    fidelity: Fidelity,
    workers: int,
) -> Iterator[tuple[TruthVideo, Tensor | str]]:
    """Yield every video with the features ``(N, C)`` of its snippets, or the reason why it has none.

    Args:
        videos: Whole videos.
        encode: Gives ``(n, C)`` on the CPU for uint8 frames ``(n, T, S, S, 3)``; a long video goes through in pieces.
        windows: How many snippets a video has, and how many are read at once.
        fidelity: Full fidelity.
        workers: Loader processes.
    """
    pieces = [
        (video, piece) for video in videos.videos for piece in windows.pieces(windows.snippets(video.file.duration))
    ]
    requests = [Request(i, replace(fidelity, snippets=piece.count), None) for i, (_, piece) in enumerate(pieces)]
    read = videos.of([replace(video, window=piece) for video, piece in pieces])
    features: list[Tensor] = []
    error = ""
    for sample in make_loader(read.__getitem__, requests, workers):
        video, piece = pieces[sample.index]
        error = error or sample.error
        if sample.frames is not None and not error:
            features.append(encode(sample.frames))
        if piece.first + piece.count == piece.of:
            yield video, error or torch.cat(features)
            features, error = [], ""


def usable(videos: Sequence[TruthVideo], failed: dict[str, str]) -> list[TruthVideo]:
    """Return the videos that were extracted."""
    return [video for video in videos if video.video_id not in failed]
