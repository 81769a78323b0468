"""The whole way from raw video to a localisation report: stages in order, each skipped if it is up to date."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from lofi_tal.artefacts import sealed
from lofi_tal.config import Recipe
from lofi_tal.data import SnippetDataset, TruthVideo, fill
from lofi_tal.errors import LofiError
from lofi_tal.features import FeatureSet, FeatureStore
from lofi_tal.fidelity import Fidelity
from lofi_tal.files import write_json, write_text
from lofi_tal.planning import Plan
from lofi_tal.progress import Progress
from lofi_tal.recipes.writing import save_recipe, with_absolute_paths
from lofi_tal.run.arms import ArmResult, ArmRun, Classification, read_detections
from lofi_tal.run.context import Context, arm_folder
from lofi_tal.run.folder import RunFolder
from lofi_tal.run.labels import note_labels
from lofi_tal.run.memory import fitting_recipe
from lofi_tal.run.origin_files import copy_origin, origin_of
from lofi_tal.run.parts import check_parts
from lofi_tal.run.training import Training, held_out_looks
from lofi_tal.runtime import (
    COMPILE,
    PRECISIONS,
    check_common_folder,
    check_compile,
    environment,
    on_first,
    precision_of,
)
from lofi_tal.segments import Segments
from lofi_tal.tracking import check_tracking


class Run(Context):
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
        start_from: Folder of a finished run, of an arm of it, or of a model: stage 2 and the head start from its
            weights, and stage 1 is skipped. None goes on as the run in ``output`` began.

    Raises:
        LofiError: If there is nothing to resume, nothing fits into ``memory``, ``step_down`` is asked of several
            processes, or nothing finished lies in ``start_from``.
    """

    def __init__(
        self,
        recipe: Recipe,
        output: Path | str,
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
        start_from: Path | str | None = None,
    ) -> None:
        check_tracking(recipe.tracking)
        folder = RunFolder(
            Path(output),
            shared=shared,
            patience=patience,
            resume=resume,
            overwrite=overwrite,
            tracking=recipe.tracking,
        )
        if precision == "auto":
            precision = folder.noted("precision", PRECISIONS) or precision
        if compile in (None, "auto"):
            compile = folder.noted("compile", COMPILE) or compile
        compile = compile or "off"
        check_compile(compile, "plain" if recipe.lofi is None else recipe.lofi.strategy)
        origin = origin_of(folder, start_from)
        super().__init__(
            recipe, folder, device=device, precision=precision, compile=compile, quiet=quiet, origin=origin
        )
        if step_down and self.fabric.world_size > 1:
            raise LofiError(
                f"--step-down needs a run of one process, this one has {self.fabric.world_size}: a process that runs "
                "out of memory cannot take the others with it. Choose with --memory instead."
            )
        self.plan: Plan | None = None
        if memory is not None and recipe.lofi is not None:
            self.recipe, self.plan = fitting_recipe(recipe, self.fabric, memory)
        self.training = Training(self, step_down=step_down)

    @contextlib.contextmanager
    def open(self, command: str = "", *, trains: bool = True) -> Iterator[None]:
        """Hold the run folder: note what was asked for, and keep a second run out, unless both share their work.

        Args:
            command: How the run was started.
            trains: Encoders are run: precision and the way to compile are noted, and those of a run that exists stay.

        Raises:
            LofiError: If another process is at work in the folder, or shares the work of a run that does not exist.
        """
        sharing = self.folder.patience is not None
        if sharing and trains and not self.folder.exists:
            raise LofiError(
                f"There is no run in {self.folder.path} whose work could be shared; run `lofi train` first."
            )
        cache = (
            () if self.cache.folder is None or self.cache.folder == self.folder.path / "cache" else (self.cache.folder,)
        )
        with self.folder.lock(*cache) if self.first else contextlib.nullcontext():
            check_common_folder(self.folder.path)
            if self.compile == "auto" and trains:
                self.compile = on_first(self.fastest_way)
            if trains:
                check_parts(self)
            if (origin := self.origin) is not None:  # before anything else is written there
                self.origin = on_first(lambda: copy_origin(origin, self))
            if trains and not self.folder.exists:
                self._note(command)
            yield
            self.fabric.barrier()  # one that leaves early would be missed
            if trains and not sharing:
                self._note(command)  # only now: a refused recipe must not stand beside the results of another

    def _note(self, command: str) -> None:
        """Write what was asked for and where it runs."""
        if self.first:
            write_text(self.folder.path / "recipe.yaml", save_recipe(with_absolute_paths(self.recipe)))
            facts = {**environment(), "precision": precision_of(self.fabric), "compile": self.compile}
            if self.origin is not None:
                facts["from"] = self.origin.facts
            write_json(self.folder.path / "environment.json", sealed(facts))
            if (data := self.known_data) is not None:
                note_labels(self.output, data)
            if command:
                write_text(self.folder.path / "command.txt", command + "\n")

    def ensure(self, stage: str) -> Path | None:
        """Return the folder of an encoder; its stage, and those before it, are run if they are not up to date.

        Args:
            stage: ``pretrain``, ``second`` (None if the recipe has none), ``finetune`` or ``lofi``.

        Raises:
            RunError: If stage 2 runs out of memory.
        """
        return self.training.ensure(stage)

    def _arm(self, name: str) -> ArmRun:
        return ArmRun(name, self, self.training)

    def extract(self, arm: str) -> tuple[FeatureStore, list[TruthVideo], dict[str, str]]:
        """Extract the features of all videos with the encoder of an arm; see :meth:`ArmRun.extract`."""
        return self._arm(arm).extract()

    def features(self, arm: str) -> tuple[FeatureSet, str, dict[str, str]]:
        """Return the features of all videos for an arm; see :meth:`ArmRun.read`."""
        return self._arm(arm).read()

    def head(self, arm: str) -> ArmResult:
        """Run stage 3 on the encoder of an arm: features, head, detections, mAP, localiser."""
        return self._arm(arm).head()

    def classify(self, arm: str) -> Classification:
        """Fit the built-in classifier alone on the features of an arm, and score every evaluated video as a whole."""
        return self._arm(arm).classify()

    def run(self) -> list[ArmResult]:
        """Run everything that is not up to date and return the arms."""
        data = self.data()  # what is wrong with the data is said before any training
        on_first(lambda: note_labels(self.output, data, first=True))
        return [self.head(arm) for arm in self.arms]

    def detections(self, arm: str, *, external: bool = False) -> dict[str, Segments]:
        """Return the detections of an arm by video id, with its own class scores or with those of another system."""
        return read_detections(arm_folder(self.folder.path, arm), external=external)

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
        data = self.data()
        failed, parts = dict(data.failed), list[tuple[SnippetDataset, Sequence[Fidelity]]]()
        if self.recipe.lofi is not None:
            parts.append((self.stage2_videos(), self.schedule.fidelities))
            if looks := held_out_looks(self):
                parts.append((looks.seen, [looks.fidelity]))
        if self.windows.seconds is None:  # windows are read in pieces, which training does not share
            parts.append((self.snippets(data.videos), [self.full]))
        for videos, fidelities in parts:
            title = "cache " + ", ".join(map(str, fidelities))
            with (
                Progress(title, len(videos), quiet=self.quiet) as progress,
                self.folder.leases(self.cache.folder) as leases,
            ):
                for index, kept, reason in fill(videos, fidelities, self.recipe.data.workers, leases):
                    video_id = videos.videos[index].video_id
                    if reason:
                        failed[video_id] = reason
                    elif not kept:
                        return False, failed
                    progress.advance(video_id)
        return True, failed
