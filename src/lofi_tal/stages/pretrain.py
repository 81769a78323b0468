"""Stage 1: the encoder learns to classify clips: their class (ACP, ACP+), the arrow of time, or their speed.

Source of the recipe: public TSM code (`main.py`, `scripts/train_tsm_kinetics_rgb_8f.sh`): SGD with momentum, biases at
twice the rate without decay, the classification layer at five times the rate, gradient norm 20, dropout before it.
The paper names no recipe for the other tasks; they take this one. Arrow of Time: Wei et al., "Learning and Using the
Arrow of Time" (CVPR 2018); SpeedNet: Benaim et al. (CVPR 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from lofi_tal.encoders import Encoder, set_batchnorm_mode
from lofi_tal.errors import DataError, RunError
from lofi_tal.fidelity import Fidelity
from lofi_tal.runtime import (
    Outcome,
    Progress,
    StageFolder,
    TrainingRun,
    cosine,
    falling,
    gather,
    make_optimizer,
    rank_and_size,
    share_of_batch,
)
from lofi_tal.stages.data import (
    ClipDataset,
    Excerpt,
    as_clips,
    centre_requests,
    make_batches,
    make_training_loader,
    steps_per_epoch,
)

TASKS = ("acp", "arrow", "speed")
TASK_LABELS = {"arrow": ("forwards", "backwards"), "speed": ("own pace", "sped up")}
"""What the tasks without labels tell apart."""
_SCALES = (0.5, 1.0)  # of the random size of clips in SpeedNet's task, against cues of scaling and compression


def examples(task: str, frames: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a task shows to the classifier, and what it should answer.

    Args:
        task: ``acp``, ``arrow`` or ``speed``.
        frames: ``(B, T, S, S, 3)``; ``(B, 2, T, S, S, 3)`` at two paces for ``speed``.
        numbers: ``(B,)`` class numbers of the clips; read by ``acp`` alone.

    Returns:
        Clips ``(N, T, S, S, 3)`` and classes ``(N,)``. Both versions of a clip are in one batch.
    """
    if task == "acp":
        return frames, numbers
    pair = (frames, frames.flip(1)) if task == "arrow" else frames.unbind(1)
    return torch.cat(pair), torch.arange(2, device=frames.device).repeat_interleave(len(frames))


def random_size(frames: Tensor) -> Tensor:
    """Scale clips ``(N, T, S, S, 3)`` to one random size of at least 16 pixels (from torch's generator)."""
    count, length, side = frames.shape[:3]
    share = _SCALES[0] + (_SCALES[1] - _SCALES[0]) * float(torch.rand(()))
    size = max(16, round(share * side))
    flat = frames.flatten(0, 1).permute(0, 3, 1, 2)
    if flat.is_cuda:  # which has no antialiasing of bytes
        scaled = functional.interpolate(flat.float(), (size, size), mode="bilinear", antialias=True)
        scaled = scaled.round_().clamp_(0, 255).to(torch.uint8)
    else:
        scaled = functional.interpolate(flat, (size, size), mode="bilinear", antialias=True)
    return scaled.permute(0, 2, 3, 1).view(count, length, size, size, 3)


@dataclass(frozen=True)
class PretrainOptions:
    """Options of stage 1; the recipe's section of the same name documents each."""

    task: str
    epochs: int
    batch: int
    lr: float
    optimizer: str
    momentum: float
    weight_decay: float
    milestones: tuple[float, ...]
    dropout: float
    batchnorm: str
    clip_norm: float | None
    size: int
    workers: int
    seed: int


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


