"""The whole way from raw video to a localisation report: stages in order, each skipped if it is up to date.

A run folder holds:

    recipe.yaml, environment.json, command.txt   what was asked for, and where it ran
    videos.jsonl, cache/                          what is known of the files, decoded frames
    pretrain/, second/, finetune/, lofi/          encoders of stage 1 and 2, with metrics and records
    arms/<arm>/                                   stage 3 on one encoder: features/, head/, model/, evaluation/
    report.html, report.json

An arm is one encoder with its own stage 3. `lofi` is the encoder of stage 2, `baseline` the one it started from.
"""

from __future__ import annotations

import contextlib
import json
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console

from lofi_tal.annotations import Annotations, load_annotations, load_clip_list, require_truth
from lofi_tal.classifier import video_probabilities
from lofi_tal.config import FinetuneSection, PretrainSection, Recipe, save_recipe
from lofi_tal.encoders import (
    Encoder,
    JoinedEncoder,
    create_encoder,
    load_encoder,
    load_weights,
    public_weights,
    save_encoder,
)
from lofi_tal.errors import DataError, LofiError, RunError
from lofi_tal.evaluation import THRESHOLDS
from lofi_tal.features import PublishedFeatures
from lofi_tal.fidelity import Fidelity, Schedule, full_fidelity
from lofi_tal.files import hash_file, hash_object, locked, read_json, write_json, write_text
from lofi_tal.heads import Head, create_head, takes_classes
from lofi_tal.leases import Leases
from lofi_tal.localizer import Localizer
from lofi_tal.planning import Choice, Plan, StepModel, in_parts, make_plan, next_smaller, planned
from lofi_tal.postprocess import ClassScores, read_cuhk_scores, read_hacs_scores
from lofi_tal.report import Arm, Report, TimelineEntry, write_report
from lofi_tal.report import StageRecord as ReportStage
from lofi_tal.runtime import (
    COMPILE,
    PRECISIONS,
    Outcome,
    PeakMemory,
    Progress,
    StageFolder,
    StageRecord,
    auto_precision,
    check_common_folder,
    check_compile,
    compile_module,
    derive_seed,
    describe_device,
    environment,
    fastest_way,
    free_unused,
    make_fabric,
    on_first,
    open_stage,
    precision_of,
)
from lofi_tal.segments import Segments, detections_to_activitynet
from lofi_tal.snippets import Windows
from lofi_tal.stages.data import (
    ClipDataset,
    Excerpt,
    SnippetDataset,
    TruthVideo,
    as_clips,
    background,
    content_hash,
    cut_actions,
    excerpts,
    fill,
    find_features,
    find_files,
    split_selection,
    training_windows,
    truth_videos,
    video_files,
)
from lofi_tal.stages.detect import DetectOptions, evaluate, evaluate_known, with_class_scores
from lofi_tal.stages.extract import FeatureStore, extract, usable
from lofi_tal.stages.head import ClassifierOptions, FeatureSet, HeadOptions, fit_on, search_head
from lofi_tal.stages.lofi import LofiOptions, train_lofi
from lofi_tal.stages.pretrain import PretrainOptions, pretrain, whole_files_fit
from lofi_tal.video import FrameCache, VideoManifest

BACKGROUND = "background"
"""The class of clips from between the segments."""
ARMS = {
    "lofi": "the encoder of stage 2, trained end to end at low fidelity",
    "baseline": "the encoder that stage 2 started from",
    "features": "published features",
}


@dataclass(frozen=True, eq=False)
class RunData:
    """The videos of a run.

    Args:
        labels: Class names in the order of their numbers.
        train: Training videos without the selection part.
        selection: Training videos on which choices are made.
        evaluation: Videos that are evaluated.
        failed: Reason for each video that cannot be read.
        truth: The annotation document, for evaluation.
    """

    labels: tuple[str, ...]
    train: list[TruthVideo]
    selection: list[TruthVideo]
    evaluation: list[TruthVideo]
    failed: dict[str, str]
    truth: dict[str, Any]


@dataclass(frozen=True, eq=False)
class ArmResult:
    """Stage 3 on one encoder.

    Args:
        arm: Name of the arm.
        scores: ``fused``, ``agnostic`` and ``oracle`` evaluation results, JSON-like.
        chosen: What the selection videos decided.
        model: Folder of the localiser.
        failed: Videos that could not be extracted.
    """

    arm: str
    scores: dict[str, dict[str, Any]]
    chosen: dict[str, Any]
    model: Path
    failed: dict[str, str]


@dataclass(frozen=True, eq=False)
class Classification:
    """Class scores of whole videos.

    Args:
        scores: Of the evaluated videos.
        accuracy: ``top1`` and ``top5``: shares of the videos with segments of which a class is among the best.
        order: Ids of the evaluated subset in the order of the annotation file.
        failed: Reason for each video without features.
    """

    scores: ClassScores
    accuracy: dict[str, float]
    order: list[str]
    failed: dict[str, str]


