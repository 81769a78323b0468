"""A first recipe for somebody's own data, with the reason for every value that was derived."""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lofi_tal.annotations import Annotations, clip_labels, judge_mirroring, load_annotations, require_truth
from lofi_tal.config import Recipe, make_recipe
from lofi_tal.data import TruthVideo, find_files, split_selection, truth_videos
from lofi_tal.errors import LofiError
from lofi_tal.files import write_json, write_text
from lofi_tal.recipes.writing import commented_recipe
from lofi_tal.run import Run
from lofi_tal.video import VideoManifest

logger = logging.getLogger("lofi_tal")


@dataclass(frozen=True)
class Proposal:
    """A recipe and the reasons for its values, by ``section.key``."""

    recipe: Recipe
    reasons: dict[str, str]
    heading: str


@dataclass(frozen=True)
class Sources:
    """What a recipe is derived from.

    Args:
        annotations: ActivityNet-style JSON.
        videos: Folder of the videos.
        clips: Kinetics-style CSV for stage 1, if there is one.
        clips_root: Folder of the clips.
        weights: Encoder weights to start from, if there are any.
        train_subset: Subset to train on.
        eval_subset: Subset to evaluate.
    """

    annotations: Path
    videos: Path
    clips: Path | None = None
    clips_root: Path | None = None
    weights: Path | None = None
    train_subset: str = "training"
    eval_subset: str = "validation"


def propose_recipe(sources: Sources, index: Path) -> Proposal:
    """Derive a recipe from annotations, videos and the machine.

    Args:
        sources: Files and subsets.
        index: JSON file in which the time axes of the videos are kept.

    Raises:
        DataError: If a subset has no truth or no video can be read.
    """
    loaded = load_annotations(sources.annotations)
    require_truth(loaded, sources.train_subset)
    require_truth(loaded, sources.eval_subset)
    cleaned: Annotations = loaded.clean()[0].subset(sources.train_subset)
    files, failed = find_files(cleaned, sources.videos, VideoManifest(index))
    train = [video for video in truth_videos(cleaned, files, failed, cleaned.labels) if len(video.labels)]
    gpu = torch.cuda.is_available()
    reasons: dict[str, str] = {}
    path = sources.annotations
    snippets = _snippets(train, gpu, reasons)
    lofi = _fidelity(train, snippets["count"], reasons) | _schedule(len(train), reasons)
    content: dict[str, Any] = {
        "name": path.parent.name if path.stem in ("annotations", "labels") else path.stem,
        "data": _data(cleaned, len(train), sources, reasons),
        "encoder": _encoder(sources, gpu, reasons),
        "snippets": snippets,
        "pretrain": _pretrain(sources.clips, reasons),
        "lofi": lofi,
        "head": _head(len(train), gpu, reasons),
        "baseline": True,
    }
    reasons["baseline"] = "stage 3 also runs on the encoder that stage 2 starts from, so that the gain is seen"
    return Proposal(make_recipe(content), reasons, _heading(sources, cleaned, train, len(failed)))


def _heading(sources: Sources, annotations: Annotations, train: list[TruthVideo], failed: int) -> str:
    heading = (
        f"Recipe for {sources.annotations.name}: {len(train)} training videos, {sum(len(v.labels) for v in train)} "
        f"segments, {len(annotations.labels)} classes."
    )
    if failed:
        heading += f"\n{failed} videos of {sources.train_subset!r} cannot be read; `lofi data check` lists them."
    return heading + "\nRun:  lofi run <this file>      one value:  lofi run <this file> --set lofi.epochs=6"


def _encoder(sources: Sources, gpu: bool, reasons: dict[str, str]) -> dict[str, Any]:
    large = gpu or sources.weights is not None
    reasons["encoder.name"] = (
        "the paper's encoder"
        if large
        else "a quarter of the width and a compact stem: no GPU here; tsm_resnet18 is the paper's"
    )
    encoder = {"name": "tsm_resnet18" if large else "tsm_resnet18_narrow"}
    if sources.weights is not None:
        encoder["weights"] = str(sources.weights)
    elif sources.clips is None:
        reasons["encoder.weights"] = (
            "no clips and no weights: the encoder starts from random weights; give it public TSM or ResNet weights "
            "(.pth, .safetensors) if you can"
        )
    return encoder


def share_unseen(videos: list[TruthVideo], snippets: int) -> float:
    """Return the share of segments that are shorter than one step of ``snippets`` over the whole video."""
    lengths = _relative_lengths(videos)
    return float((lengths < 1 / snippets).mean())


