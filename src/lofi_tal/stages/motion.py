"""How much moves in videos, snippet by snippet: the floor under every detector (:mod:`lofi_tal.evaluation.floors`).

Nothing is trained. The frames are those of the extraction at full fidelity, so a frame cache has them already.

Shapes: N snippets of a video, T frames, S × S pixels.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from lofi_tal.data import SnippetDataset, TruthVideo
from lofi_tal.evaluation import MotionEnergy
from lofi_tal.fidelity import Fidelity
from lofi_tal.files import append_line, hash_object, json_line
from lofi_tal.progress import Progress
from lofi_tal.snippets import Windows
from lofi_tal.stages.extract import encode_videos, snippets_at_once

_SIDE = 32  # pixels of the small pictures that are compared
_SEEN = 64  # of the lines of a picture, about so many are looked at


def motion_energy(frames: Tensor) -> Tensor:
    """Return ``(N, 1)`` mean absolute differences of successive frames in a snippet, in grey levels from 0 to 255.

    Args:
        frames: ``(N, T, S, S, 3)`` uint8, T at least 2; they are compared in grey at 32 × 32 pixels.
    """
    step = max(1, frames.shape[2] // _SEEN)
    rows = []
    for piece in torch.split(frames[:, :, ::step, ::step], snippets_at_once(frames.shape[1])):
        small = adaptive_avg_pool2d(piece.float().mean(dim=-1), min(_SIDE, piece.shape[2]))
        rows.append((small[:, 1:] - small[:, :-1]).abs().mean(dim=(1, 2, 3)))
    return torch.cat(rows)[:, None]


def motion_of(
    path: Path | None,
    videos: SnippetDataset,
    *,
    windows: Windows,
    fidelity: Fidelity,
    workers: int,
    quiet: bool = False,
) -> dict[str, MotionEnergy]:
    """Return the motion energy of videos by id: from a file, and of others from their frames, which are added to it.

    One line of the file is one video, so that an interruption loses nothing; a changed file, or one that is read
    differently, is looked at again. Videos that cannot be read are left out, and so are all if a snippet is one frame.

    Args:
        path: JSON lines; made if it is not there. None keeps nothing.
        videos: Whole videos.
        windows: How many snippets a video has, and how many are read at once.
        fidelity: Full fidelity.
        workers: Loader processes.
        quiet: No progress.
    """
    if videos.frames < 2:
        return {}
    how = [videos.frames, videos.stride, fidelity.size, fidelity.takes.resize, videos.cache.decoder]
    known = {} if path is None else dict(_read(path))
    stamps = {
        video.video_id: hash_object([video.file.stamp, video.file.snippets(windows), how]) for video in videos.videos
    }
    todo = [index for index, video in enumerate(videos.videos) if stamps[video.video_id] not in known]
    with Progress("motion energy", len(todo), quiet=quiet or not todo) as progress:
        for video, energy in encode_videos(
            videos, motion_energy, chosen=todo, windows=windows, fidelity=fidelity, workers=workers
        ):
            if not isinstance(energy, str):
                values = [round(value, 3) for value in energy[:, 0].tolist()]
                known[stamps[video.video_id]] = values
                if path is not None:
                    append_line(path, json_line({"stamp": stamps[video.video_id], "energy": values}))
            progress.advance(video.video_id)
    stamped = ((video, known.get(stamps[video.video_id])) for video in videos.videos)
    return {video.video_id: _of(video, energy) for video, energy in stamped if energy is not None}


def _of(video: TruthVideo, energy: list[float]) -> MotionEnergy:
    start, end = video.clock.seconds(np.array([0.0, 1.0])).tolist()
    return MotionEnergy(start, end, np.array(energy, dtype=np.float64))


def _read(path: Path) -> Iterator[tuple[str, list[float]]]:
    """Yield stamp and energies of each whole line; others are as if they were not there."""
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError, LookupError, RecursionError):
                content: Any = json.loads(line)
                energy = [float(value) for value in content["energy"]]
                if energy and all(math.isfinite(value) and value >= 0 for value in energy):
                    yield str(content["stamp"]), energy
