"""How every training of an encoder begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from lofi_tal.config import ClassificationSection, LofiSection
from lofi_tal.data import steps_per_epoch
from lofi_tal.runtime import StageFolder, TrainingRun


def begin(
    folder: StageFolder,
    fabric: Fabric,
    model: nn.Module,
    optimizer: Optimizer,
    lr_at: Callable[[float], float],
    section: ClassificationSection | LofiSection,
    *,
    items: int,
    seed: int,
    quiet: bool,
) -> tuple[Any, TrainingRun]:
    """Return the model as it is called in training, and the run at the step where it begins.

    Args:
        folder: Stage folder; its checkpoint, if there is one, is loaded.
        fabric: Device, precision and processes.
        model: What is trained.
        optimizer: Of the model's parameters.
        lr_at: Learning rate of an epoch.
        section: Epochs, batch and largest gradient norm.
        items: Of the data set.
        seed: Of the order.
        quiet: No progress.
    """
    wrapped, optimizer = fabric.setup(model, optimizer)
    run = TrainingRun(
        folder,
        fabric,
        modules={"model": model},
        optimizer=optimizer,
        lr_at=lr_at,
        epochs=section.epochs,
        steps_per_epoch=steps_per_epoch(items, section.batch),
        seed=seed,
        clip_norm=section.clip_norm,
        quiet=quiet,
    )
    return wrapped, run