def _relative_lengths(videos: list[TruthVideo]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.concatenate([(v.segments[:, 1] - v.segments[:, 0]).double().numpy() for v in videos])


def _snippets(videos: list[TruthVideo], gpu: bool, reasons: dict[str, str]) -> dict[str, Any]:
    short = float(np.quantile(_relative_lengths(videos), 0.1))
    count = int(np.clip(4 * math.ceil(2 / max(short, 1e-6) / 4), 32, 100))
    reasons["snippets.count"] = (
        f"L: the shortest tenth of your segments takes {short:.1%} of its video or less; {count} snippets give it "
        f"about {short * count:.1f} of them (32 to 100 are considered)"
    )
    spacing = float(np.median([video.file.frames / count for video in videos]))
    stride = float(np.clip(round(2 * spacing / 8), 1, 8))
    reasons["snippets.stride"] = (
        f"snippets are {spacing:.0f} frames apart in your median video; 8 frames of stride {stride:g} cover "
        f"{8 * stride:.0f} frames, about two steps (the paper: 64 frames)"
    )
    size = 224 if gpu else 80
    reasons["snippets.size"] = "pixels; the paper's" if gpu else "pixels; what a CPU can train, 224 is the paper's"
    return {"count": count, "frames": 8, "stride": stride, "size": size}


def _fidelity(videos: list[TruthVideo], count: int, reasons: dict[str, str]) -> dict[str, Any]:
    shares = {r_t: share_unseen(videos, max(1, round(count / r_t))) for r_t in (4.0, 2.0, 1.0)}
    r_t = next((ratio for ratio, share in shares.items() if share <= 0.25), 1.0)
    r_s = 2.0 if r_t > 1 else math.sqrt(4.0)
    text = ", ".join(f"{share:.0%} at r_t = {ratio:g}" for ratio, share in shares.items())
    reasons["lofi.r_t"] = (
        f"segments shorter than one snippet step, which low temporal fidelity cannot see: {text}; "
        "the largest ratio that hides at most 25 %"
    )
    reasons["lofi.schedule"] = (
        "Long Cyclic LoFi, the paper's best" if r_t == 4 else "r_t is below 4, so the phases cost more than a quarter"
    )
    return {"schedule": "long", "r_t": r_t, "r_s": r_s}


def _schedule(videos: int, reasons: dict[str, str]) -> dict[str, Any]:
    epochs = int(np.clip(3 * round(5 * math.sqrt(600 / max(videos, 1))), 15, 60))
    batch = 16 if videos >= 160 else 8 if videos >= 24 else 4
    reasons["lofi.epochs"] = f"15 for 600 videos and more, longer for fewer: you have {videos}"
    reasons["lofi.lr_step"] = "the learning rate halves twice, as over 15 epochs in the paper"
    if batch != 16:
        reasons["lofi.batch"] = "the paper has 16; with so few videos, smaller batches give more steps"
    reasons["lofi.reestimate"] = "BatchNorm's statistics of the full size instead of the last phases' smaller ones"
    return {
        "epochs": epochs,
        "lr_step": epochs // 3,
        "batch": batch,
        "lr": 0.1 if batch == 16 else 0.05,
        "clip_norm": 10.0,
        "reestimate": min(25, -(-videos // batch)),
    }


def _pretrain(clips: Path | None, reasons: dict[str, str]) -> dict[str, Any] | None:
    if clips is None:
        reasons["pretrain"] = "no clips were given, so there is no stage 1"
        return None
    reasons["pretrain.batch"] = "32 clips fit everywhere; the public recipe has 128 with lr 0.02"
    return {"epochs": 30, "batch": 32, "lr": 0.01}


def _head(videos: int, gpu: bool, reasons: dict[str, str]) -> dict[str, Any]:
    batch = 16 if videos >= 160 else 8
    epochs = int(np.clip(math.ceil(600 / max(1, videos / batch)), 10, 60))
    reasons["head.epochs"] = "10 in the paper for 9,649 videos; small sets get about 600 steps, at most 60 epochs"
    head: dict[str, Any] = {"name": "gtad", "epochs": epochs, "batch": batch}
    if not gpu and videos < 1000:
        head["options"] = {"hidden_1d": 128, "hidden_2d": 64, "hidden_3d": 128}
        reasons["head.options"] = "a narrower G-TAD for a small set on a CPU; {} is the published size"
    return head


def _data(annotations: Annotations, videos: int, sources: Sources, reasons: dict[str, str]) -> dict[str, Any]:
    clips = clip_labels(sources.clips) if sources.clips else []
    mirroring = judge_mirroring([*annotations.labels, *clips])
    reasons["data.flip"] = mirroring.reason
    share = 0.15 if videos >= 100 else 0.25
    reasons["data.selection_share"] = "of the training videos, unseen by the encoder: choices are made there"
    workers = max(1, min(8, (os.cpu_count() or 2) // 2))
    return {
        "annotations": str(sources.annotations),
        "videos": str(sources.videos),
        "clips": str(sources.clips) if sources.clips else None,
        "clips_root": str(sources.clips_root) if sources.clips_root else None,
        "train_subset": sources.train_subset,
        "eval_subset": sources.eval_subset,
        "selection_share": share,
        "flip": mirroring.safe,
        "workers": workers,
    }


def write_recipe(
    path: Path, *, trial: bool = True, overwrite: bool = False, quiet: bool = False, **sources: Any
) -> list[tuple[str, str, str]]:
    """Write a commented recipe and return what was derived: setting, value, reason.

    Args:
        path: YAML file to write.
        trial: Decide about the class loss of stage 2 by trying both on a part of the training videos.
        overwrite: Replace the file if it is there.
        quiet: No progress.
        sources: See :class:`Sources`.

    Raises:
        LofiError: If the file is there and is not to be replaced.
    """
    if path.exists() and not overwrite:
        raise LofiError(f"{path} exists; choose another name with -o, or add --overwrite.")
    absolute: dict[str, Any] = {
        key: value.resolve() if isinstance(value, Path) else value for key, value in sources.items()
    }
    with tempfile.TemporaryDirectory(prefix="lofi-init-") as scratch:
        proposal = propose_recipe(Sources(**absolute), Path(scratch) / "videos.jsonl")
        if trial:
            proposal = with_tried_class_loss(proposal, Path(scratch), quiet=quiet)
    text = commented_recipe(proposal.recipe, proposal.heading, proposal.reasons)
    write_text(path, text)
    content = proposal.recipe.model_dump(mode="json")
    rows = []
    for setting, reason in sorted(proposal.reasons.items()):
        value: Any = content
        for key in setting.split("."):
            value = value[key] if isinstance(value, dict) else None
        rows.append((setting, "none" if value is None else str(value), reason))
    return rows


def with_tried_class_loss(
    proposal: Proposal, scratch: Path, *, quiet: bool = False, most: int = 60, epochs: int = 6
) -> Proposal:
    """Try stage 2 with and without its class loss on training videos, and keep what scores better on unseen ones.

    Both trials share everything else: at most ``most`` training videos, of which a quarter is held out and evaluated,
    ``epochs`` epochs of stage 2 from the same encoder, and one learning rate for the head.

    Args:
        proposal: The recipe so far.
        scratch: Folder for the trials.
        quiet: No progress.
        most: Videos that take part.
        epochs: Epochs of stage 2 in a trial.
    """
    recipe = proposal.recipe
    labels, videos = _training_videos(recipe, scratch)
    _, part = (
        split_selection(videos, min(0.999, most / len(videos)), recipe.seed) if len(videos) > most else ([], videos)
    )
    learn, judge = split_selection(part, 0.25, recipe.seed + 1)
    if len(judge) < 4:
        reason = f"off as in the paper; {len(videos)} training videos are too few to try it"
        return replace(proposal, reasons={**proposal.reasons, "lofi.class_loss": reason})
    truth = truth_document(learn, labels, "training")
    truth["database"] |= truth_document(judge, labels, "validation")["database"]
    write_json(scratch / "trial.json", truth)
    scores = {}
    for weight in (0.0, 1.0):
        trial = _trial_recipe(recipe, scratch / "trial.json", weight, epochs)
        logger.info("%s", trial.name)
        result = Run(trial, scratch / f"trial-{weight:g}", quiet=quiet).run()[0]
        scores[weight] = result.scores["fused"]["average_mAP"]
    content = recipe.model_dump(mode="json")
    content["lofi"]["class_loss"] = 1.0 if scores[1.0] > scores[0.0] else 0.0
    reason = (
        f"average mAP on {len(judge)} training videos held out from a short trial on {len(learn)}: "
        f"{100 * scores[1.0]:.1f} with it, {100 * scores[0.0]:.1f} without (off in the paper)"
    )
    return replace(proposal, recipe=make_recipe(content), reasons={**proposal.reasons, "lofi.class_loss": reason})


def _training_videos(recipe: Recipe, scratch: Path) -> tuple[tuple[str, ...], list[TruthVideo]]:
    """Return the classes and the videos of the recipe's training subset."""
    assert recipe.data.videos is not None
    document = load_annotations(recipe.data.annotations)
    labels = document.subset(recipe.data.train_subset).labels
    cleaned = document.clean()[0].subset(recipe.data.train_subset)
    index = VideoManifest(scratch / "videos.jsonl")
    return labels, truth_videos(cleaned, *find_files(cleaned, recipe.data.videos, index), labels)


def _trial_recipe(recipe: Recipe, annotations: Path, class_loss: float, epochs: int) -> Recipe:
    """Return the recipe of a short run on ``annotations`` whose stage 2 has this class loss."""
    content = recipe.model_dump(mode="json")
    content["data"] |= {
        "annotations": str(annotations),
        "train_subset": "training",
        "eval_subset": "validation",
        "selection_share": 0.0,
    }
    content["lofi"] |= {"epochs": epochs, "lr_step": max(1, epochs // 3), "class_loss": class_loss}
    content["head"] |= {"lrs": [1e-3], "refit": False}
    name = f"trial with class loss {class_loss:g}"
    return make_recipe({**content, "name": name, "pretrain": None, "baseline": False})


def truth_document(videos: Iterable[TruthVideo], labels: Sequence[str], subset: str) -> dict[str, Any]:
    """Return the truth of some videos as an ActivityNet document, to evaluate on exactly these."""
    return {
        "database": {
            video.video_id: {
                "subset": subset,
                "duration": video.clock.end,
                "annotations": [
                    {"segment": record["segment"], "label": record["label"]}
                    for record in video.to_segments(labels).to_activitynet()
                ],
            }
            for video in videos
        }
    }
