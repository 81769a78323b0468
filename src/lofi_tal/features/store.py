"""Features of videos on disk, one safetensors file each, with what they were made from.

Shapes: C channels, N snippets of a video.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from lofi_tal.data import TruthVideo
from lofi_tal.errors import DataError
from lofi_tal.files import hash_object, inside, utf8_path, write_bytes

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
            with utf8_path(path) as name, safe_open(name, framework="numpy") as handle:
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
