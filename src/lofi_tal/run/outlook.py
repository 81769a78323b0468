"""What a run in a folder would do again and what it keeps, and which labels changed since: looked at, not touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lofi_tal.config import Recipe
from lofi_tal.errors import counted
from lofi_tal.evaluation.agreement import LabelChange
from lofi_tal.files import hash_object, json_text
from lofi_tal.run.arms import ArmRun
from lofi_tal.run.context import Context
from lofi_tal.run.folder import looked_at
from lofi_tal.run.labels import LABELS, changes_since
from lofi_tal.run.origin import REPLACED, Origin
from lofi_tal.run.training import Training
from lofi_tal.runtime import COMPILE, PRECISIONS, OutOfDateError, StageRecord, fault, precision_of

_STAGES = {"pretrain": "stage 1", "second": "the second encoder", "finetune": "ACP+", "lofi": "stage 2"}


@dataclass(frozen=True)
class Outlook:
    """What a run would do.

    Args:
        since: Folder of the run whose labels were compared; None if it has none.
        changes: What changed in the labels since.
        videos: Number of videos in both versions together.
        again: What is done, or done again.
        kept: What is kept.
        replaces: Whether finished stages would be replaced, which has to be asked for.
    """

    since: Path | None
    changes: tuple[LabelChange, ...]
    videos: int
    again: tuple[str, ...]
    kept: tuple[str, ...]
    replaces: bool


def outlook(context: Context, output: Path, recipe: Recipe, origin: Origin | None) -> Outlook:
    """Look at the run in a folder; nothing is written.

    Args:
        context: Has read the data of the recipe.
        output: The run folder.
        recipe: What the run shall do.
        origin: What it starts from.
    """
    since = output
    if origin is not None and not (output / LABELS).exists():
        run = Path(origin.run)
        since = next((folder for folder in (run, *run.parents[:3]) if (folder / LABELS).exists()), run)
    changes, videos = changes_since(since, context.data())
    twin = _looking(context, output, recipe, origin)
    again, kept, replaces = list[str](), list[str](), False
    for what, stage, done in _looked(twin):
        (kept if done else again).append(what)
        replaces = replaces or (not done and any((output / stage).glob("**/stage.json")))
    cache = recipe.data.cache or output / "cache"
    if recipe.features is None and recipe.data.cache_gib and any(map(_filled, (cache, *twin.cache.others))):
        kept.append("decoded frames (frame cache)")
    return Outlook(since if videos else None, changes, videos, tuple(again), tuple(kept), replaces)


def _looking(context: Context, output: Path, recipe: Recipe, origin: Origin | None) -> Context:
    """Return what looks at the stages in a folder as a run there would open them."""
    folder = looked_at(output, recipe.tracking)
    data = recipe.data.model_copy(update={"cache_gib": 0.0, "manifest": context.manifest.path})  # nothing is written
    return Context(
        recipe.model_copy(update={"data": data}),
        folder,
        device=context.device,
        precision=folder.noted("precision", PRECISIONS) or precision_of(context.fabric),
        compile=folder.noted("compile", COMPILE) or ("off" if context.compile == "auto" else context.compile),
        quiet=True,
        known=context,
        origin=origin,
    )


def _looked(context: Context) -> Iterator[tuple[str, str, bool]]:
    """Yield each part of a run with its folder, and whether it is up to date; parts wait for those before them."""
    recipe, training = context.recipe, Training(context)
    if recipe.features is None:
        for name, what in _STAGES.items():
            replaced = context.origin is not None and name in REPLACED
            if getattr(recipe, name) is not None and not replaced:
                yield what, name, _is_done(training, name)
    for arm in context.arms:
        yield from _arm(ArmRun(arm, context, training))


def _is_done(training: Training, name: str) -> bool:
    try:
        training.ensure(name)
    except OutOfDateError:
        return False
    return True


def _arm(arm: ArmRun) -> Iterator[tuple[str, str, bool]]:
    """Yield the parts of stage 3 of an arm."""
    videos, folder, name = len(arm.context.data().videos), f"arms/{arm.name}", arm.name
    try:
        provenance, there = arm.look_at_features()
    except OutOfDateError:
        provenance, there = None, 0
    if name != "features":
        if there:
            yield f"features ({name}) of {counted(there, 'video')}", f"{folder}/features", True
        if there < videos:
            yield f"features ({name}) of {counted(videos - there, 'video')}", f"{folder}/features", False
    inputs = None if provenance is None else arm.inputs(provenance)
    heads = inputs is not None and _has_heads(arm.folder / "head", inputs)
    yield f"head ({name})", f"{folder}/head", heads
    yield f"evaluation ({name})", f"{folder}/evaluation", heads and _has_evaluation(arm, inputs or {})


def _has_heads(folder: Path, inputs: dict[str, Any]) -> bool:
    """Say whether the heads that are there were made from these inputs; each has some of its own besides."""
    wanted = hash_object(json.loads(json_text(inputs)))
    done = [path.parent for path in folder.glob("*/stage.json") if not fault(path.parent)]
    found = [StageRecord.read(path).inputs for path in done]
    shared = [{key: value for key, value in one.items() if key not in ("lr", "videos")} for one in found]
    return bool(shared) and all(hash_object(one) == wanted for one in shared)


def _has_evaluation(arm: ArmRun, inputs: dict[str, Any]) -> bool:
    try:
        arm.evaluation(inputs)
    except OutOfDateError:
        return False
    return True


def _filled(cache: Path) -> bool:
    """Say whether something lies in a folder."""
    try:
        return any(cache.iterdir())
    except OSError:
        return False
