"""The data set on disk: encoded videos and clips, their annotations, and what makes a half-made folder whole again."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lofi_tal.errors import LofiError
from lofi_tal.files import hash_object, read_json, write_json, write_text
from lofi_tal.synthetic.plans import (
    FPS,
    ROLES,
    SIZE,
    SUBSETS,
    Plan,
    Preset,
    find_preset,
    plan_clip,
    plan_video,
    with_overlap,
)
from lofi_tal.video import write_video
from lofi_tal.video.readers import read_in_processes

VERSION = 1  # of the generator: raise it whenever any byte of its output changes
CRF = 20

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SyntheticDataset:
    """Where the files of a synthetic data set lie.

    Args:
        root: Folder of the data set.
        annotations: ActivityNet JSON; subsets ``training`` and ``validation``.
        videos: Folder of the videos, ``<id>.mp4``.
        clips_csv: Trimmed clips in Kinetics' columns; splits ``train`` and ``val``.
        clips: Folder of the clips, ``<label>/<id>.mp4``.
    """

    root: Path
    annotations: Path
    videos: Path
    clips_csv: Path
    clips: Path


def make_dataset(
    out: Path,
    *,
    preset: str = "small",
    seed: int = 0,
    clips: bool = True,
    overlap: bool = False,
    workers: int = 2,
    progress: Progress | None = None,
) -> SyntheticDataset:
    """Make the synthetic benchmark in a folder, or what is missing of it there.

    The same preset and seed give the same bytes, whatever ``workers`` is. Files already there are kept: each is written
    in one atomic step, so a file that exists is whole.

    Args:
        out: Folder; new, empty, or one that holds this very data set, whole or in part.
        preset: ``tiny`` (tests), ``small`` (demonstration), ``bench`` or ``bench_broad`` (experiments).
        seed: Of all chance, at least 0.
        clips: Make the trimmed clips too; a later call makes what an earlier one left out.
        overlap: In every video two objects act, each in a class of its own, and some of their actions overlap.
        workers: Processes that render; 1 renders in this one.
        progress: Called with (files done, files in all) whenever a file is there.

    Returns:
        Paths of the data set.

    Raises:
        LofiError: If an argument is out of range, or the folder holds something else.
        RunError: If the folder cannot be written, or rendering processes die again and again.
    """
    if seed < 0:
        raise LofiError(f"seed {seed} is negative; allowed: 0 or more.")
    if workers < 1:
        raise LofiError(f"workers {workers} is too few; allowed: 1 or more.")
    chosen = find_preset(preset)
    dataset = dataset_paths(out)
    _claim(out, _identity(chosen, seed) | ({"overlap": True} if overlap else {}))
    videos, trimmed = plan_dataset(chosen, seed)
    videos = [with_overlap(plan, chosen) for plan in videos] if overlap else videos
    jobs = [(plan, dataset.videos / f"{plan.id}.mp4") for plan in videos]
    if clips:
        jobs += [(plan, dataset.clips / plan.label / f"{plan.id}.mp4") for plan in trimmed]
    _make_files(jobs, workers, progress or (lambda done, total: None))
    if not dataset.annotations.exists():
        write_json(dataset.annotations, annotation_document(videos))
    if clips and not dataset.clips_csv.exists():
        write_text(dataset.clips_csv, clips_table(trimmed))
    return dataset


def dataset_paths(root: Path) -> SyntheticDataset:
    """Return where the files of a data set in ``root`` lie, made or not."""
    return SyntheticDataset(root, root / "annotations.json", root / "videos", root / "clips.csv", root / "clips")


def plan_dataset(preset: Preset, seed: int) -> tuple[list[Plan], list[Plan]]:
    """Return the plans of all videos and of all clips."""
    videos = [
        plan_video(preset, seed, role, index)
        for role, count in zip(ROLES[:2], preset.videos, strict=True)
        for index in range(count)
    ]
    clips = [
        plan_clip(preset, seed, role, index)
        for role, count in zip(ROLES[2:], preset.clips, strict=True)
        for index in range(count * len(preset.sources))
    ]
    return videos, clips


def annotation_document(videos: Sequence[Plan]) -> dict[str, Any]:
    """Return the ActivityNet document of planned videos; times are frame numbers divided by the frame rate."""
    labels = sorted({str(span.label) for plan in videos for span in plan.instances})
    return {
        "version": f"lofi-tal synthetic {VERSION}",
        "taxonomy": [
            {"nodeId": 0, "nodeName": "Root", "parentId": None, "parentName": None},
            *(
                {"nodeId": number, "nodeName": label, "parentId": 0, "parentName": "Root"}
                for number, label in enumerate(labels, start=1)
            ),
        ],
        "database": {
            plan.id: {
                "duration": plan.duration,
                "subset": plan.subset,
                "resolution": f"{SIZE * plan.scale}x{SIZE * plan.scale}",
                "annotations": [
                    {"segment": [span.start / FPS, span.end / FPS], "label": span.label} for span in plan.instances
                ],
            }
            for plan in videos
        },
    }


def clips_table(clips: Sequence[Plan]) -> str:
    """Return the clips as CSV text in Kinetics' columns."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["label", "youtube_id", "time_start", "time_end", "split"])
    splits = dict(zip(SUBSETS, ("train", "val"), strict=True))
    writer.writerows([plan.label, plan.id, 0.0, plan.duration, splits[plan.subset]] for plan in clips)
    return text.getvalue()


