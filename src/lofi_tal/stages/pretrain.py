"""Stage 1: the encoder learns to classify clips: their class (ACP, ACP+), the arrow of time, or their speed.

Source of the recipe: public TSM code (`main.py`, `scripts/train_tsm_kinetics_rgb_8f.sh`): SGD with momentum, biases at
twice the rate without decay, the classification layer at five times the rate, gradient norm 20, dropout before it.
The paper names no recipe for the other tasks; they take this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from lofi_tal.config import ClassificationSection
from lofi_tal.data import Batch, ClipDataset, as_clips, centre_requests, make_batches, make_training_loader
from lofi_tal.encoders import BatchNorm, Encoder, layer_rates, set_batchnorm_mode, trainable
from lofi_tal.errors import DataError, RunError
from lofi_tal.fidelity import ConstantSchedule, Fidelity
from lofi_tal.progress import Progress
from lofi_tal.runtime import (
    Outcome,
    StageFolder,
    TrainingRun,
    cosine,
    falling,
    gather,
    make_optimizer,
    rank_and_size,
    share_of_batch,
)
from lofi_tal.stages.beginning import begin, with_first_shown
from lofi_tal.tasks import Task


class ClipClassifier(nn.Module):
    """An encoder with a linear layer; the mean over frames comes first, which equals TSM's mean of logits."""

    def __init__(self, encoder: Encoder, classes: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(encoder.channels, classes)
        nn.init.normal_(self.fc.weight, std=0.001)
        nn.init.zeros_(self.fc.bias)

    def forward(self, clips: Tensor) -> Tensor:
        """Return logits ``(N, classes)`` of clips ``(N, T, 3, H, W)``."""
        logits: Tensor = self.fc(self.dropout(self.encoder(clips)))
        return logits


def parameter_groups(model: ClipClassifier, section: ClassificationSection) -> list[dict[str, Any]]:
    """Return TSM's parameter groups of what is trained: what decays, and how each learning rate is scaled.

    With AdamW, which adapts each parameter's rate by itself, biases and the classification layer are not scaled.
    """
    scale = (section.encoder_lr or section.lr) / section.lr
    groups = []
    for modules, factor in layer_rates(model.encoder, section.layer_decay):
        norms = trainable(module for module in modules if isinstance(module, BatchNorm))
        others = [module for module in modules if not isinstance(module, BatchNorm)]
        biases = [one for module in others for one in trainable([module]) if one is getattr(module, "bias", None)]
        known = {id(one) for one in biases}
        weights = [one for one in trainable(others) if id(one) not in known]
        groups += [(weights, factor * scale, 1.0, True), (biases, factor * scale, 2.0, False)]
        groups.append((norms, factor * scale, 1.0, False))
    groups += [([model.fc.weight], 1.0, 5.0, True), ([model.fc.bias], 1.0, 10.0, False)]
    return [
        {
            "params": parameters,
            "lr_scale": rate * (kind if section.optimizer == "sgd" else 1.0),
            "weight_decay": section.weight_decay if decays else 0.0,
        }
        for parameters, rate, kind, decays in groups
        if parameters
    ]


def _optimizer(model: ClipClassifier, section: ClassificationSection, fabric: Fabric) -> tuple[Any, Any]:
    """Return the optimiser, and the learning rate as a function of the epoch."""
    groups = parameter_groups(model, section)
    if section.optimizer == "adamw":
        return make_optimizer("adamw", groups, fabric, lr=section.lr), cosine(section.lr, section.epochs)
    optimizer = make_optimizer("sgd", groups, fabric, lr=section.lr, momentum=section.momentum)
    return optimizer, falling(section.lr, 0.1, [share * section.epochs for share in section.milestones])


def pretrain(
    folder: StageFolder,
    fabric: Fabric,
    encoder: Encoder,
    *,
    task: Task,
    train: ClipDataset,
    validate: ClipDataset | None,
    labels: Sequence[str],
    section: ClassificationSection,
    size: int,
    seed: int,
    workers: int,
    show: Callable[[Batch[int]], None] | None = None,
    quiet: bool = False,
) -> Outcome:
    """Train ``encoder`` in place on the clips and return the outcome.

    Args:
        folder: Stage folder.
        fabric: Device, precision and processes.
        encoder: Trained in place, but for what is frozen in it.
        task: What it learns.
        train: Clips to learn from.
        validate: Clips for the accuracy at the end.
        labels: Classes of the clips; a task may have its own.
        section: Epochs, optimiser.
        size: Side of the frames in pixels.
        seed: Of the layer, the order and all that is drawn.
        workers: Loader processes.
        show: Is given the first batch before it is trained on.
        quiet: No progress.

    Raises:
        DataError: If there are fewer than two classes or no clips.
    """
    labels = task.labels or tuple(labels)
    if len(train) == 0 or len(labels) < 2:
        raise DataError(f"Stage 1 needs clips of at least two classes; found {len(train)} clips of {len(labels)}.")
    torch.manual_seed(seed)
    plain = ClipClassifier(encoder, len(labels), section.dropout)
    optimizer, lr_at = _optimizer(plain, section, fabric)
    set_batchnorm_mode(encoder.train(), section.batchnorm)
    model, run = begin(folder, fabric, plain, optimizer, lr_at, section, items=len(train), seed=seed, quiet=quiet)
    fidelity = Fidelity("clip", 1, size)
    schedule = ConstantSchedule(fidelity)
    loader = make_training_loader(run, train, batch=section.batch, schedule=schedule, workers=workers)
    model.train()
    set_batchnorm_mode(encoder, section.batchnorm)
    for _, batch in run.batches(with_first_shown(loader, run, show)):
        run.lost.update(batch.failed)
        _train_step(run, fabric, model, task, batch)

    result: dict[str, Any] = {"classes": list(labels), "clips": len(train)}
    if validate is not None and len(validate):
        figures, lost = evaluate_clips(plain, validate, task, fabric, fidelity, section.batch, workers, quiet=quiet)
        result |= figures
        run.lost.update(lost)
    return run.outcome({**result, "unreadable": run.all_lost()})


def _train_step(run: TrainingRun, fabric: Fabric, model: Any, task: Task, batch: Batch[int]) -> None:
    classes = torch.tensor(batch.targets).to(fabric.device)
    clips, answers = task.examples(batch.frames.to(fabric.device, non_blocking=True), classes)
    logits = model(as_clips(task.augment(clips))).float()
    accuracy = (logits.argmax(1) == answers).float().mean()
    run.update({"total": task.loss(logits, answers) * share_of_batch(len(answers), fabric)}, {"accuracy": accuracy})


@torch.no_grad()
def evaluate_clips(
    model: nn.Module,
    clips: ClipDataset,
    task: Task,
    fabric: Fabric,
    fidelity: Fidelity,
    count: int,
    workers: int,
    *,
    quiet: bool = False,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return top-1 and top-5 accuracy on the centre view of each clip, and why clips of this process cannot be read."""
    model.eval()
    batches = centre_requests(len(clips), count, fidelity)
    correct = torch.zeros(2)
    seen = 0
    lost: dict[str, str] = {}
    rank, ranks = rank_and_size()
    batches = batches[rank::ranks]
    with Progress("clip accuracy", len(batches), quiet=quiet or rank > 0) as progress:
        for batch in make_batches(clips, batches, workers, count=count, fidelities=[fidelity]):
            lost.update(batch.failed)
            if batch.indices:
                frames, answers = task.examples(batch.frames, torch.tensor(batch.targets))
                logits = model(as_clips(frames.to(fabric.device))).float().cpu()
                ranked = logits.argsort(1, descending=True)[:, :5] == answers[:, None]
                correct += torch.stack([ranked[:, 0].sum(), ranked.sum()])
                seen += len(answers)
            progress.advance(f"accuracy {correct[0] / max(1, seen):.2f}")
    model.train()
    counts = gather((seen, *correct.tolist()))
    seen, first, five = (sum(column) for column in zip(*counts, strict=True))
    if not seen:
        raise RunError(f"Not one of the {len(clips)} validation clips can be read: see `lofi data check`.")
    return {"validation_clips": seen, "accuracy": first / seen, "accuracy_top5": five / seen}, lost
