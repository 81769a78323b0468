"""Stage 2, low-fidelity encoder optimisation: encoder and head end to end on the localisation loss.

Paper sec. 3.2 and 4.3: mini-batches of reduced temporal and/or spatial resolution, a constant batch, SGD without
momentum, learning rate 0.1 halved every 5 epochs, the same for encoder and head. The head is thrown away afterwards.

Shapes: L snippets, T frames, S × S pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch
from lightning_fabric import Fabric

from lofi_tal.balance import NO_BALANCE, BalanceSection, video_shares
from lofi_tal.config import LofiSection
from lofi_tal.data import (
    Batch,
    Request,
    SnippetDataset,
    TruthVideo,
    as_clips,
    epoch_batches,
    make_batches,
    make_training_loader,
)
from lofi_tal.encoders import Encoder, batchnorms, layer_rates, set_batchnorm_mode, trainable
from lofi_tal.fidelity import Fidelity
from lofi_tal.heads import Head
from lofi_tal.runtime import Outcome, StageFolder, TrainingRun, cosine, derive_seed, falling, make_optimizer
from lofi_tal.stages.beginning import begin, weigh_classes, weights_over, with_first_shown
from lofi_tal.stages.end_to_end import EndToEnd, video_generator
from lofi_tal.stages.strategies import Strategy
from lofi_tal.stages.watch import Watch


def train_lofi(
    folder: StageFolder,
    fabric: Fabric,
    encoder: Encoder,
    head: Head,
    *,
    videos: SnippetDataset,
    classes: int,
    full: Fidelity,
    section: LofiSection,
    seed: int,
    workers: int,
    balance: BalanceSection = NO_BALANCE,
    multi_label: bool = False,
    show: Callable[[Batch[TruthVideo]], None] | None = None,
    watch: Watch | None = None,
    quiet: bool = False,
) -> Outcome:
    """Train ``encoder`` in place and return the outcome.

    Args:
        folder: Stage folder.
        fabric: Device, precision and processes.
        encoder: Trained in place, but for what is frozen in it.
        head: Trained with it, and thrown away.
        videos: Training videos, or windows of them.
        classes: K, for the class loss.
        full: Full fidelity, which the schedule's are fractions of.
        section: Schedule, epochs, optimiser, strategy.
        seed: Of the order and all that is drawn.
        workers: Loader processes.
        balance: What is done for rare classes.
        multi_label: Classes overlap, for the class loss.
        show: Is given the first batch before it is trained on.
        watch: What is looked at between epochs.
        quiet: No progress.
    """
    torch.manual_seed(seed)
    schedule = section.fidelities_over(full)
    plain = _end_to_end(encoder, head, videos.videos, classes, section, balance, multi_label)
    optimizer, lr_at = _optimizer(plain, section, fabric)
    set_batchnorm_mode(encoder.train(), section.batchnorm)
    model, run = begin(
        folder, fabric, plain, optimizer, lr_at, section, items=len(videos), seed=seed, quiet=quiet, ema=section.ema
    )
    shares = video_shares([video.labels.tolist() for video in videos.videos]) if balance.sampling else None
    loader = make_training_loader(run, videos, batch=section.batch, schedule=schedule, workers=workers, shares=shares)
    model.train()
    set_batchnorm_mode(encoder, section.batchnorm)
    look = None if watch is None else partial(watch.after, plain, fabric)
    for step, batch in run.batches(with_first_shown(loader, run, show), look):
        run.lost.update(batch.failed)
        _train_step(run, fabric, model, plain, batch, section.accumulate, step.index)
    if run.average is not None:
        run.average.apply()
    if section.reestimate:
        lost = reestimate_batchnorm(encoder, fabric, videos, full, section, seed=seed, workers=workers)
        run.lost.update(lost)
    result = {
        "videos": len({video.video_id for video in videos.videos}),
        "windows": len(videos),
        "fidelities": [str(fidelity) for fidelity in schedule.fidelities],
        "unreadable": run.all_lost(),
    }
    return run.outcome(result)


def _end_to_end(
    encoder: Encoder,
    head: Head,
    videos: Sequence[TruthVideo],
    classes: int,
    section: LofiSection,
    balance: BalanceSection,
    multi_label: bool,
) -> EndToEnd:
    """Return what is trained."""
    weigh_classes(head, videos, balance)
    return EndToEnd(
        encoder,
        head,
        classes if section.class_loss > 0 else None,
        Strategy(section.strategy, section.chunk, section.gradient_share),
        class_loss=section.class_loss,
        class_weights=weights_over(videos, classes, balance.weights),
        multi_label=multi_label,
    )


def _train_step(
    run: TrainingRun, fabric: Fabric, model: Any, plain: EndToEnd, batch: Batch[TruthVideo], parts: int, index: int
) -> None:
    """Take one step of the optimiser, with the batch in micro-batches; ``model`` is ``plain`` as it is called."""
    micro_batches = list(batch.split(parts))
    for number, micro_batch in enumerate(micro_batches, start=1):
        with fabric.no_backward_sync(model, enabled=number < len(micro_batches)):
            outputs = model(micro_batch.frames.to(fabric.device, non_blocking=True))
            draws = [video_generator(run.seed, index, video.name) for video in micro_batch.targets]
            run.backward(plain.losses(outputs, micro_batch.targets, draws), len(micro_batch) / len(batch))
    fidelity = batch.fidelity
    run.apply({"fidelity": fidelity.name, "snippets": fidelity.snippets, "size": fidelity.size})


def _optimizer(model: EndToEnd, section: LofiSection, fabric: Fabric) -> tuple[Any, Any]:
    """Return the optimiser, and the learning rate as a function of the epoch."""
    groups = parameter_groups(model, section)
    rates = {"lr": section.lr, "weight_decay": section.weight_decay}
    if section.optimizer == "adamw":
        return make_optimizer("adamw", groups, fabric, **rates), cosine(section.lr, section.epochs)
    optimizer = make_optimizer("sgd", groups, fabric, momentum=section.momentum, **rates)
    return optimizer, falling(section.lr, section.lr_gamma, range(section.lr_step, section.epochs, section.lr_step))


def parameter_groups(model: EndToEnd, section: LofiSection) -> list[dict[str, Any]]:
    """Return the optimiser's groups of what is trained: one, or the encoder apart if it has learning rates of its own.

    A head starts from random weights and an encoder does not: with one large learning rate for both, the first
    gradients that come through the head can undo what stage 1 taught.
    """
    if section.encoder_lr is None and section.layer_decay is None:
        return [{"params": trainable(model.modules())}]
    others = [parameter for name, parameter in model.named_parameters() if not name.startswith("encoder.")]
    scale = (section.encoder_lr or section.lr) / section.lr
    encoder: list[dict[str, Any]] = [
        {"params": trainable(modules), "lr_scale": scale * factor}
        for modules, factor in layer_rates(model.encoder, section.layer_decay)
    ]
    return [group for group in [{"params": others}, *encoder] if group["params"]]


@torch.no_grad()
def reestimate_batchnorm(
    encoder: Encoder,
    fabric: Fabric,
    videos: SnippetDataset,
    full: Fidelity,
    section: LofiSection,
    *,
    seed: int,
    workers: int,
) -> dict[str, str]:
    """Estimate BatchNorm's running statistics anew at full fidelity, which the encoder will be used at.

    As after the low-resolution phases of multigrid training (Wu et al., CVPR 2020). The statistics are the mean over
    parts of ``section.reestimate`` batches; the weights stay as they are, and so do the statistics of frozen layers. A
    part has as many snippets of its batch, drawn at random, as a step of training encodes pixels of: those of one video
    vary less than all do.

    Returns:
        Why videos could not be read, by id.
    """
    norms = [norm for norm in batchnorms(encoder) if norm not in encoder.frozen]
    if not norms:
        return {}
    at_once = _snippets_at_once(section, full)
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    encoder.train()
    order = epoch_batches(len(videos), section.batch, seed, section.epochs)
    wanted = [order[step % len(order)] for step in range(section.reestimate)]
    requests = [[Request(i, full, derive_seed(seed, "statistics", i))] for batch in wanted for i in batch]
    draws = torch.Generator().manual_seed(derive_seed(seed, "parts"))
    lost: dict[str, str] = {}
    # video by video, for loader processes share memory of the size of training's batches at most
    batches = make_batches(videos, requests, workers, count=1, fidelities=[full])
    for batch in wanted:
        frames = []
        for one in islice(batches, len(batch)):
            lost.update(one.failed)
            frames.append(one.frames.flatten(0, 1).clone())
        clips = as_clips(torch.cat(frames))
        with fabric.autocast():
            for chunk in torch.randperm(len(clips), generator=draws).tensor_split(-(-len(clips) // at_once)):
                encoder(clips[chunk].to(fabric.device))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    return lost


def _snippets_at_once(section: LofiSection, full: Fidelity) -> int:
    """Return the snippets of full fidelity that have as many pixels as a step of training encodes together."""
    if section.strategy == "chunked":
        return section.chunk
    held = max(fidelity.cost() for fidelity in section.fidelities_over(full).fidelities) / full.size**2 * section.batch
    return max(1, round(held / section.accumulate))
