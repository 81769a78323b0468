"""Extraction: features of every video at full fidelity, with the encoder frozen; one safetensors file a video.

Each file carries the provenance of its features (encoder weights, time grid, size, file stamp). A file of the same
provenance is never made again; anything else is replaced. So extraction resumes at the video where it stopped.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Iterable, Sequence
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
from lofi_tal.stages.data import Request, SnippetDataset, TruthVideo, as_clips, make_loader

_KEY = "features"


class FeatureStore:
    """Features of videos in a folder, ``(L, C)`` float32 each.

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
            with safe_open(str(self.path(video.video_id)), framework="numpy") as handle:
                return bool((handle.metadata() or {}).get("provenance") == self._stamp(video))
        except (OSError, SafetensorError):
            return False

    def write(self, video: TruthVideo, features: NDArray[np.float32]) -> None:
        """Write the features ``(L, C)`` of one video in one atomic step."""
        metadata = {"provenance": self._stamp(video)}  # one key: their order in the file is not fixed
        write_bytes(self.path(video.video_id), save({_KEY: np.ascontiguousarray(features)}, metadata=metadata))

    def read(self, video: TruthVideo) -> Tensor:
        """Return the features ``(C, L)``.

        Raises:
            DataError: If the file is missing or damaged.
        """
        path = self.path(video.video_id)
        try:
            with safe_open(str(path), framework="pt") as handle:
                features: Tensor = handle.get_tensor(_KEY)
        except (OSError, SafetensorError) as error:
            raise DataError(f"Features {path} cannot be read ({error}); run the extraction again.") from error
        return features.T.contiguous()

    def _stamp(self, video: TruthVideo) -> str:
        return hash_object([self.provenance, video.file.stamp])


@torch.inference_mode()
def encode_snippets(encoder: Encoder, frames: Tensor, fabric: Fabric, *, frames_at_once: int = 256) -> Tensor:
    """Encode one video's snippets in pieces.

    Args:
        encoder: In eval mode on the device of ``fabric``.
        frames: ``(L, T, S, S, 3)`` uint8.
        fabric: Device and precision.
        frames_at_once: Frames that go through the encoder together; it bounds the memory.

    Returns:
        ``(L, C)`` float32 on the CPU.
    """
    pieces = torch.split(frames, max(1, frames_at_once // frames.shape[1]))
    with fabric.autocast():
        return torch.cat([encoder(as_clips(piece.to(fabric.device))).float().cpu() for piece in pieces])


def extract(
    store: FeatureStore,
    fabric: Fabric,
    encoder: Encoder,
    *,
    videos: SnippetDataset,
    fidelity: Fidelity,
    workers: int,
    quiet: bool = False,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the features of all videos that are not there yet.

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
    loader = make_loader(videos, [[Request(index, fidelity, None)] for index in todo], workers, operator.itemgetter(0))
    title = f"extract {fidelity.snippets}×{fidelity.size}px"
    mine = len(videos) if ranks == 1 else len(todo)
    with Progress(title, mine, done=mine - len(todo), quiet=quiet or rank > 0) as progress:
        for sample in loader:
            video = videos.videos[sample.index]
            if sample.frames is None:
                failed[video.video_id] = sample.error
            else:
                store.write(video, encode_snippets(encoder, sample.frames, fabric).numpy())
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


def read_features(store: FeatureStore, videos: Iterable[TruthVideo]) -> Tensor:
    """Return the features of several videos, ``(B, C, L)``."""
    return torch.stack([store.read(video) for video in videos])


def usable(videos: Sequence[TruthVideo], failed: dict[str, str]) -> list[TruthVideo]:
    """Return the videos that were extracted."""
    return [video for video in videos if video.video_id not in failed]
