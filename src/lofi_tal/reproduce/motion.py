"""The floor under every encoder: features of frame differences, without any network, on the grid of the snippets.

Shapes: L snippets, T frames, S × S pixels, D features.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lofi_tal.errors import RunError
from lofi_tal.files import atomic_path, hash_object, inside
from lofi_tal.pipeline import Pipeline
from lofi_tal.runtime import Outcome, PeakMemory, Progress, open_stage
from lofi_tal.stages.data import Request, Sample, SnippetDataset, content_hash, make_loader
from lofi_tal.synthetic.controls import difference_features


def motion_features(pipeline: Pipeline, shared: Path, *, quiet: bool = False) -> Path:
    """Write ``(L, D)`` features of every video and return the stage folder with ``features/<id>.npy``.

    They see the same frames as the encoders do at full fidelity, and are standardised with mean and deviation of the
    training videos: how much moves, where, and how strongly (see `lofi_tal.synthetic.controls.difference_features`).

    Args:
        pipeline: Of any row of the same videos.
        shared: Folder in which the stage folder lies, named by what it was made from.
        quiet: No progress.
    """
    data, snippets = pipeline.data, pipeline.recipe.snippets
    videos = [*data.train, *data.selection, *data.evaluation]
    inputs = {"snippets": snippets.model_dump(mode="json"), "videos": content_hash(videos), "train": len(data.train)}
    stage = open_stage(shared / f"motion-{hash_object(inputs)}", "motion", inputs, resume=True)
    if stage.record:
        return stage.path
    began, peak = time.monotonic(), PeakMemory(pipeline.fabric.device)
    dataset = SnippetDataset(videos, frames=snippets.frames, stride=snippets.stride, cache=pipeline.cache)
    requests = [Request(index, pipeline.full, None) for index in range(len(videos))]
    rows: dict[int, NDArray[np.float64]] = {}
    with Progress("frame differences", len(videos), quiet=quiet) as progress:
        for sample in make_loader(dataset.__getitem__, requests, pipeline.recipe.data.workers):
            if sample.frames is not None:
                rows[sample.index] = _differences(sample)
            progress.advance(videos[sample.index].video_id)
    training = [rows[index] for index in range(len(data.train)) if index in rows]
    if not training:
        raise RunError("Not one of the training videos could be read, so there are no frame differences.")
    seen = np.concatenate(training)
    mean, deviation = seen.mean(axis=0), seen.std(axis=0) + 1e-9
    for index, row in rows.items():
        with (
            atomic_path(inside(stage.path / "features", videos[index].video_id, ".npy")) as path,
            path.open("wb") as handle,
        ):
            np.save(handle, ((row - mean) / deviation).astype(np.float32), allow_pickle=False)
    stage.finish(Outcome(time.monotonic() - began, peak.bytes(), {"videos": len(rows)}))
    return stage.path


def _differences(sample: Sample) -> NDArray[np.float64]:
    """Return ``(L, D)`` features of one video's snippets ``(L, T, S, S, 3)``."""
    assert sample.frames is not None
    gray = sample.frames.numpy().astype(np.float32).mean(axis=-1)
    return np.stack([difference_features(snippet) for snippet in gray])
