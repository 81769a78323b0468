"""The folder of a run: its lock, its stages, and what it shares with other runs and processes.

A run folder holds:

    recipe.yaml, environment.json, command.txt   what was asked for, and where it ran
    origin/                                       weights that it started from, if it started from those of a run
    videos.jsonl, cache/                          what is known of the files, decoded frames
    pretrain/, second/, finetune/, lofi/          encoders of stage 1 and 2, with metrics and records
    arms/<arm>/                                   stage 3 on one encoder: features/, head/, model/, evaluation/
    labels.json                                   the annotations, as they were
    motion.jsonl                                  how much moves in the evaluated videos, for a floor under mAP
    data.json                                     which videos and annotations are used, and which are not and why
    report.html, report.json
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lofi_tal.artefacts import read_record
from lofi_tal.errors import DataError, LofiError
from lofi_tal.files import hash_object, sweep
from lofi_tal.leases import PATIENCE, Leases
from lofi_tal.locks import locked
from lofi_tal.runtime import StageFolder, fault, look_at_stage, on_first, open_stage
from lofi_tal.runtime.differences import Contents

logger = logging.getLogger("lofi_tal")
_TRACES = ("recipe.yaml", "origin", "environment.json", "pretrain", "finetune", "lofi", "arms")
"""What tells that a folder holds a run, even if some of it is gone."""
_OF_FILES = ("cache", "data", "features", "tensorboard")  # folders with many files, and no stage
_MOST_BESIDE = 20  # caches of other runs that are looked into


class RunFolder:
    """Where a run keeps its stages.

    Args:
        path: The folder.
        shared: Folder for what runs can have in common, by what it was made from; None keeps it in ``path``.
        patience: Share extraction and cache with processes that are not joined to this one; seconds without a sign of
            life after which one of them is taken for dead.
        resume: Go on with interrupted stages.
        overwrite: Replace stages that were made from other inputs.
        tracking: Loggers of the metrics with their options.
        looks: Look at stages without changing anything; one that is not up to date is an :class:`OutOfDateError`.

    Raises:
        LofiError: If there is nothing to resume, or ``overwrite`` is asked of processes that share their work.
    """

    def __init__(
        self,
        path: Path,
        *,
        shared: Path | None,
        patience: float | None,
        resume: bool,
        overwrite: bool,
        tracking: Mapping[str, Mapping[str, Any]],
        looks: bool = False,
    ) -> None:
        if resume and not holds_run(path):
            raise LofiError(f"There is nothing to resume in {path}; leave --resume away to begin.")
        if patience is not None and overwrite:
            raise LofiError("--share and --overwrite exclude each other: one process cannot replace what others use.")
        self.path, self.shared, self.patience = path, shared, patience
        self.resume, self.overwrite, self.tracking, self.looks = resume, overwrite, tracking, looks
        self.skipped: set[Path] = set()
        self.opened: dict[str, Path] = {}
        """Folders of the stages that train an encoder, once they have been opened."""
        self.begun: set[Path] = set()
        """Records of what has been begun and, unless they are there, is not finished."""

    @property
    def exists(self) -> bool:
        """Whether there is a run."""
        return (self.path / "recipe.yaml").exists()

    @property
    def common(self) -> Path:
        """Where what runs can have in common lies."""
        return self.shared or self.path

    def noted(self, name: str, allowed: Sequence[str]) -> str | None:
        """Return what the run in the folder has taken; None if there is none, or it shall be replaced."""
        path = self.path / "environment.json"
        try:
            noted = read_record(path)[name]
        except KeyError:  # of an earlier version
            return None
        except DataError as error:
            if path.exists() and not self.overwrite:
                logger.warning("%s It is written anew; %s is as this command says.", error, name)
            return None
        return noted if noted in allowed and not self.overwrite else None

    def stage_folder(self, name: str) -> Path:
        """Return the folder of a stage that trains an encoder."""
        return self.opened.get(name, self.path / name)

    @contextlib.contextmanager
    def lock(self, *others: Path) -> Iterator[None]:
        """Keep a second run out of the folder, unless both share their work; what dead processes left is swept.

        Args:
            others: Folders that the run writes to besides.
        """
        sharing = self.patience is not None
        refuse_links(self.path)
        refusal = f"Another run is at work in {self.path}; choose another output folder" + (
            ", or wait until it has ended to share with --share." if sharing else "."
        )
        with locked(self.path / ".lock", refusal, shared=sharing, patience=self.patience or PATIENCE):
            for folder in (self.path, *others):
                sweep(folder)
            yield
            for folder in (self.path, *others):  # of processes of this run that were killed
                sweep(folder)

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
                logger.info("Waiting for another process, which is making %s.", folder.name)
                stack.enter_context(locked(lock, "held", wait=True))
            sweep(folder)
            yield

    def leases(self, folder: Path) -> contextlib.AbstractContextManager[Leases | None]:
        """Return what shares the work whose results lie in ``folder``, if this run shares any."""
        if self.patience is None:
            return contextlib.nullcontext()
        return Leases(folder.with_name(f"{folder.name}.leases"), self.patience, results=folder)

    @contextlib.contextmanager
    def training(
        self,
        name: str,
        stage: str,
        inputs: dict[str, Any],
        *,
        overwrite: bool | None = None,
        contents: Contents | None = None,
    ) -> Iterator[StageFolder]:
        """Hold a stage that trains an encoder.

        A stage that runs share lies in a folder of its own, which any run of these inputs goes on with, and is this
        run's alone until it is finished.

        Args:
            name: Of its folder in the run.
            stage: What it is.
            inputs: All that it depends on.
            overwrite: Begin it again if it was made from other inputs; as the run says without it.
            contents: What hashes among the inputs stand for.

        Raises:
            LofiError: If it is not finished, and this process shares its work.
        """
        folder = self.path / name
        if self.shared is not None:
            folder = self.shared / f"{stage}-{hash_object([stage, inputs])}"
        with self.alone_in(folder):
            if self.patience is not None and (why := fault(folder)):
                raise LofiError(
                    f"There is no finished stage {stage!r} ({why}), which only one run can make: run "
                    f"`lofi {'train' if stage == 'lofi' else 'pretrain'}` first. --share divides what comes after it."
                )
            overwrite = self.overwrite if overwrite is None else overwrite
            opened = self._open(folder, stage, inputs, overwrite, contents)
            self.opened[name] = folder
            yield opened

    def evaluation(
        self, folder: Path, stage: str, inputs: dict[str, Any], contents: Contents | None = None
    ) -> StageFolder:
        """Open the evaluation of an arm, with which its stage 3 begins and ends."""
        return self._open(folder, stage, inputs, self.overwrite, contents)

    def _open(
        self, folder: Path, stage: str, inputs: dict[str, Any], overwrite: bool, contents: Contents | None
    ) -> StageFolder:
        if self.looks:
            return on_first(lambda: look_at_stage(folder, stage, inputs))
        opened = on_first(
            lambda: open_stage(
                folder,
                stage,
                inputs,
                resume=self.goes_on,
                overwrite=overwrite,
                tracking=self.tracking,
                contents=contents,
            )
        )
        if opened.record:
            self.skipped.add(folder)
        self.begun.add(folder / "stage.json")
        return opened

    def begin_features(self, folder: Path) -> Path:
        """Return the record of an extraction, which is written when all features are there.

        Raises:
            LofiError: If an extraction was interrupted, and this run neither resumes nor shares its work.
        """
        record = folder.with_suffix(".json")
        _drop_damaged(record)
        interrupted = not record.exists() and any(folder.glob("*.safetensors"))
        if interrupted and not (self.goes_on or self.overwrite or self.patience is not None):
            raise LofiError(
                f"{folder} holds the features of an interrupted extraction. Add --resume to go on with the videos "
                "that are left, or --overwrite to replace what does not fit."
            )
        self.begun.add(record)
        return record

    @property
    def goes_on(self) -> bool:
        """Whether what was interrupted is gone on with: runs that share a folder always do."""
        return self.resume or self.shared is not None

    @property
    def interrupted(self) -> bool:
        """Whether something has been begun that another run goes on with only if it is told to resume."""
        return self.shared is None and any(not record.exists() for record in self.begun)


def looked_at(path: Path, tracking: Mapping[str, Mapping[str, Any]]) -> RunFolder:
    """Return a folder of which the stages are looked at, and nothing is changed."""
    return RunFolder(path, shared=None, patience=None, resume=False, overwrite=False, tracking=tracking, looks=True)


def holds_run(path: Path) -> bool:
    """Say whether a folder holds a run, even if some of it is gone."""
    return any((path / name).exists() for name in _TRACES)


def _drop_damaged(record: Path) -> None:
    """Delete the record of an extraction that is not as it was written."""
    try:
        read_record(record)
    except DataError as error:
        if record.exists():
            logger.warning("The extraction counts as interrupted: %s", error)
            record.unlink(missing_ok=True)


def refuse_links(folder: Path, levels: int = 4) -> None:
    """Refuse links in a run folder that lead out of it: a run would write, or delete, through them.

    Args:
        folder: The run folder, which may be a link itself.
        levels: Folders of stages are no deeper.

    Raises:
        LofiError: If there is one; the message names it.
    """
    real, waiting = folder.resolve(), [(folder, levels)]
    while waiting:
        inner, left = waiting.pop()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(inner) as entries:
            for entry in entries:
                if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(real):
                    raise LofiError(
                        f"{entry.path} is a link out of the run folder, and a run writes only inside it. Remove the "
                        "link, or name the folder itself: --output for the run, data.cache for decoded frames."
                    )
                if left > 1 and entry.name not in _OF_FILES and entry.is_dir(follow_symlinks=False):
                    waiting.append((Path(entry.path), left - 1))


def caches_beside(path: Path) -> tuple[Path, ...]:
    """Return the frame caches of the runs in the same folder as a run folder, the latest first.

    Their entries go by file, times and size, so that a run on the same videos finds there what it needs.
    """
    path = path.absolute()
    found = []
    with contextlib.suppress(OSError):  # the folder of runs is not there yet, or may not be listed
        for entry in os.scandir(path.parent):
            cache = Path(entry.path) / "cache"
            with contextlib.suppress(OSError):  # another run is being deleted
                if entry.name != path.name and (cache.parent / "recipe.yaml").exists() and cache.is_dir():
                    found.append((cache.stat().st_mtime, cache))
    return tuple(cache for _, cache in sorted(found, reverse=True)[:_MOST_BESIDE])