def parameter_groups(model: ClipClassifier, weight_decay: float) -> list[dict[str, Any]]:
    """Return TSM's parameter groups: what decays, and how each learning rate is scaled."""
    weights, biases, norms = [], [], []
    for module in model.encoder.modules():
        own = list(module.named_parameters(recurse=False))
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            norms += [parameter for _, parameter in own]
        else:
            weights += [parameter for name, parameter in own if name != "bias"]
            biases += [parameter for name, parameter in own if name == "bias"]
    groups = [
        {"params": weights, "lr_scale": 1.0, "weight_decay": weight_decay},
        {"params": biases, "lr_scale": 2.0, "weight_decay": 0.0},
        {"params": norms, "lr_scale": 1.0, "weight_decay": 0.0},
        {"params": [model.fc.weight], "lr_scale": 5.0, "weight_decay": weight_decay},
        {"params": [model.fc.bias], "lr_scale": 10.0, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def pretrain(
    folder: StageFolder,
    fabric: Fabric,
    encoder: Encoder,
    *,
    train: ClipDataset,
    validate: ClipDataset | None,
    labels: Sequence[str],
    options: PretrainOptions,
    quiet: bool = False,
) -> Outcome:
    """Train ``encoder`` in place on the clips and return the outcome.

    Args:
        folder: Stage folder.
        fabric: Device, precision and processes.
        encoder: Trained in place.
        train: Clips to learn from.
        validate: Clips for the accuracy at the end.
        labels: Classes of ``acp``; the other tasks have their own.
        options: Task, epochs, optimiser.
        quiet: No progress.

    Raises:
        DataError: If there are fewer than two classes or no clips.
    """
    labels = TASK_LABELS.get(options.task, tuple(labels))
    if len(train) == 0 or len(labels) < 2:
        raise DataError(f"Stage 1 needs clips of at least two classes; found {len(train)} clips of {len(labels)}.")
    torch.manual_seed(options.seed)
    plain = ClipClassifier(encoder, len(labels), options.dropout)
    groups = parameter_groups(plain, options.weight_decay)
    if options.optimizer == "adamw":  # adapts each parameter's rate by itself
        groups = [{**group, "lr_scale": 1.0} for group in groups]
        optimizer = make_optimizer("adamw", groups, fabric, lr=options.lr)
        lr_at = cosine(options.lr, options.epochs)
    else:
        optimizer = make_optimizer("sgd", groups, fabric, lr=options.lr, momentum=options.momentum)
        lr_at = falling(options.lr, 0.1, [share * options.epochs for share in options.milestones])
    set_batchnorm_mode(encoder.train(), options.batchnorm)
    model, optimizer = fabric.setup(plain, optimizer)
    fidelity = Fidelity("clip", 1, options.size)
    run = TrainingRun(
        folder,
        fabric,
        modules={"model": plain},
        optimizer=optimizer,
        lr_at=lr_at,
        epochs=options.epochs,
        steps_per_epoch=steps_per_epoch(len(train), options.batch),
        seed=options.seed,
        clip_norm=options.clip_norm,
        quiet=quiet,
    )
    loader = make_training_loader(
        run,
        train,
        batch=options.batch,
        fidelity_at=lambda epoch, step: fidelity,
        fidelities=[fidelity],
        workers=options.workers,
    )
    numbers = _numbers(train, labels)
    model.train()
    set_batchnorm_mode(encoder, options.batchnorm)
    for _, batch in run.batches(loader):
        run.lost.update(train.reasons(batch))
        frames, target = examples(
            options.task, batch.frames.to(fabric.device, non_blocking=True), numbers[batch.indices].to(fabric.device)
        )
        logits = model(as_clips(random_size(frames) if options.task == "speed" else frames)).float()
        accuracy = (logits.argmax(1) == target).float().mean()
        loss = functional.cross_entropy(logits, target) * share_of_batch(len(target), fabric)
        run.update({"total": loss}, {"accuracy": accuracy})

    result: dict[str, Any] = {"classes": list(labels), "clips": len(train)}
    if validate is not None and len(validate):
        figures, lost = evaluate_clips(plain, validate, labels, options, fabric, quiet=quiet)
        result |= figures
        run.lost.update(lost)
    return run.outcome({**result, "unreadable": run.all_lost()})


@torch.no_grad()
def evaluate_clips(
    model: nn.Module,
    clips: ClipDataset,
    labels: Sequence[str],
    options: PretrainOptions,
    fabric: Fabric,
    *,
    quiet: bool = False,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return top-1 and top-5 accuracy on the centre view of each clip, and why clips of this process cannot be read."""
    model.eval()
    numbers = _numbers(clips, labels)
    fidelity = Fidelity("clip", 1, options.size)
    batches = centre_requests(len(clips), options.batch, fidelity)
    correct = torch.zeros(2)
    seen = 0
    lost: dict[str, str] = {}
    rank, ranks = rank_and_size()
    batches = batches[rank::ranks]
    with Progress("clip accuracy", len(batches), quiet=quiet or rank > 0) as progress:
        for batch in make_batches(clips, batches, options.workers, count=options.batch, fidelities=[fidelity]):
            lost.update(clips.reasons(batch))
            if batch.indices:
                frames, target = examples(options.task, batch.frames, numbers[batch.indices])
                logits = model(as_clips(frames.to(fabric.device))).float().cpu()
                ranked = logits.argsort(1, descending=True)[:, :5] == target[:, None]
                correct += torch.stack([ranked[:, 0].sum(), ranked.sum()])
                seen += len(target)
            progress.advance(f"accuracy {correct[0] / max(1, seen):.2f}")
    model.train()
    counts = gather((seen, *correct.tolist()))
    seen, first, five = (sum(column) for column in zip(*counts, strict=True))
    if not seen:
        raise RunError(f"Not one of the {len(clips)} validation clips can be read: see `lofi data check`.")
    return {"validation_clips": seen, "accuracy": first / seen, "accuracy_top5": five / seen}, lost


def _numbers(clips: ClipDataset, labels: Sequence[str]) -> Tensor:
    known = {label: number for number, label in enumerate(labels)}
    return torch.tensor([known.get(clip.label, -1) for clip in clips.clips], dtype=torch.long)


def whole_files_fit(clips: Sequence[Excerpt], size: int, limit_bytes: float) -> bool:
    """Say whether all frames of all files fit into the cache, at a 4:3 aspect."""
    pixels = (size * 8 / 7) ** 2 * 4 / 3
    return sum(file.frames for file in {clip.file for clip in clips}) * pixels * 3 <= limit_bytes