class Pipeline:
    """One run of a recipe in one folder.

    Args:
        recipe: What to do.
        output: The run folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``; ``auto`` is that of the run in ``output``, if there is one,
            which then goes on alike on any machine.
        resume: Go on with interrupted stages.
        overwrite: Replace stages that were made from other inputs.
        quiet: No progress.
        memory: Bytes of each device for stage 2; the planner then sets strategy, parts and, if it must, ratios.
        step_down: If stage 2 runs out of memory, go on with the next choice that needs less.
        shared: Folder for what runs can have in common (encoders, features, decoded frames), by what it was made from;
            the run folder itself without it.
        patience: Share extraction and cache with processes that are not joined to this one, on any machine that sees
            the run folder; one that shows no sign of life for so many seconds is taken for dead. Stages that train
            must be finished.
        compile: Whether encoders are compiled: ``off``, ``on``, ``graphs`` or ``auto`` (the fastest, by a trial). None
            and ``auto`` are what the run in ``output`` has taken, if there is one; None is ``off`` otherwise.

    Raises:
        LofiError: If there is nothing to resume, nothing fits into ``memory``, or ``step_down`` is asked of several
            processes.
    """

    def __init__(
        self,
        recipe: Recipe,
        output: Path,
        *,
        device: str = "auto",
        precision: str = "auto",
        resume: bool = False,
        overwrite: bool = False,
        quiet: bool = False,
        memory: int | None = None,
        step_down: bool = False,
        shared: Path | None = None,
        patience: float | None = None,
        compile: str | None = None,
    ) -> None:
        if resume and not (output / "recipe.yaml").exists():
            raise LofiError(f"There is nothing to resume in {output}; leave --resume away to begin.")
        self.output, self.step_down, self.shared, self.patience = output, step_down, shared, patience
        self.resume, self.overwrite, self.quiet = resume, overwrite, quiet
        if precision == "auto" and not overwrite:
            precision = _noted(output, "precision", PRECISIONS) or precision
        if compile in (None, "auto") and not overwrite:
            compile = _noted(output, "compile", COMPILE) or compile
        compile = compile or "off"
        check_compile(compile, "plain" if recipe.lofi is None else recipe.lofi.strategy)
        self.compile = compile
        self.device, self.precision = device, precision
        self.fabric: Fabric = make_fabric(device, precision)  # of what runs an encoder
        self.exact: Fabric = make_fabric(device, "fp32")  # of heads alone: small, and their losses want digits
        if step_down and self.fabric.world_size > 1:
            raise LofiError(
                f"--step-down needs a run of one process, this one has {self.fabric.world_size}: a process that runs "
                "out of memory cannot take the others with it. Choose with --memory instead."
            )
        if patience is not None and overwrite:
            raise LofiError(
                "--share and --overwrite exclude each other: one process cannot replace what others work on."
            )
        self.plan: Plan | None = None
        if memory is not None and recipe.lofi is not None:
            self.plan = self._planned(recipe, memory)
            if self.plan.recommended is None:
                raise LofiError(self.plan.reason)
            recipe = planned(recipe, self.plan.recommended)
        self.recipe = recipe
        self.seed = recipe.seed
        self.cache = FrameCache(
            (shared or output) / "cache" if recipe.data.cache_gib else None,
            limit_bytes=int(recipe.data.cache_gib * 2**30),
            decoder=recipe.data.decoder,
        )
        manifest = recipe.data.manifest or (shared or output) / "videos.jsonl"
        self.manifest = VideoManifest(manifest, workers=recipe.data.workers, patience=patience)
        self.skipped: set[Path] = set()
        self.places: dict[str, Path] = {}  # of the stages that train an encoder, once they have been opened
        self.held = contextlib.ExitStack()  # the shared stage that this run is making

    @property
    def full(self) -> Fidelity:
        """Full fidelity."""
        return full_fidelity(self.recipe.snippets.count, self.recipe.snippets.size)

    @property
    def windows(self) -> Windows:
        """How videos are cut."""
        section = self.recipe.snippets
        return Windows(section.count, section.window, section.overlap)

    @property
    def schedule(self) -> Schedule:
        """The fidelities of stage 2."""
        options = self.recipe.lofi
        if options is None:
            raise LofiError("The recipe has no stage 2 (`lofi: null`).")
        return options.fidelities_over(self.full)

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms of this recipe, the baseline first."""
        if self.recipe.features is not None:
            return ("features",)
        if self.recipe.lofi is None:
            return ("baseline",)
        return ("baseline", "lofi") if self.recipe.baseline else ("lofi",)

    @contextlib.contextmanager
    def open(self, command: str = "", *, trains: bool = True) -> Iterator[None]:
        """Hold the run folder: note what was asked for, and keep a second run out, unless both share their work.

        Args:
            command: How the run was started.
            trains: Encoders are run: precision and the way to compile are noted, and those of a run that exists stay.

        Raises:
            LofiError: If another process is at work in the folder, or shares the work of a run that does not exist.
        """
        sharing = self.patience is not None
        if sharing and trains and not (self.output / "recipe.yaml").exists():
            raise LofiError(f"There is no run in {self.output} whose work could be shared; run `lofi train` first.")
        refusal = f"Another run is at work in {self.output}; choose another output folder" + (
            ", or wait until it has ended to share with --share." if sharing else "."
        )
        first = self.fabric.global_rank == 0
        lock = locked(self.output / ".lock", refusal, shared=sharing) if first else contextlib.nullcontext()
        with lock, self.held:
            check_common_folder(self.output)
            if self.compile == "auto" and trains:
                self.compile = on_first(self._fastest_way)
            if trains and not (self.output / "recipe.yaml").exists():
                self._note(command)
            yield
            self.fabric.barrier()  # one that leaves early would be missed
            if trains and not sharing:
                self._note(command)  # only now: a refused recipe must not stand beside the results of another

    def _fastest_way(self) -> str:
        """Time the encoder on two videos at the first fidelity that it trains at, and say what is the fastest."""
        fidelity = self.full if self.recipe.lofi is None else self.schedule.fidelities[0]
        shape = (2 * fidelity.snippets, self.recipe.snippets.frames, fidelity.size, fidelity.size, 3)
        way, seconds = fastest_way(self._new_encoder(), as_clips(torch.zeros(shape, dtype=torch.uint8)), self.fabric)
        if not self.quiet:
            told = ", ".join(f"{name} {time:.3f} s" for name, time in seconds.items())
            said = f"Compile: {way} (a training step of 2 videos at {fidelity}: {told})"
            Console(stderr=True).print(said, highlight=False, markup=False, soft_wrap=True)
        return way

    def _ready(self, encoder: Encoder) -> Encoder:
        """Return an encoder as this run executes it."""
        compile_module(encoder, self.compile)
        return encoder

    def _note(self, command: str) -> None:
        """Write what was asked for and where it runs."""
        if self.fabric.global_rank == 0:
            write_text(self.output / "recipe.yaml", save_recipe(self.recipe))
            facts = {**environment(), "precision": precision_of(self.fabric), "compile": self.compile}
            write_json(self.output / "environment.json", facts)
            if command:
                write_text(self.output / "command.txt", command + "\n")

    @cached_property
    def data(self) -> RunData:
        """The videos, after all checks that need no training.

        Raises:
            DataError: If a subset has no truth or no readable video.
        """
        return on_first(self._read_data)

    def _read_data(self) -> RunData:
        section = self.recipe.data
        annotations = load_annotations(section.annotations)
        require_truth(annotations, section.train_subset)
        require_truth(annotations, section.eval_subset)
        cleaned, _ = annotations.clean()
        labels = cleaned.subset(section.train_subset).labels
        train, failed = self._truth(cleaned.subset(section.train_subset), labels)
        train = [video for video in train if len(video.labels)]
        if not train:
            raise DataError(f"No readable video of subset {section.train_subset!r} has a segment; nothing to train on.")
        kept, selection = split_selection(train, section.selection_share, self.seed)
        evaluation, lost = self._truth(cleaned.subset(section.eval_subset), labels)
        truth = read_json(section.annotations)
        return RunData(labels, kept, selection, evaluation, failed | lost, truth)

    @cached_property
    def class_scores(self) -> ClassScores | None:
        """The recipe's class scores from another system.

        Raises:
            DataError: If the file is malformed, or lacks an evaluated video or every class.
        """
        section, data = self.recipe.classifier, self.data
        if section.scores is None:
            return None
        if section.layout == "cuhk":
            scores = read_cuhk_scores(section.scores)
        else:
            entries = data.truth["database"].items()
            videos = [video_id for video_id, entry in entries if entry["subset"] == self.recipe.data.eval_subset]
            scores = read_hacs_scores(section.scores, sorted(data.labels), videos)
        if not set(scores.labels) & set(data.labels):
            raise DataError(
                f"{section.scores} scores none of the classes of {self.recipe.data.annotations}: it has "
                f"{', '.join(scores.labels[:3])}, ..., the annotations have {', '.join(data.labels[:3])}, ..."
            )
        for video in data.evaluation:
            scores.of(video.video_id)
        return scores

    @cached_property
    def published(self) -> PublishedFeatures:
        """The recipe's published features."""
        section = self.recipe.features
        if section is None:
            raise LofiError("The recipe has no published features (features.sources).")
        return PublishedFeatures(section.sources, self.recipe.snippets.count, resize=section.resize, axes=section.axes)

    @cached_property
    def pretrained(self) -> Path:
        """Folder of the encoder of stage 1, which is run if it is not up to date."""
        section = self.recipe.pretrain
        return self._start_encoder(self.output / "pretrain") if section is None else self._pretrain("pretrain", section)

    @cached_property
    def second(self) -> Path | None:
        """Folder of the second encoder, whose features stand beside those of the first.

        Unless its section equals that of the first, it is the very encoder that a run with this section alone trains.
        """
        section = self.recipe.second
        return None if section is None else self._pretrain("second", section)

    @cached_property
    def finetuned(self) -> Path:
        """Folder of the encoder of stage 1 after ACP+, if the recipe has it."""
        section = self.recipe.finetune
        if section is None:
            return self.pretrained
        start, data = self.pretrained, self.data
        train, validate, labels = excerpts(data.train, data.labels), excerpts(data.selection, data.labels), data.labels
        if section.background:
            if BACKGROUND in labels:
                raise LofiError(f"finetune.background: the data have a class named {BACKGROUND!r} already.")
            least = round(self.recipe.snippets.frames * self.recipe.snippets.stride)
            labels = (*labels, BACKGROUND)
            train += background(data.train, BACKGROUND, least=least)
            validate += background(data.selection, BACKGROUND, least=least)
        inputs = {"start": hash_file(start / "encoder.safetensors"), "data": content_hash(data.train)}
        return self._classify("finetune", section, inputs, lambda: self._saved_encoder(start), train, validate, labels)

    def _pretrain(self, name: str, section: PretrainSection) -> Path:
        """Run stage 1 on the trimmed clips; the clips that are not there or cannot be read go into its record."""
        train, validate, labels, missing = self._clips()
        inputs = {
            "encoder": self.recipe.encoder.model_dump(mode="json"),
            "weights": _weights_hash(self.recipe.encoder.weights),
        }
        twin = name != "pretrain" and section == self.recipe.pretrain  # which chance alone shall tell from the first
        return self._classify(
            name,
            section,
            inputs,
            self._new_encoder,
            train,
            validate,
            labels,
            stage_name=name if twin else "pretrain",
            task=section.task,
            missing=missing,
        )

    def _classify(
        self,
        name: str,
        section: PretrainSection | FinetuneSection,
        inputs: dict[str, Any],
        start: Callable[[], Encoder],
        train: list[Excerpt],
        validate: list[Excerpt],
        labels: Sequence[str],
        *,
        stage_name: str | None = None,
        task: str = "acp",
        missing: dict[str, str] | None = None,
    ) -> Path:
        """Train an encoder to classify clips in the folder ``name``, as a stage of that name or another."""
        stage_name = stage_name or name
        stage = self._open(
            self.output / name,
            stage_name,
            {
                **inputs,
                "snippets": self.recipe.snippets.model_dump(mode="json", include={"frames", "stride", "size"}),
                "pretrain": section.model_dump(mode="json"),
                "flip": self.recipe.data.flip,
                "clips": hash_object([[c.label, c.file.stamp, c.start, c.duration] for c in [*train, *validate]]),
            },
        )
        if stage.record:
            return stage.path
        encoder = self._ready(start())
        options = PretrainOptions(
            **section.model_dump(exclude={"task", "background", "sampling", "multi_scale"}),
            task=task,
            size=self.recipe.snippets.size,
            workers=self.recipe.data.workers,
            seed=derive_seed(self.seed, stage_name),
        )
        whole = whole_files_fit([*train, *validate], options.size, self.recipe.data.cache_gib * 2**30)

        def dataset(clips: list[Excerpt]) -> ClipDataset:
            return ClipDataset(
                clips,
                frames=self.recipe.snippets.frames,
                stride=self.recipe.snippets.stride,
                sampling="pace" if task == "speed" else section.sampling,
                cache=self.cache,
                whole=whole,
                multi_scale=section.multi_scale,
                flip=self.recipe.data.flip,
            )

        outcome = pretrain(
            stage,
            self.fabric,
            encoder,
            train=dataset(train),
            validate=dataset(validate) if validate else None,
            labels=labels,
            options=options,
            quiet=self.quiet,
        )
        outcome.result["missing_clips"] = missing or {}
        return self._finish_encoder(stage, encoder, outcome)

    @cached_property
    def optimised(self) -> Path:
        """Folder of the encoder of stage 2, which is run (after what it needs) if it is not up to date.

        Raises:
            RunError: If it runs out of memory; the message says what was predicted, what was used, and what would fit.
        """
        overwrite = self.overwrite
        while True:
            try:
                return self._optimise(overwrite)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                used = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else PeakMemory.resident()
                traceback.clear_frames(error.__traceback__)  # which hold the tensors of the step
                free_unused()
                smaller, message = self._after_out_of_memory(used)
                if smaller is None or not self.step_down:
                    raise RunError(message) from error
                self.recipe, overwrite = planned(self.recipe, smaller), True  # this stage alone is begun again
                if not self.quiet and self.fabric.global_rank == 0:
                    Console(stderr=True).print(message, highlight=False, markup=False, soft_wrap=True)
            free_unused()

    def _planned(self, recipe: Recipe, memory: int) -> Plan:
        """Plan stage 2 for the devices and the precision of this run; half precisions need the same memory."""
        taken = "fp32" if precision_of(self.fabric) == "fp32" else "bf16"
        known = None if self.plan is None else self.plan.model
        return plan_recipe(recipe, memory, devices=self.fabric.world_size, precision=taken, model=known)

    def _after_out_of_memory(self, used: int) -> tuple[Choice | None, str]:
        """Return the next choice that needs less memory than what has just been tried, and a message."""
        section = self.recipe.lofi
        assert section is not None
        self.plan = plan = self._planned(self.recipe, 2**50)
        tried = next(
            choice
            for choice in plan.choices
            if (choice.schedule, choice.r_t, choice.strategy.name) == (section.schedule, section.r_t, section.strategy)
        )
        tried = in_parts(plan, tried, section.accumulate)
        smaller = next_smaller(plan, tried)
        message = (
            f"Stage 2 ran out of memory: {tried.strategy}, accumulate={tried.parts} was predicted to need "
            f"{tried.peak / 2**30:.2f} GiB, and {used / 2**30:.2f} GiB were in use."
        )
        if smaller is None:
            return None, f"{message} Nothing smaller is known: lower snippets.size, snippets.frames or the encoder."
        how = f"lofi.strategy={smaller.strategy.name} lofi.accumulate={smaller.parts}"
        if smaller.r_t != section.r_t:
            how += f" lofi.r_t={smaller.r_t:g} lofi.r_s={smaller.r_s:.4g}"
        return smaller, f"{message} The next that needs less ({smaller.peak / 2**30:.2f} GiB): --set {how}" + (
            "; going on with it." if self.step_down else "; or add --step-down, or say --memory."
        )

    def _optimise(self, overwrite: bool) -> Path:
        section = self.recipe.lofi
        schedule = self.schedule
        assert section is not None
        start, data = self.finetuned, self.data
        stage = self._open(
            self.output / "lofi",
            "lofi",
            {
                "start": hash_file(start / "encoder.safetensors"),
                "lofi": section.model_dump(mode="json"),
                "head": self.recipe.head.model_dump(mode="json", include={"name", "options"}),
                "snippets": self.recipe.snippets.record(),
                "flip": self.recipe.data.flip,
                "data": content_hash(data.train),
            },
            overwrite=overwrite,
        )
        if stage.record:
            return stage.path
        encoder = self._ready(self._saved_encoder(start))
        torch.manual_seed(derive_seed(self.seed, "lofi head"))
        outcome = train_lofi(
            stage,
            self.fabric,
            encoder,
            self._new_head(encoder.channels),
            videos=self._stage2_videos,
            classes=len(data.labels),
            schedule=schedule,
            full=self.full,
            options=LofiOptions(
                **section.model_dump(exclude={"schedule", "r_t", "r_s", "c_l", "c_s", "cycle"}),
                workers=self.recipe.data.workers,
                seed=derive_seed(self.seed, "lofi"),
            ),
            quiet=self.quiet,
        )
        return self._finish_encoder(stage, encoder, outcome)

    def features(self, arm: str) -> tuple[FeatureSet, str, dict[str, str]]:
        """Return the features of all videos for an arm: extracted with its encoder, or published ones.

        Returns:
            The videos and their features, a hash of what these come from, and the reason for each video without.
        """
        if arm != "features":
            store, videos, failed = self.extract(arm)
            return FeatureSet(videos, list(map(store.read, videos))), store.provenance, failed
        data, published = self.data, self.published
        videos, arrays, failed = [], [], {}
        everything = [*data.train, *data.selection, *data.evaluation]
        with Progress("features", len(everything), quiet=self.quiet) as progress:
            for video in everything:
                try:
                    arrays.append(published.read(video.video_id, self.windows.snippets(video.file.duration)))
                    if arrays[-1].shape[0] != arrays[0].shape[0]:
                        raise DataError(f"{arrays.pop().shape[0]} channels, but {arrays[0].shape[0]} in those before")
                    videos.append(video)
                except DataError as error:
                    failed[video.video_id] = str(error)
                progress.advance(video.video_id)
        if not arrays:
            raise DataError(f"No features can be read; the first: {next(iter(failed.values()))}")
        self._check_read(failed)
        return FeatureSet(videos, arrays), published.provenance, failed

    def extract(self, arm: str) -> tuple[FeatureStore, list[TruthVideo], dict[str, str]]:
        """Extract the features of all videos with the encoder of an arm.

        Returns:
            The features, the videos that have them, and the reason for each other video.
        """
        source = self._encoder_folder(arm)
        data = self.data
        provenance = {
            "encoder": hash_file(source / "encoder.safetensors"),
            **({} if self.second is None else {"second": hash_file(self.second / "encoder.safetensors")}),
            "snippets": self.recipe.snippets.record(cut=False),
            "precision": str(self.fabric.strategy.precision.precision),
            **self.decoder,
            **self.compiled,
        }
        folder = self.output / "arms" / arm / "features"
        if self.shared is not None:
            folder = self.shared / f"features-{hash_object(provenance)}"
        store = FeatureStore(folder, provenance)
        facts = folder.with_suffix(".json")
        videos = [*data.train, *data.selection, *data.evaluation]
        with self.alone_in(folder), self.leases(folder) as leases:
            figures, failed = extract(
                store,
                self.fabric,
                self._ready(self._whole_encoder(arm)),
                videos=self._snippets(videos),
                windows=self.windows,
                fidelity=self.full,
                workers=self.recipe.data.workers,
                leases=leases,
                quiet=self.quiet,
            )
            self._check_read(failed)
            if self.fabric.global_rank == 0 and (figures["new"] or not facts.exists()):
                write_json(facts, {**figures, "provenance": provenance, "failed": failed})
        return store, usable(videos, failed), failed

    def head(self, arm: str) -> ArmResult:
        """Run stage 3 on the encoder of an arm: features, head, detections, mAP, localiser."""
        data, external = self.data, self.class_scores
        features, provenance, failed = self.features(arm)
        folder = self.output / "arms" / arm
        section, detect = self.recipe.head, DetectOptions(**self.recipe.detect.model_dump())
        seed = derive_seed(self.seed, "head")
        inputs = {
            "features": provenance,
            "head": section.model_dump(mode="json", exclude={"lrs", "refit"}),
            "data": content_hash([*data.train, *data.selection]),
        }
        if self.windows.seconds is not None:
            inputs["windows"] = vars(self.windows)
        tiou = THRESHOLDS[self.recipe.data.tiou]
        if self.recipe.data.tiou != "activitynet":
            inputs["tiou"] = list(tiou)
        evaluation = self._open(
            folder / "evaluation",
            f"evaluation of {arm}",
            {
                **inputs,
                "search": section.model_dump(mode="json", include={"lrs", "refit"}),
                "classifier": self.recipe.classifier.model_dump(mode="json"),
                "class_scores": self.recipe.classifier.scores and hash_file(self.recipe.classifier.scores),
                "detect": self.recipe.detect.model_dump(mode="json"),
                "truth": hash_file(self.recipe.data.annotations),
                "evaluated": content_hash(data.evaluation),
            },
            resume=True,
        )
        if evaluation.record and (folder / "model" / "localizer.json").exists():
            result = evaluation.record.result
            return ArmResult(arm, result["scores"], result["chosen"], folder / "model", failed)
        began = time.monotonic()
        head, classifier, chosen = search_head(
            folder / "head",
            self.exact,
            lambda: self._new_head(features.channels),
            train=features.of(usable(data.train, failed)),
            selection=features.of(usable(data.selection, failed)),
            windows=self.windows,
            labels=data.labels,
            options=HeadOptions(**section.model_dump(exclude={"name", "options"}), seed=seed),
            class_options=self._class_options(seed),
            detect=detect,
            tiou=tiou,
            inputs=inputs,
            resume=True,
            overwrite=self.overwrite,
            quiet=self.quiet,
        )

        def finish() -> dict[str, dict[str, Any]]:
            localizer = Localizer(
                encoder=None if arm == "features" else self._whole_encoder(arm),
                encoder_name=self.recipe.encoder.name if self.recipe.second is None else "joined",
                head=head,
                classifier=classifier,
                labels=data.labels,
                snippets=self.recipe.snippets.record(),
                detect=DetectOptions(**{**self.recipe.detect.model_dump(), "pooling": chosen["pooling"]}),
                threshold=chosen["threshold"],
                decoder=self.cache.decoder,
                facts={"recipe": self.recipe.name, "arm": arm, "seed": self.seed, "chosen": chosen},
                device=self.device,
                precision=self.precision,
            )
            localizer.save_pretrained(folder / "model")
            validation = features.of(usable(data.evaluation, failed))
            found = localizer.localise_features(validation.features)
            fused = [
                localizer.fuse(video.video_id, video.duration, one, proposals)
                for video, one, proposals in zip(validation.videos, validation.features, found, strict=True)
            ]
            write_json(folder / "detections.json", detections_to_activitynet(fused))
            subset = self.recipe.data.eval_subset
            scores = evaluate(data.truth, subset, validation.videos, found, fused, data.labels, tiou).to_json()
            if external is not None:
                with_file = [
                    with_class_scores(video.video_id, video.duration, proposals, external, detect.classes)
                    for video, proposals in zip(validation.videos, found, strict=True)
                ]
                write_json(folder / "detections-external.json", detections_to_activitynet(with_file))
                scores["external"] = evaluate_known(data.truth, subset, with_file, tiou).to_json()
            outcome = Outcome(
                time.monotonic() - began, chosen["peak_memory_bytes"], {"scores": scores, "chosen": chosen}
            )
            evaluation.finish(outcome)
            return scores

        scores = on_first(finish)
        return ArmResult(arm, scores, chosen, folder / "model", failed)

    def classify(self, arm: str) -> Classification:
        """Fit the built-in classifier alone on the features of an arm, and score every evaluated video as a whole."""
        data, (features, _, failed) = self.data, self.features(arm)
        train = features.of(usable([*data.train, *data.selection], failed))
        options = self._class_options(derive_seed(self.seed, "head"))
        classifier = fit_on(train, len(data.labels), options)
        evaluated = features.of(usable(data.evaluation, failed))
        alphabetical = sorted(range(len(data.labels)), key=data.labels.__getitem__)  # as HACS numbers its classes
        labels = tuple(data.labels[kind] for kind in alphabetical)
        scores = {
            video.video_id: video_probabilities(classifier, one).double().numpy()[alphabetical]
            for video, one in zip(evaluated.videos, evaluated.features, strict=True)
        }
        ranked = [
            [
                data.labels.index(labels[kind]) in video.labels.tolist()
                for kind in scores[video.video_id].argsort(kind="stable")[::-1]
            ]
            for video in evaluated.videos
            if len(video.labels)
        ]
        accuracy = {f"top{n}": sum(any(row[:n]) for row in ranked) / max(1, len(ranked)) for n in (1, 5)}
        order = [
            key for key, entry in data.truth["database"].items() if entry["subset"] == self.recipe.data.eval_subset
        ]
        return Classification(ClassScores(labels, scores), accuracy, order, failed)

    def run(self) -> list[ArmResult]:
        """Run everything that is not up to date and return the arms."""
        _ = self.data  # what is wrong with the data is said before any training
        return [self.head(arm) for arm in self.arms]

    def stage_records(self) -> list[ReportStage]:
        """Return the finished stages with their metrics, in order, for the report."""
        folders = {name: self._place(name) for name in ("pretrain", "second", "finetune", "lofi")}
        for arm in self.arms:
            trainings = (self.output / "arms" / arm / "head").glob("*/stage.json")
            for path in sorted(trainings, key=lambda path: path.stat().st_mtime):
                folders[f"{arm} {read_json(path)['stage']}"] = path.parent
        found = []
        for name, folder in folders.items():
            if not (folder / "stage.json").exists():
                continue
            record = StageRecord(**read_json(folder / "stage.json"))
            name = record.stage if record.stage == "start" else name  # weights that were only taken over
            metrics = folder / "metrics.jsonl"
            lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
            rows = [json.loads(line) for line in lines]
            found.append(ReportStage(name, record.seconds, record.peak_memory_bytes, folder in self.skipped, rows))
        return found

    def lost_in_training(self) -> dict[Path, dict[str, str]]:
        """Return the videos and clips that trainings of an encoder had to do without and why, by the stage's record."""
        results = {self.places[name] / "stage.json": result for name, result in self._training_results().items()}
        lost = {
            path: result.get("missing_clips", {}) | result.get("unreadable", {}) for path, result in results.items()
        }
        return {path: reasons for path, reasons in lost.items() if reasons}

    def clip_accuracies(self) -> dict[str, dict[str, Any]]:
        """Return, for each finished training on clips that had a validation split, its accuracy there."""
        return {name: result for name, result in self._training_results().items() if "accuracy" in result}

    def _training_results(self) -> dict[str, dict[str, Any]]:
        """Return the results of the stages that train an encoder, those that this run needs and that are finished."""
        paths = {name: folder / "stage.json" for name, folder in self.places.items()}
        return {name: StageRecord(**read_json(path)).result for name, path in paths.items() if path.exists()}

    def detections(self, arm: str, *, external: bool = False) -> dict[str, Segments]:
        """Return the detections of an arm by video id, with its own class scores or with those of another system."""
        name = "detections-external.json" if external else "detections.json"
        results = read_json(self.output / "arms" / arm / name)["results"]
        return {video_id: Segments.from_activitynet(video_id, records) for video_id, records in results.items()}

    def _truth(self, annotations: Annotations, labels: Sequence[str]) -> tuple[list[TruthVideo], dict[str, str]]:
        """Return the videos of one subset that have a video file or features, and the reason for each other one."""
        if self.recipe.features is not None:
            files, failed = find_features(annotations, self.published)
        else:
            assert self.recipe.data.videos is not None
            files, failed = find_files(annotations, self.recipe.data.videos, self.manifest)
        self._check_losses(failed, len(annotations))
        return truth_videos(annotations, files, failed, labels), failed

    def _check_read(self, failed: dict[str, str]) -> None:
        """Stop a run that has features of too few videos of a subset; ``failed`` says why of each without them."""
        data = self.data
        for videos in ([*data.train, *data.selection], data.evaluation):
            ids = [video.video_id for video in videos]
            self._check_losses({video_id: failed[video_id] for video_id in ids if video_id in failed}, len(ids))

    def _check_losses(self, failed: dict[str, str], count: int) -> None:
        """Stop a run that has lost too many of its videos.

        Raises:
            DataError: If the share is above data.max_lost; the message names the first of them.
        """
        limit = self.recipe.data.max_lost
        if len(failed) > limit * count:
            video_id, reason = next(iter(failed.items()))
            what, hint = (
                ("videos", " `lofi data check` lists them all.") if self.recipe.features is None else ("features", "")
            )
            raise DataError(
                f"{len(failed)} of {count} {what} cannot be read, more than data.max_lost={limit:g} allows; the first, "
                f"{video_id}: {reason.removesuffix('.')}.{hint}"
            )

    def _class_options(self, seed: int) -> ClassifierOptions:
        section = self.recipe.classifier.model_dump(exclude={"scores", "layout"})
        return ClassifierOptions(**section, seed=seed)

    @contextlib.contextmanager
    def alone_in(self, folder: Path) -> Iterator[None]:
        """Hold a folder that runs share: wait for another process that makes what is in it, and keep others out."""
        if self.shared is None or self.shared not in folder.parents:
            yield
            return
        lock = folder.with_name(f"{folder.name}.lock")
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(lock, "held"))
            except LofiError:
                if not self.quiet:
                    said = f"Waiting for another process, which is making {folder.name}."
                    Console(stderr=True).print(said, highlight=False, markup=False, soft_wrap=True)
                stack.enter_context(locked(lock, "held", wait=True))
            yield

    def leases(self, folder: Path) -> contextlib.AbstractContextManager[Leases | None]:
        """Return what shares the work whose results lie in ``folder``, if this run shares any."""
        if self.patience is None:
            return contextlib.nullcontext()
        return Leases(folder.with_name(f"{folder.name}.leases"), self.patience, results=folder)

    def _open(
        self, folder: Path, stage: str, inputs: dict[str, Any], *, resume: bool = False, overwrite: bool = False
    ) -> StageFolder:
        """Open a stage; ``resume``: go on with it, ``overwrite``: begin it again, even if nobody asked.

        A stage that runs share, and that is not finished, is this run's alone until :meth:`_finish_encoder`.
        """
        precision = str(self.fabric.strategy.precision.precision)
        inputs = {**inputs, "seed": self.seed, "precision": precision, **self.decoder, **self.compiled}
        name = folder.name if folder.parent == self.output else ""
        if self.shared is not None and name:  # each in a folder of its own, which any run of these inputs goes on with
            folder, resume = self.shared / f"{stage}-{hash_object([stage, inputs])}", True
            self.held.close()  # of a stage that failed: it is given up before another one, or the same, is begun
            self.held.enter_context(self.alone_in(folder))
        if self.patience is not None and not (folder / "stage.json").exists():
            raise LofiError(
                f"{folder} holds no finished stage {stage!r}, which only one run can make: run "
                f"`lofi {'train' if stage == 'lofi' else 'pretrain'}` first. --share divides what comes after it."
            )
        opened = on_first(
            lambda: open_stage(
                folder, stage, inputs, resume=self.resume or resume, overwrite=self.overwrite or overwrite
            )
        )
        if name:
            self.places[name] = folder
        if opened.record:
            self.skipped.add(folder)
            self.held.close()
        return opened

    @property
    def interrupted(self) -> bool:
        """Whether a stage has been begun that another run goes on with only if it is told to resume."""
        return self.shared is None and any(not (path / "stage.json").exists() for path in self.places.values())

    @property
    def decoder(self) -> dict[str, str]:
        """What decodes, where it is not the usual one: its pictures differ by rounding."""
        return {} if self.cache.decoder == "pyav" else {"decoder": self.cache.decoder}

    @property
    def compiled(self) -> dict[str, str]:
        """How encoders are compiled, if they are: their features differ by rounding."""
        return {} if self.compile == "off" else {"compile": self.compile}

    def _place(self, name: str) -> Path:
        """Return the folder of a stage that trains an encoder."""
        return self.places.get(name, self.output / name)

    def _encoder_folder(self, arm: str) -> Path:
        if arm not in self.arms:
            raise LofiError(f"arm {arm!r} is not one of this recipe's: {', '.join(self.arms)}.")
        if arm == "features":
            raise LofiError("The recipe has published features: there is no encoder to extract with; run `lofi head`.")
        return self.optimised if arm == "lofi" else self.finetuned

    def _whole_encoder(self, arm: str) -> Encoder:
        """Return the encoder of an arm, with the second one beside it if there is one."""
        encoder, name = self._saved_encoder(self._encoder_folder(arm)), self.recipe.encoder.name
        if self.second is None:
            return encoder
        return JoinedEncoder([encoder, self._saved_encoder(self.second)], [name, name])

    def _snippets(
        self, videos: Sequence[TruthVideo], *, flip: bool = False, fidelities: Sequence[Fidelity] = ()
    ) -> SnippetDataset:
        section, cache = self.recipe.snippets, self.cache
        return SnippetDataset(
            videos, frames=section.frames, stride=section.stride, cache=cache, flip=flip, fidelities=fidelities
        )

    @property
    def _stage2_videos(self) -> SnippetDataset:
        videos = training_windows(self.data.train, self.windows)
        return self._snippets(videos, flip=self.recipe.data.flip, fidelities=self.schedule.fidelities)

    def fill_cache(self) -> tuple[bool, dict[str, str]]:
        """Decode every video, for all that stage 2, which comes first, and the extraction will ask of it.

        Returns:
            Whether everything fits, and the reason for each video that could not be decoded. What is left when
            something does not fit is not decoded.

        Raises:
            LofiError: If the recipe has no cache or no videos.
        """
        if self.cache.folder is None or self.recipe.features is not None:
            raise LofiError("There is nothing to cache: data.cache_gib is 0, or the recipe has published features.")
        data, failed = self.data, dict(self.data.failed)
        parts: list[tuple[SnippetDataset, Sequence[Fidelity]]] = []
        if self.recipe.lofi is not None:
            parts.append((self._stage2_videos, self.schedule.fidelities))
        if self.windows.seconds is None:  # windows are read in pieces, which training does not share
            parts.append((self._snippets([*data.train, *data.selection, *data.evaluation]), [self.full]))
        for videos, fidelities in parts:
            title = "cache " + ", ".join(map(str, fidelities))
            with Progress(title, len(videos), quiet=self.quiet) as progress, self.leases(self.cache.folder) as leases:
                for index, kept, reason in fill(videos, fidelities, self.recipe.data.workers, leases):
                    video_id = videos.videos[index].video_id
                    if reason:
                        failed[video_id] = reason
                    elif not kept:
                        return False, failed
                    progress.advance(video_id)
        return True, failed

    def _new_encoder(self) -> Encoder:
        section = self.recipe.encoder
        if section.weights is not None and section.weights.is_dir():
            return self._saved_encoder(section.weights)
        torch.manual_seed(derive_seed(self.seed, "encoder"))
        encoder = create_encoder(section.name, **section.options)
        path = section.weights if section.pretrained is None else public_weights(section.pretrained, section.name)
        if path is not None:
            report = load_weights(encoder, path)
            if not self.quiet and self.fabric.global_rank == 0:
                Console(stderr=True).print(f"{path}: {report}", highlight=False, markup=False, soft_wrap=True)
        return encoder

    def _saved_encoder(self, folder: Path) -> Encoder:
        return load_encoder(folder, trusted=self.recipe.encoder.name)  # the recipe is the user's; a folder may not be

    def _new_head(self, channels: int) -> Head:
        section = self.recipe.head
        classes = {"num_classes": len(self.data.labels)} if takes_classes(section.name) else {}
        return create_head(section.name, channels, **{**classes, **section.options})

    def _start_encoder(self, folder: Path) -> Path:
        """Write the encoder that the recipe starts from, where there is no stage 1."""
        inputs = {
            "encoder": self.recipe.encoder.model_dump(mode="json"),
            "weights": _weights_hash(self.recipe.encoder.weights),
        }
        stage = self._open(folder, "start", inputs)
        return stage.path if stage.record else self._finish_encoder(stage, self._new_encoder(), Outcome(0.0, 0, {}))

    def _finish_encoder(self, stage: StageFolder, encoder: Encoder, outcome: Outcome) -> Path:
        if self.fabric.global_rank == 0:
            save_encoder(encoder, self.recipe.encoder.name, stage.path, {"stage": stage.stage, "inputs": stage.inputs})
            stage.finish(outcome)
        self.held.close()
        self.fabric.barrier()
        return stage.path

    def _clips(self) -> tuple[list[Excerpt], list[Excerpt], list[str], dict[str, str]]:
        """Return readable clips for training and validation, the classes, and what cannot be read."""
        return on_first(self._read_clips)

    def _read_clips(self) -> tuple[list[Excerpt], list[Excerpt], list[str], dict[str, str]]:
        section = self.recipe.data
        if section.clips is None or section.clips_root is None:
            raise LofiError(
                "Stage 1 needs data.clips (a CSV label,youtube_id,time_start,time_end,split) and data.clips_root; "
                "without clips set `pretrain: null`, and encoder.weights or encoder.pretrained."
            )
        clips, missing = load_clip_list(section.clips, section.clips_root)
        files, failed = video_files({str(clip.path): clip.path for clip in clips}, self.manifest)
        good = [(clip, Excerpt.whole(files[str(clip.path)], clip.label)) for clip in clips if str(clip.path) in files]
        train = [excerpt for clip, excerpt in good if clip.split == "train"]
        labels = sorted({excerpt.label for excerpt in train})
        validate = [excerpt for clip, excerpt in good if clip.split != "train" and excerpt.label in set(labels)]
        return train, validate, labels, {str(name): "no such file" for name in missing} | failed


