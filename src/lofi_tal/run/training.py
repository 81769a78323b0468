"""The stages that train an encoder: stage 1, a second encoder, ACP+, stage 2; each is skipped if it is up to date."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lofi_tal.config import FinetuneSection, LofiSection, PretrainSection, Recipe
from lofi_tal.data import (
    ClipDataset,
    Excerpt,
    background,
    clip_contents,
    content_hash,
    excerpts,
    training_windows,
    video_contents,
    whole_files_fit,
)
from lofi_tal.encoders import ENCODER_FILES, Encoder, adapt_encoder, base_of, save_encoder
from lofi_tal.errors import DataError, LofiError
from lofi_tal.evaluation import THRESHOLDS
from lofi_tal.files import hash_file, hash_object
from lofi_tal.recipes.encoder import start_of
from lofi_tal.run.context import Context
from lofi_tal.run.data import Clips, RunData
from lofi_tal.run.first_batch import show_clips, show_videos
from lofi_tal.run.memory import is_out_of_memory, smaller_recipe
from lofi_tal.run.origin import REPLACED
from lofi_tal.runtime import Outcome, StageFolder, derive_seed, free_unused
from lofi_tal.stages.lofi import train_lofi
from lofi_tal.stages.pretrain import pretrain
from lofi_tal.stages.watch import Watch, make_watch
from lofi_tal.tasks import create_task

logger = logging.getLogger("lofi_tal")
BACKGROUND = "background"
"""The class of clips from between the segments."""


class Training:
    """The encoders of a run.

    Args:
        context: The run.
        step_down: If stage 2 runs out of memory, go on with the next choice that needs less.
    """

    def __init__(self, context: Context, *, step_down: bool = False) -> None:
        self.context, self.step_down = context, step_down
        self.made: dict[str, Path | None] = {}
        """Folders of the encoders that are there, by stage; one that is put here is taken as it is."""

    def ensure(self, name: str) -> Path | None:
        """Return the folder of an encoder; its stage, and those before it, are run if they are not up to date.

        Args:
            name: ``pretrain`` (stage 1), ``second`` (the encoder beside it; None if the recipe has none), ``finetune``
                (stage 1 after ACP+, if the recipe has it), or ``lofi`` (stage 2).

        Raises:
            RunError: If stage 2 runs out of memory; the message says what was predicted, used, and would fit.
        """
        if name not in self.made:
            make = {"pretrain": self._pretrain, "second": self._second, "finetune": self._finetune, "lofi": self._lofi}
            if name not in make:
                raise LofiError(f"stage {name!r} trains no encoder; these do: {', '.join(make)}.")
            origin = self.context.origin if name in REPLACED else None
            self.made[name] = (origin and origin.encoder) or make[name]()
        return self.made[name]

    def start(self) -> Path:
        """Return the folder of the encoder that stage 2 starts from."""
        folder = self.ensure("finetune")
        assert folder is not None
        return folder

    def _pretrain(self) -> Path:
        context, section = self.context, self.context.recipe.pretrain
        if section is not None:
            return self._on_clips("pretrain", section)
        with context.folder.training("pretrain", "start", context.stage_inputs(context.encoder_inputs())) as stage:
            return stage.path if stage.record else self._finish(stage, context.new_encoder(), Outcome(0.0, 0, {}))

    def _second(self) -> Path | None:
        """Train the encoder whose features stand beside those of the first.

        Unless its section equals that of the first, it is the very encoder that a run with this section alone trains.
        """
        section = self.context.recipe.second
        return None if section is None else self._on_clips("second", section)

    def _on_clips(self, name: str, section: PretrainSection) -> Path:
        """Run stage 1 on the trimmed clips; the clips that are not there or cannot be read go into its record."""
        context = self.context
        clips = context.clips()
        twin = name != "pretrain" and section == context.recipe.pretrain  # which chance alone shall tell from the first
        stage = name if twin else "pretrain"
        # from random weights, all of it is trained: there is nothing in it yet that could be kept
        part = context.recipe.encoder.training() if context.recipe.encoder.starts_from_weights else {}
        inputs = {**context.encoder_inputs(), **part}
        make = partial(adapted, context, context.new_encoder, untrained=not part)
        return self._classify(name, stage, section, inputs, make, clips, section.task)

    def _finetune(self) -> Path | None:
        """Train the encoder of stage 1 on the segments (ACP+), if the recipe says so."""
        context, section = self.context, self.context.recipe.finetune
        start, data = self.ensure("pretrain"), self.context.data() if section is not None else None
        if section is None or data is None:
            return start
        assert start is not None
        inputs = {
            "start": hash_file(start / "encoder.safetensors"),
            "data": content_hash(data.train),
            **context.recipe.encoder.training(),
        }
        return self._classify(
            "finetune",
            "finetune",
            section,
            inputs,
            lambda: adapted(context, partial(context.saved_encoder, start)),
            segment_clips(context, section),
            "acp",
        )

    def _classify(
        self,
        name: str,
        stage_name: str,
        section: PretrainSection | FinetuneSection,
        inputs: dict[str, Any],
        start: Callable[[], Encoder],
        clips: Clips,
        task_name: str,
    ) -> Path:
        """Train an encoder to classify clips in the folder ``name``, as a stage of that name or another."""
        context, everything = self.context, [*clips.train, *clips.validate]
        facts = {
            **inputs,
            "snippets": context.recipe.snippets.model_dump(mode="json", include={"frames", "stride", "size"}),
            "pretrain": section.model_dump(mode="json"),
            "flip": context.recipe.data.flip,
            "clips": hash_object([[c.label, c.file.stamp, c.start, c.duration] for c in everything]),
        }
        contents = {"clips": clip_contents(everything)}
        if "data" in inputs:
            contents["data"] = _train_contents(context.data())
        with context.folder.training(name, stage_name, context.stage_inputs(facts), contents=contents) as stage:
            if stage.record:
                return stage.path
            encoder, task = context.ready(start()), create_task(task_name)
            dataset = clip_dataset(context, section, task.sampling or section.sampling, everything, clips.labels)
            outcome = pretrain(
                stage,
                context.fabric,
                encoder,
                task=task,
                train=dataset(clips.train),
                validate=dataset(clips.validate) if clips.validate else None,
                labels=clips.labels,
                section=section,
                size=context.recipe.snippets.size,
                seed=derive_seed(context.recipe.seed, stage_name),
                workers=context.recipe.data.workers,
                show=partial(show_clips, stage.path, dataset(clips.train)),
                quiet=context.quiet,
            )
            outcome.result["missing_clips"] = clips.missing
            return self._finish(stage, encoder, outcome)

    def _lofi(self) -> Path:
        overwrite = self.context.folder.overwrite
        while True:
            try:
                return self._train_lofi(overwrite)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self.context.recipe = smaller_recipe(self.context.recipe, self.context.fabric, error, self.step_down)
                overwrite = True  # this stage alone is begun again
            free_unused()

    def _train_lofi(self, overwrite: bool) -> Path:
        context, section = self.context, self.context.recipe.lofi
        _ = context.schedule  # a recipe without stage 2, or one that leaves nothing of the video, is refused here
        assert section is not None
        start, data = self.start(), context.data()
        inputs = _lofi_inputs(context.recipe, section, start, data)
        contents = {"data": _train_contents(data)}
        with context.folder.training(
            "lofi", "lofi", context.stage_inputs(inputs), overwrite=overwrite, contents=contents
        ) as stage:
            if stage.record:
                return stage.path
            encoder = context.ready(adapted(context, partial(context.saved_encoder, start)))
            if context.recipe.encoder.train == "frozen":
                logger.warning(
                    "encoder.train is frozen: stage 2 trains a head that is thrown away, and leaves the encoder as it "
                    "is; `lofi: null` gives the same encoder at once."
                )
            if not data.selection and section.watch != 0:
                logger.info("No held-out curve: no training videos are held out (data.selection_share).")
            torch.manual_seed(derive_seed(context.recipe.seed, "lofi head"))
            outcome = train_lofi(
                stage,
                context.fabric,
                encoder,
                context.first_head(encoder.channels),
                videos=context.stage2_videos(),
                classes=len(data.labels),
                full=context.full,
                section=section,
                seed=derive_seed(context.recipe.seed, "lofi"),
                workers=context.recipe.data.workers,
                balance=context.recipe.balance,
                multi_label=context.recipe.detect.multi_label,
                show=partial(show_videos, stage.path, data.labels),
                watch=held_out_looks(context),
                quiet=context.quiet,
            )
            return self._finish(stage, encoder, outcome)

    def _finish(self, stage: StageFolder, encoder: Encoder, outcome: Outcome) -> Path:
        context = self.context
        if context.first:
            facts = {"stage": stage.stage, "inputs": stage.inputs}
            save_encoder(encoder, context.recipe.encoder.name, stage.path, facts)
            stage.finish(outcome, ENCODER_FILES)
        context.fabric.barrier()
        return stage.path


def _lofi_inputs(recipe: Recipe, section: LofiSection, start: Path, data: RunData) -> dict[str, Any]:
    """Return what stage 2 depends on."""
    inputs = {
        "start": hash_file(start / "encoder.safetensors"),
        "lofi": section.inputs(),
        "head": recipe.head.model_dump(mode="json", include={"name", "options"}),
        "snippets": recipe.snippets.record(),
        "flip": recipe.data.flip,
        "data": content_hash(data.train),
        **recipe.encoder.training(),
    }
    if balance := recipe.balance.model_dump(mode="json"):
        inputs["balance"] = balance
    if section.class_loss > 0 and recipe.detect.multi_label:
        inputs["multi_label"] = True
    return inputs


def adapted(context: Context, make: Callable[[], Encoder], *, untrained: bool = False) -> Encoder:
    """Return an encoder of which only what the recipe says is trained.

    Args:
        context: The run.
        make: Makes the encoder.
        untrained: It has random weights, of which there is nothing to keep: all of them are trained.
    """
    encoder, section = make(), context.recipe.encoder
    if not untrained:
        torch.manual_seed(derive_seed(context.recipe.seed, "adapter"))
        adapt_encoder(encoder, **section.adapting())
        if section.save == "adapter" and encoder.base is None:
            encoder.base = base_of(encoder, start_of(section))
    return encoder


def clip_dataset(
    context: Context,
    section: PretrainSection | FinetuneSection,
    sampling: str,
    everything: Sequence[Excerpt],
    labels: list[str],
) -> Callable[[Sequence[Excerpt]], ClipDataset]:
    """Return what makes a data set of clips."""
    snippets, data = context.recipe.snippets, context.recipe.data
    whole = whole_files_fit(everything, snippets.size, data.cache_gib * 2**30, context.full.takes.resize)
    return lambda clips: ClipDataset(
        clips,
        labels,
        frames=snippets.frames,
        stride=snippets.stride,
        sampling=sampling,
        cache=context.cache,
        whole=whole,
        multi_scale=section.multi_scale,
        flip=data.flip,
        resize=context.full.takes.resize,
    )


def _train_contents(data: RunData) -> dict[str, Any]:
    """Return what the hash of the training videos stands for."""
    return video_contents(data.train, data.labels, data.selection)


def held_out_looks(context: Context) -> Watch | None:
    """Return what stage 2 looks at between epochs: videos that it does not train on."""
    section, data = context.recipe.lofi, context.data()
    assert section is not None
    if not data.selection or section.watch == 0:
        return None
    whole = context.windows.seconds is None  # what has to be decoded is kept for the extraction as well
    try:
        held_out = training_windows(data.selection, context.windows)
    except DataError:  # no window shows an action of theirs
        return None
    videos = context.snippets(held_out, fidelities=[context.full] * whole)
    return make_watch(
        videos,
        section,
        context.full,
        training=len(training_windows(data.train, context.windows)),
        detect=context.recipe.detect,
        tiou=THRESHOLDS[context.recipe.data.tiou],
        workers=context.recipe.data.workers,
        seed=derive_seed(context.recipe.seed, "lofi"),
    )


def segment_clips(context: Context, section: FinetuneSection) -> Clips:
    """Return the clips of ACP+: the segments of the training videos and, if it says so, what lies between them."""
    data = context.data()
    train, validate, labels = excerpts(data.train, data.labels), excerpts(data.selection, data.labels), data.labels
    if section.background:
        if BACKGROUND in labels:
            raise LofiError(f"finetune.background: the data have a class named {BACKGROUND!r} already.")
        least = round(context.recipe.snippets.frames * context.recipe.snippets.stride)
        labels = (*labels, BACKGROUND)
        train += background(data.train, BACKGROUND, least=least)
        validate += background(data.selection, BACKGROUND, least=least)
    return Clips(train, validate, list(labels), {})
