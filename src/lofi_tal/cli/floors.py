"""Floors for `lofi evaluate`: what needs no training, from the annotations, and from the videos if they are given."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import torch

from lofi_tal.annotations import Annotations, load_annotations
from lofi_tal.data import SnippetDataset, TruthVideo, find_files
from lofi_tal.errors import DataError
from lofi_tal.evaluation import Floors, MotionEnergy, floor_scores, load_ground_truth
from lofi_tal.fidelity import Fidelity
from lofi_tal.snippets import Windows
from lofi_tal.stages.motion import motion_of
from lofi_tal.video import FrameCache, VideoManifest, find_videos

_SNIPPETS, _FRAMES, _STRIDE, _SIZE, _WORKERS = 100, 8, 8, 64, 2  # the grid of a default recipe, in small pictures


def floors_of(
    annotations: Path,
    subset: str,
    tiou: Sequence[float] | None,
    *,
    exclude: Collection[str],
    only: Collection[str] | None,
    videos: Path | None,
) -> Floors:
    """Return what the floors reach, by name and way.

    Lengths and the frequencies of classes are those of all labelled videos outside the evaluated subset.

    Args:
        annotations: ActivityNet-style JSON.
        subset: The evaluated subset.
        tiou: Thresholds; ActivityNet's if not given.
        exclude: Ids to leave out.
        only: Ids to keep, if not all.
        videos: Folder of the videos, for motion energy.

    Raises:
        DataError: If no other subset has truth, or no evaluated video can be read.
    """
    truth = load_ground_truth(annotations, subset, exclude=exclude, only=only)
    everything = load_annotations(annotations)
    training = [video.segments for video in everything.clean()[0].with_truth() if video.subset != subset]
    if not training:
        raise DataError(
            f"Floors need labelled videos outside subset {subset!r}, for typical lengths and classes, and "
            f"{annotations} has none: leave out --floors and --videos."
        )
    chosen = Annotations({name: everything.videos[name] for name in truth.videos})
    return floor_scores(truth, training, tiou, None if videos is None else _motion(chosen, videos))


def _motion(annotations: Annotations, folder: Path) -> dict[str, MotionEnergy]:
    files, failed = find_files(annotations, find_videos(folder), VideoManifest(None))
    if not files:
        raise DataError(f"None of the evaluated videos can be read; the first: {next(iter(failed.values()))}")
    none = torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)
    videos = [TruthVideo(video_id, file, *none) for video_id, file in files.items()]
    return motion_of(
        None,
        SnippetDataset(videos, frames=_FRAMES, stride=_STRIDE, cache=FrameCache(None, 0)),
        windows=Windows(_SNIPPETS),
        fidelity=Fidelity("motion", _SNIPPETS, _SIZE),
        workers=_WORKERS,
    )
