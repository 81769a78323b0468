"""How every training of an encoder begins."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from lofi_tal.balance import BalanceSection, class_weights
from lofi_tal.config import ClassificationSection, LofiSection
from lofi_tal.data import Batch, TruthVideo, count_instances, steps_per_epoch
from lofi_tal.data.items import Target
from lofi_tal.errors import DiskFullError, LofiError
from lofi_tal.heads import Head
from lofi_tal.runtime import StageFolder, TrainingRun, WeightAverage

logger = logging.getLogger("lofi_tal")


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
    ema: float | None = None,
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
        ema: Decay of the average of the weights, if one is kept.
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
        average=None if ema is None else WeightAverage(model, ema),
        quiet=quiet,
    )
    return wrapped, run


def weigh_classes(head: Head, videos: Sequence[TruthVideo], balance: BalanceSection) -> None:
    """Give a head that scores classes itself the weights of the classes, if the recipe asks for them.

    Args:
        head: Before its training.
        videos: It is trained on these.
        balance: What is done for rare classes.
    """
    if head.num_classes is not None and (weights := weights_over(videos, head.num_classes, balance.weights)):
        head.weigh_classes(weights)


def weights_over(videos: Sequence[TruthVideo], classes: int, way: str | None) -> list[float] | None:
    """Return what each of K classes weighs in a loss over some videos; ``way`` is the recipe's `balance.weights`."""
    return None if way is None else class_weights(count_instances(videos, classes), way).tolist()


def with_first_shown(
    batches: Iterable[Batch[Target]], run: TrainingRun, show: Callable[[Batch[Target]], None] | None
) -> Iterator[Batch[Target]]:
    """Yield batches; the first one of a stage is shown before it is trained on, by the first process.

    Args:
        batches: Those of the stage.
        run: The stage.
        show: Is given the batch, and changes nothing of it; what goes wrong there is a warning.
    """
    for number, batch in enumerate(batches):
        if number == 0 and show is not None and run.start == 0 and run.fabric.global_rank == 0:
            try:
                show(batch)
            except DiskFullError:  # what comes next could not be written either
                raise
            except (LofiError, OSError) as error:
                logger.warning("The first batch of %s cannot be shown: %s", run.folder.stage, error)
        yield batch
