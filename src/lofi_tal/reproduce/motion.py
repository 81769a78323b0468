"""The floor under every encoder: features of frame differences, without any network, on the grid of the snippets.

Shapes: L snippets (of a long video as many as it has, see `lofi_tal.snippets`), T frames, S × S pixels, D features.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lofi_tal.data import SnippetDataset, content_hash
from lofi_tal.errors import RunError
from lofi_tal.files import atomic_path, hash_object, inside
from lofi_tal.progress import Progress
from lofi_tal.run import Run
from lofi_tal.runtime import Outcome, PeakMemory, open_stage
from lofi_tal.stages.extract import encode_videos
from lofi_tal.synthetic.controls import difference_features


def motion_features(run: Run, shared: Path, *, quiet: bool = False) -> Path:
    """Write ``(L, D)`` features of every video and return the stage folder with ``features/<id>.npy``.

    They see the same frames as the encoders do at full fidelity, and are standardised with mean and deviation of the
    training videos: how much moves, where, and how strongly (see `lofi_tal.synthetic.controls.difference_features`).

    Args:
        run: Of any row of the same videos.
        shared: Folder in which the stage folder lies, named by what it was made from.
        quiet: No progress.
    """
    data, section = run.data(), run.recipe.snippets
    videos = [*data.train, *data.selection, *data.evaluation]
    inputs = {
        "snippets": section.record(cut=False),
        "videos": content_hash(videos),
        "train": len(data.train),
        **run.decoder,
    }
    stage = open_stage(shared / f"motion-{hash_object(inputs)}", "motion", inputs, resume=True)
    if stage.record:
        return stage.path
    began, peak = time.monotonic(), PeakMemory(run.fabric.device)
    dataset = SnippetDataset(videos, frames=section.frames, stride=section.stride, cache=run.cache)
    rows: dict[str, NDArray[np.float64]] = {}
    with Progress("frame differences", len(videos), quiet=quiet) as progress:
        for video, features in encode_videos(
            dataset,
            _differences,
            chosen=range(len(dataset)),
            windows=run.windows,
            fidelity=run.full,
            workers=run.recipe.data.workers,
        ):
            if not isinstance(features, str):
                rows[video.video_id] = features.numpy()
            progress.advance(video.video_id)
    training = [rows[video.video_id] for video in data.train if video.video_id in rows]
    if not training:
        raise RunError("Not one of the training videos could be read, so there are no frame differences.")
    seen = np.concatenate(training)
    mean, deviation = seen.mean(axis=0), seen.std(axis=0) + 1e-9
    for video_id, row in rows.items():
        with atomic_path(inside(stage.path / "features", video_id, ".npy")) as path, path.open("wb") as handle:
            np.save(handle, ((row - mean) / deviation).astype(np.float32), allow_pickle=False)
    written = [str(path.relative_to(stage.path)) for path in sorted((stage.path / "features").glob("*.npy"))]
    stage.finish(Outcome(time.monotonic() - began, peak.bytes(), {"videos": len(rows)}), written)
    return stage.path


def _differences(frames: Tensor) -> Tensor:
    """Return ``(L, D)`` features of snippets ``(L, T, S, S, 3)``."""
    gray = frames.numpy().astype(np.float32).mean(axis=-1)
    return torch.from_numpy(np.stack([difference_features(snippet) for snippet in gray]))