def _noted(folder: Path, name: str, allowed: Sequence[str]) -> str | None:
    """Return what the run in a folder has taken, if there is one."""
    try:
        noted = read_json(folder / "environment.json")[name]
    except (DataError, KeyError, TypeError):  # no run, or one of an earlier version
        return None
    return noted if noted in allowed else None


_NO_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    "out of memory",
    "_STATUS_ALLOC_FAILED",  # cuBLAS, cuDNN
    "STATUS_INSUFFICIENT_RESOURCES",  # cuSPARSE
    "unable to find an engine",  # cuDNN, when none has room to work in
)


def _is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, on the GPU or on the CPU."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in text for sign in _NO_MEMORY)


def plan_recipe(
    recipe: Recipe,
    budget: int,
    *,
    devices: int = 1,
    precision: str = "auto",
    search: bool = True,
    model: StepModel | None = None,
) -> Plan:
    """Look at every way to train a recipe's stage 2 under a budget of ``budget`` bytes a device.

    Args:
        recipe: The recipe; the lengths of its training segments, as shares of the video or window, are read from its
            annotations, if they are there.
        budget: Bytes.
        devices: Number of devices.
        precision: ``auto`` (what a run would take first, then the other), ``both``, ``fp32`` or ``bf16``.
        search: Look at other ratios than the recipe's as well.
        model: Of an earlier plan for the same encoder and head.

    Raises:
        LofiError: If the recipe has no stage 2, or an argument is out of range.
    """
    if precision not in ("auto", "both", "fp32", "bf16"):
        raise LofiError(f"precision {precision!r} is unknown; allowed: auto, both, fp32, bf16.")
    precisions: tuple[str, ...] = (precision,)
    if precision in ("auto", "both"):
        cuda = torch.cuda.is_available()
        precisions = ("bf16", "fp32") if auto_precision("cuda" if cuda else "cpu") == "bf16" else ("fp32", "bf16")
        precisions = precisions if precision == "both" or cuda else precisions[:1]
    section, lengths, labels = recipe.encoder, [], 1
    if recipe.data.annotations.exists():
        videos = load_annotations(recipe.data.annotations, strict=False).clean()[0].subset(recipe.data.train_subset)
        labels = max(1, len(videos.labels))
        for video in videos:
            whole = recipe.snippets.window or video.duration
            if whole:
                lengths += ((video.segments.end - video.segments.start) / whole).tolist()
    if model is None:
        encoder = create_encoder(section.name, **section.options)
        classes = {"num_classes": labels} if takes_classes(recipe.head.name) else {}
        head = create_head(recipe.head.name, encoder.channels, **{**classes, **recipe.head.options})
        optimizer, momentum = ("sgd", 0.0) if recipe.lofi is None else (recipe.lofi.optimizer, recipe.lofi.momentum)
        model = StepModel(encoder, head, frames=recipe.snippets.frames, optimizer=optimizer, momentum=momentum)
    return make_plan(
        recipe, model, budget=budget, devices=devices, precisions=precisions, search=search, lengths=lengths
    )


