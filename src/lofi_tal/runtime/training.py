"""Steps of training that can stop anywhere and go on exactly.

A stage writes its own loop and takes steps and batches from :class:`TrainingRun`, which sets the learning rate, seeds
every step from its number, times the wait for data, writes metrics, and checkpoints by time and at interruptions.
Because schedule, order of the data and random draws are functions of the step's number, model, optimiser and step are
all that a checkpoint needs.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from lofi_tal.artefacts import check_words, damage, told
from lofi_tal.errors import DivergedError, LofiError
from lofi_tal.files import write_text
from lofi_tal.progress import Progress
from lofi_tal.runtime.averaging import WeightAverage
from lofi_tal.runtime.checkpoint import Checkpoint, Course, Stateful
from lofi_tal.runtime.device import PeakMemory, tuned_convolutions
from lofi_tal.runtime.metrics import read_metrics
from lofi_tal.runtime.parallel import gather, mean_over_processes
from lofi_tal.runtime.records import Outcome, StageFolder
from lofi_tal.runtime.seeding import derive_seed
from lofi_tal.tracking import Trackers

logger = logging.getLogger("lofi_tal")
_ONE_REQUEST = 1.0
_FLUSH = 1.0  # seconds after which lines of metrics are there for others to read
Look = Callable[[int], Mapping[str, float]]
"""Figures of something else than the training after an epoch, from 0; none where nothing is due."""


class InterruptedRunError(LofiError):
    """The user or the scheduler asked to stop; a checkpoint was written."""

    exit_status = 130


@dataclass(frozen=True)
class Step:
    """One optimiser step: its epoch, its number over the whole run (both from 0) and its learning rate."""

    epoch: int
    index: int
    lr: float


def falling(lr: float, factor: float, epochs: Iterable[float]) -> Callable[[int], float]:
    """Return a learning rate that is multiplied by ``factor`` at each of ``epochs``."""
    falls = list(epochs)
    return lambda epoch: lr * factor ** sum(epoch >= fall for fall in falls)


def cosine(lr: float, epochs: int) -> Callable[[int], float]:
    """Return a learning rate that goes down by half a cosine, epoch by epoch."""
    return lambda epoch: lr * (1 + math.cos(math.pi * epoch / epochs)) / 2


class TrainingRun:
    """The course of one training stage.

    Args:
        folder: Stage folder; metrics, TensorBoard files and the checkpoint are written there.
        fabric: Device, precision and processes.
        modules: Modules to checkpoint, unwrapped.
        optimizer: As Fabric set it up.
        lr_at: Learning rate of an epoch.
        epochs: Number of epochs.
        steps_per_epoch: Optimiser steps in each.
        seed: Base seed.
        clip_norm: Largest gradient norm, or none.
        average: Of the weights, if one is kept; looks see it.
        lr_at_step: Learning rate of a step, where it changes within epochs; it goes before ``lr_at``.
        checkpoint_seconds: Longest time between two checkpoints.
        quiet: No progress.

    Attributes:
        lost: Why files could not be read in this process, by name; checkpoints keep those of the first process.

    Raises:
        DataError: If the checkpoint to resume from cannot be read.
    """

    def __init__(
        self,
        folder: StageFolder,
        fabric: Fabric,
        *,
        modules: Mapping[str, nn.Module],
        optimizer: Any,
        lr_at: Callable[[int], float],
        epochs: int,
        steps_per_epoch: int,
        seed: int,
        clip_norm: float | None = None,
        average: WeightAverage | None = None,
        lr_at_step: Callable[[int], float] | None = None,
        checkpoint_seconds: float = 30.0,
        quiet: bool = False,
    ) -> None:
        self.folder, self.fabric, self.modules, self.optimizer = folder, fabric, dict(modules), optimizer
        self.lr_at, self.epochs, self.steps_per_epoch, self.seed = lr_at, epochs, steps_per_epoch, seed
        self.clip_norm, self.checkpoint_seconds, self.quiet = clip_norm, checkpoint_seconds, quiet
        self.lr_at_step, self.total = lr_at_step, epochs * steps_per_epoch
        path = folder.path / "checkpoint.pt"
        self.average = average
        kept: dict[str, Stateful] = {**modules, **({} if average is None else {"average": average})}
        self.checkpoint = Checkpoint(path, folder.fingerprint, fabric, kept, optimizer)
        course = self.checkpoint.load() if folder.resumed and path.exists() else Course(0, 0.0, {})
        self.start, self.seconds, self.lost = course.step, course.seconds, course.lost
        self.metrics = course.metrics
        self.peak = PeakMemory(fabric.device)
        self.pending: dict[str, Any] = {}
        self.sums: dict[str, Tensor] = {}

    def batches(self, loader: Iterable[Any], look: Look | None = None) -> Iterator[tuple[Step, Any]]:
        """Yield each step with its batch; ``loader`` begins at the batch of step ``self.start``.

        ``look`` gives more figures at the end of an epoch, for the metrics of its last step; its time is not counted.

        Raises:
            InterruptedRunError: If the run was asked to stop; the checkpoint has been written.
        """
        iterator = iter(loader)
        first = self.fabric.global_rank == 0
        lines = _MetricLines(self.folder, self.start, self.metrics, write=first)
        title = f"{self.folder.stage}"
        saved = time.monotonic()
        waits: list[tuple[float, float]] = []  # for data, of the time of each step in this epoch
        with (
            contextlib.closing(lines),
            Progress(title, self.total, done=self.start, quiet=self.quiet or not first) as progress,
            _stop_requests() as stop_requested,
            tuned_convolutions(self.fabric.device),
        ):
            for index in range(self.start, self.total):
                began = time.monotonic()
                batch = self._next_batch(iterator, index, lines)
                waited = time.monotonic() - began
                step = self._begin(index)
                yield step, batch

                took = time.monotonic() - began
                self.seconds += took
                if index % self.steps_per_epoch == 0:
                    waits.clear()
                waits.append((waited, took))
                if look is not None and (index + 1) % self.steps_per_epoch == 0 and not stop_requested.is_set():
                    self.pending |= _looked(look, self.average, step.epoch)
                lines.write(self._record(step, waited / took))
                wait = sum(w for w, _ in waits) / max(1e-9, sum(t for _, t in waits))
                progress.advance(_detail(self, step, wait))
                lines.done = done = index + 1 == self.total
                if done or stop_requested.is_set() or time.monotonic() - saved >= self.checkpoint_seconds:
                    self._save(index + 1, lines)
                    saved = time.monotonic()
                if stop_requested.is_set() and not done:
                    raise _interrupted(self, index + 1)
        if stop_requested.is_set():  # in the last step or after it: there is more to do than this stage
            raise _interrupted(self, self.total)

    def _next_batch(self, iterator: Iterator[Any], index: int, lines: _MetricLines) -> Any:
        try:
            return next(iterator)
        except LofiError:
            self._save(index, lines)  # no batch can be made; the steps before it are not lost
            raise

    def _begin(self, index: int) -> Step:
        """Set learning rate and seed of a step."""
        epoch = index // self.steps_per_epoch
        step = Step(epoch, index, self.lr_at(epoch) if self.lr_at_step is None else self.lr_at_step(index))
        for group in self.optimizer.param_groups:
            group["lr"] = step.lr * group.get("lr_scale", 1.0)
        torch.manual_seed(derive_seed(self.seed, self.folder.stage, index, self.fabric.global_rank))
        return step

    def _record(self, step: Step, wait: float) -> dict[str, Any]:
        """Return the line of a step in metrics.jsonl; ``wait`` is the share of its time without data."""
        return {
            "step": step.index + 1,
            "epoch": step.epoch,
            "lr": step.lr,
            **self.pending,
            "wait": round(wait, 4),
            "seconds": round(self.seconds, 3),
        }

    def _save(self, step: int, lines: _MetricLines) -> None:
        self.checkpoint.save(Course(step, self.seconds, self.lost, lines.secured()))

    def update(self, losses: Mapping[str, Tensor], figures: Mapping[str, Tensor] | None = None) -> None:
        """Take one optimiser step on ``losses["total"]`` and note losses and ``figures`` for the metrics of this step.

        Raises:
            DivergedError: If the loss is not finite.
        """
        self.backward(losses, figures=figures)
        self.apply()

    def backward(
        self, losses: Mapping[str, Tensor], share: float = 1.0, figures: Mapping[str, Tensor] | None = None
    ) -> None:
        """Add the gradient of ``share * losses["total"]``, of a micro-batch, to that of the step.

        Losses and other ``figures`` are summed on the device; nothing waits for them before :meth:`apply`.
        """
        total = losses["total"]
        self.fabric.backward(total if share == 1.0 else share * total)
        named = {"loss" if name == "total" else f"loss/{name}": loss for name, loss in losses.items()}
        for name, value in {**named, **(figures or {})}.items():
            self.sums[name] = self.sums.get(name, 0.0) + share * value.detach()

    def apply(self, facts: Mapping[str, Any] | None = None) -> None:
        """Take the optimiser step for which :meth:`backward` has summed the gradient.

        Gradients that a scaler holds (fp16) are unscaled before they are clipped.

        Raises:
            DivergedError: If the loss is not finite in any process; the message has the ``facts``. The step has been
                taken by then, and is in no checkpoint.
        """
        if self.clip_norm is not None:
            module = next(iter(self.modules.values()))
            # not finite: under a scaler the step is skipped, and otherwise the next loss says so
            self.fabric.clip_gradients(module, self.optimizer, max_norm=self.clip_norm, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update()
        figures = mean_over_processes(self.sums)
        self.sums = {}
        self.pending = {**figures, **(facts or {})}
        if not math.isfinite(figures["loss"]):
            parts = ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if name.startswith("loss"))
            told = f"{parts}; {dict(facts)}" if facts else parts
            kept = " The last checkpoint is kept." if self.checkpoint.path.exists() else ""
            raise DivergedError(
                f"Stage {self.folder.stage!r} in {self.folder.path}: the loss is not a finite number ({told}). "
                f"Lower the learning rate or set clip_norm.{kept}"
            )

    def outcome(self, result: dict[str, Any]) -> Outcome:
        """Return time, peak memory and the figures of the stage."""
        return Outcome(round(self.seconds, 3), self.peak.bytes(), result)

    def all_lost(self) -> dict[str, str]:
        """Return why files could not be read in any process; it waits for all of them."""
        return {name: reason for lost in gather(self.lost) for name, reason in sorted(lost.items())}


def _detail(run: TrainingRun, step: Step, wait: float) -> str:
    """Return what the progress of a step shows."""
    facts = [f"epoch {step.epoch + 1}/{run.epochs}"]
    if "fidelity" in run.pending:
        facts.append(f"{run.pending['fidelity']} {run.pending['snippets']}×{run.pending['size']}px")
    if "loss" in run.pending:
        facts.append(f"loss {run.pending['loss']:.3f}")
    if "accuracy" in run.pending:
        facts.append(f"accuracy {run.pending['accuracy']:.2f}")
    facts += [f"lr {step.lr:.3g}", f"wait {wait:.0%}", f"mem {run.peak.bytes() / 2**30:.2f} GiB"]
    return " ".join(facts)


def _interrupted(run: TrainingRun, step: int) -> InterruptedRunError:
    return InterruptedRunError(
        f"Stopped as asked after step {step} of {run.total} of stage {run.folder.stage!r}; "
        "the same command with --resume goes on from here."
    )


def _looked(look: Look, average: WeightAverage | None, epoch: int) -> Mapping[str, float]:
    """Return the figures of a look, which sees the average of the weights if one is kept, and tell them."""
    with contextlib.nullcontext() if average is None else average.used():
        figures = look(epoch)
    if figures:
        told = ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if not name.endswith("seconds"))
        logger.info("After epoch %d: %s", epoch + 1, told)
    return figures


class _MetricLines:
    """metrics.jsonl and loggers; on a resume, lines of steps that are run again are dropped."""

    def __init__(self, folder: StageFolder, start: int, written: Mapping[str, Any], *, write: bool) -> None:
        self.active, self.done, self.flushed, self.folder = write, False, -math.inf, folder.path
        if not write:
            return
        path = folder.path / "metrics.jsonl"
        if path.exists() or start:
            kept = [row for row in read_metrics(path)[0] if row["step"] <= start]
            write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
            if wrong := damage(folder.path, written):
                text = "Lines of metrics from before the checkpoint are lost or changed, curves may be wrong: %s."
                logger.warning(text, told(wrong))
        self.handle = path.open("a", encoding="utf-8")
        self.trackers = Trackers(folder.tracking, folder=folder.path, stage=folder.stage, start=start)

    def write(self, record: dict[str, Any]) -> None:
        if not self.active:
            return
        self.handle.write(json.dumps(record) + "\n")
        if time.monotonic() - self.flushed >= _FLUSH:
            self.flushed = time.monotonic()
            self.flush()
        numbers = {key: value for key, value in record.items() if isinstance(value, int | float)}
        del numbers["step"], numbers["seconds"]
        self.trackers.log(numbers, record["step"])

    def flush(self) -> None:
        if self.active:
            self.handle.flush()

    def secured(self) -> dict[str, Any]:
        """Flush all lines to disk, where they are before the checkpoint is, and return their check words."""
        if not self.active:
            return {}
        self.flush()
        os.fsync(self.handle.fileno())
        return check_words(self.folder, ["metrics.jsonl"])

    def close(self) -> None:
        if self.active:
            self.handle.close()
            self.trackers.close(success=self.done)


@contextlib.contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """Turn SIGINT, SIGTERM and SIGHUP into an event that is looked at between steps; a second one stops at once.

    One signal comes twice from `timeout` and from a terminal that is closed: what follows within :data:`_ONE_REQUEST`
    seconds, or on a SIGHUP, is no second one. A signal that is ignored (SIGHUP under nohup) stays ignored.
    """
    event, asked = threading.Event(), math.inf
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    every = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: handler for number in every if (handler := signal.getsignal(number)) is not signal.SIG_IGN}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: Any) -> None:
        nonlocal asked
        event.set()
        asked = min(asked, time.monotonic())
        if time.monotonic() - asked > _ONE_REQUEST and number != signal.SIGHUP:
            restore()
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, note)
    try:
        yield event
    finally:
        restore()