_SAID = ("broad", "scale")  # elsewhere in the identity: by the source classes and by the size


def _identity(preset: Preset, seed: int) -> dict[str, Any]:
    """Return what tells one data set from another, for ``dataset.json``."""
    sizes = {key: value for key, value in asdict(preset).items() if key not in _SAID}
    return {
        "generator": "lofi_tal.synthetic",
        "version": VERSION,
        "preset": preset.name,
        "seed": seed,
        "content": hash_object([sizes, preset.targets, preset.sources]),
        "fps": FPS,
        "size": preset.size,
        "videos": dict(zip(SUBSETS, preset.videos, strict=True)),
        "clips": {subset: count * len(preset.sources) for subset, count in zip(SUBSETS, preset.clips, strict=True)},
        "target_classes": list(preset.targets),
        "source_classes": list(preset.sources),
    }


def _claim(out: Path, identity: dict[str, Any]) -> None:
    """Write ``dataset.json``, or check that the one there is of this data set."""
    path = out / "dataset.json"
    advice = "Choose another folder, or delete this one."
    if path.exists():
        stored = read_json(path)
        if stored != identity:
            stored = stored if isinstance(stored, dict) else {}
            keys = [*identity, *(key for key in stored if key not in identity)]
            named = [f"{key} {stored.get(key)!r} (wanted {identity.get(key)!r})" for key in keys]
            different = [text for key, text in zip(keys, named, strict=True) if stored.get(key) != identity.get(key)]
            raise LofiError(f"{out} holds another data set: {', '.join(different) or 'unknown fields'}. {advice}")
        return
    if out.exists() and not out.is_dir():
        raise LofiError(f"{out} is a file; a folder is wanted. {advice}")
    if out.exists() and any(not entry.name.startswith(".") for entry in out.iterdir()):
        raise LofiError(f"{out} is not empty and holds no dataset.json, so it is no synthetic data set. {advice}")
    write_json(path, identity)


def _make_files(jobs: Sequence[tuple[Plan, Path]], workers: int, progress: Progress) -> None:
    """Render and encode what is missing."""
    missing = [(plan, path) for plan, path in jobs if not path.exists()]
    done = len(jobs) - len(missing)
    progress(done, len(jobs))
    workers = min(workers, len(missing)) if workers > 1 else 0
    for _ in read_in_processes(_write, missing, workers, in_order=False):
        done += 1
        progress(done, len(jobs))


def _write(job: tuple[Plan, Path]) -> None:
    plan, path = job
    write_video(path, plan.render(), fps=FPS, crf=CRF)