def _weights_hash(path: Path | None) -> str | None:
    if path is None:
        return None
    return hash_file(path / "encoder.safetensors" if path.is_dir() else path)


def write_run_report(pipeline: Pipeline, results: list[ArmResult], *, command: str = "", most: int = 3) -> Path:
    """Write ``report.html`` (and ``report.json``) of a run and return its path.

    Args:
        pipeline: The run.
        results: Its arms.
        command: How it was started.
        most: Number of videos shown on a timeline.
    """
    data, recipe = pipeline.data, pipeline.recipe
    timelines = [
        TimelineEntry(
            video_id=video.video_id,
            video=video.file.path,
            truth=video.to_segments(data.labels),
            detections=pipeline.detections(result.arm)[video.video_id],
            arm=result.arm,
            threshold=result.chosen["threshold"],
        )
        for video in [v for v in data.evaluation if len(v.labels)][:most]
        for result in results
        if video.video_id not in result.failed
    ]
    machine = environment()
    facts = {
        "command": command,
        "seed": str(recipe.seed),
        "device": describe_device(pipeline.fabric),
        "processor": f"{machine['processor']}, {machine['cores']} cores",
        "videos": f"{len(data.train)} training, {len(data.selection)} selection, {len(data.evaluation)} evaluation",
        "classes": str(len(data.labels)),
        "full fidelity": str(pipeline.full),
        "low fidelity": ", ".join(map(str, pipeline.schedule.fidelities)) if recipe.lofi else "none",
        "versions": ", ".join(f"{name} {version}" for name, version in machine["versions"].items()),
    }
    lost = dict(data.failed)
    for result in results:
        lost |= result.failed
    notes = [f"{video_id} was left out: {reason}" for video_id, reason in lost.items()]
    for record, reasons in pipeline.lost_in_training().items():
        notes.append(f"{len(reasons)} files could not be read in training; {record} lists them all")
    if cut := cut_actions(data.train, pipeline.windows):
        notes.append(
            f"{cut} of {sum(len(video.labels) for video in data.train)} training actions lie whole in no window of "
            f"{pipeline.windows.seconds:g} s: raise snippets.window to twice the length of the longest actions"
        )
    report = Report(
        title=recipe.name,
        subtitle="temporal action localisation: own class scores, class-agnostic, and with the true class",
        arms=[Arm(result.arm, ARMS[result.arm], result.scores) for result in results],
        stages=pipeline.stage_records(),
        timelines=timelines,
        facts=facts,
        notes=notes,
        lengths={
            name: [float(e - s) * video.duration for video in videos for s, e in video.segments.tolist()]
            for name, videos in (("training", [*data.train, *data.selection]), ("evaluation", data.evaluation))
        },
    )
    path = pipeline.output / "report.html"
    write_report(path, report)
    return path
