"""Stage 2, low-fidelity encoder optimisation: encoder and head end to end on the localisation loss.

Paper sec. 3.2 and 4.3: mini-batches of reduced temporal and/or spatial resolution, a constant batch, SGD without
momentum, learning rate 0.1 halved every 5 epochs, the same for encoder and head. The head is thrown away afterwards.

Shapes: B videos, L snippets, T frames, S × S pixels, C channels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from lofi_tal.encoders import Encoder, set_batchnorm_mode
from lofi_tal.fidelity import Fidelity, Schedule
from lofi_tal.heads import Head
from lofi_tal.heads.losses import global_counts, ratio
from lofi_tal.runtime import Outcome, StageFolder, TrainingRun, cosine, derive_seed, falling, make_optimizer
from lofi_tal.stages.data import (
    Request,
    SnippetDataset,
    as_clips,
    epoch_batches,
    make_batches,
    make_training_loader,
    steps_per_epoch,
)
from lofi_tal.stages.strategies import Strategy, encode

PLAIN = Strategy()


@dataclass(frozen=True)
class LofiOptions:
    """Options of stage 2; the recipe's section of the same name documents each."""

    epochs: int
    batch: int
    accumulate: int
    strategy: str
    chunk: int
    gradient_share: float
    lr: float
    encoder_lr: float | None
    optimizer: str
    momentum: float
    weight_decay: float
    lr_step: int
    lr_gamma: float
    batchnorm: str
    clip_norm: float | None
    reestimate: int
    class_loss: float
    workers: int
    seed: int


class EndToEnd(nn.Module):
    """Encoder, head and, for the class loss, one linear layer on the snippet features (K classes and background)."""

    def __init__(self, encoder: Encoder, head: Head, classes: int | None, strategy: Strategy = PLAIN) -> None:
        super().__init__()
        self.strategy = strategy
        self.encoder, self.head = encoder, head
        self.snippet_classifier = nn.Linear(encoder.channels, classes + 1) if classes else None
        if strategy.saves_in_head:
            head.save_memory()

    def forward(self, frames: Tensor) -> tuple[Any, Tensor | None]:
        """Map uint8 frames ``(B, L, T, S, S, 3)`` to the head's outputs and snippet logits ``(B, L, K + 1)``."""
        batch, snippets = frames.shape[:2]
        features = encode(self.encoder, as_clips(frames.flatten(0, 1)), self.strategy)
        features = features.view(batch, snippets, -1)  # (B, L, C)
        logits = self.snippet_classifier(features) if self.snippet_classifier is not None else None
        with torch.autocast(features.device.type, enabled=False):  # probabilities near 0 and 1 want digits
            return self.head(features.transpose(1, 2).contiguous()), logits


def train_lofi(
    folder: StageFolder,
    fabric: Fabric,
    encoder: Encoder,
    head: Head,
    *,
    videos: SnippetDataset,
    classes: int,
    schedule: Schedule,
    full: Fidelity,
    options: LofiOptions,
    quiet: bool = False,
) -> Outcome:
    """Train ``encoder`` in place and return the outcome.

    Args:
        folder: Stage folder.
        fabric: Device, precision and processes.
        encoder: Trained in place.
        head: Trained with it, and thrown away.
        videos: Training videos, or windows of them.
        classes: K, for the class loss.
        schedule: The fidelity of each step.
        full: Full fidelity, for the statistics of BatchNorm.
        options: Epochs, optimiser, strategy.
        quiet: No progress.
    """
    torch.manual_seed(options.seed)
    strategy = Strategy(options.strategy, options.chunk, options.gradient_share)
    plain = EndToEnd(encoder, head, classes if options.class_loss > 0 else None, strategy)
    groups = parameter_groups(plain, options)
    rates = {"lr": options.lr, "weight_decay": options.weight_decay}
    if options.optimizer == "adamw":
        optimizer = make_optimizer("adamw", groups, fabric, **rates)
        lr_at = cosine(options.lr, options.epochs)
    else:
        optimizer = make_optimizer("sgd", groups, fabric, momentum=options.momentum, **rates)
        lr_at = falling(options.lr, options.lr_gamma, range(options.lr_step, options.epochs, options.lr_step))
    set_batchnorm_mode(encoder.train(), options.batchnorm)
    model, optimizer = fabric.setup(plain, optimizer)
    run = TrainingRun(
        folder,
        fabric,
        modules={"model": plain},
        optimizer=optimizer,
        lr_at=lr_at,
        epochs=options.epochs,
        steps_per_epoch=steps_per_epoch(len(videos), options.batch),
        seed=options.seed,
        clip_norm=options.clip_norm,
        quiet=quiet,
    )
    loader = make_training_loader(
        run,
        videos,
        batch=options.batch,
        fidelity_at=lambda epoch, step: schedule.at(epoch=epoch, step=step),
        fidelities=schedule.fidelities,
        workers=options.workers,
    )
    model.train()
    set_batchnorm_mode(encoder, options.batchnorm)
    for step, batch in run.batches(loader):
        run.lost.update(videos.reasons(batch))
        fidelity = schedule.at(epoch=step.epoch, step=step.index)
        facts = {"fidelity": fidelity.name, "snippets": fidelity.snippets, "size": fidelity.size}
        size = -(-len(batch.indices) // options.accumulate)
        parts = list(zip(torch.split(batch.frames, size), _split(batch.indices, size), strict=True))
        for place, (frames, indices) in enumerate(parts):
            with fabric.no_backward_sync(model, enabled=place < len(parts) - 1):
                segments = [videos.videos[i].segments for i in indices]
                labels = [videos.videos[i].labels for i in indices]
                outputs, logits = model(frames.to(fabric.device, non_blocking=True))
                draws = [video_generator(options.seed, step.index, videos.videos[i].name) for i in indices]
                losses = head.loss(outputs, segments, labels, draws)
                if logits is not None:
                    losses["class"] = class_loss(logits.float(), segments, labels)
                    losses["total"] = losses["total"] + options.class_loss * losses["class"]
                run.backward(losses, len(indices) / len(batch.indices))
        run.apply(facts)
    if options.reestimate:
        # as many snippets at once as a step of training encodes pixels of
        held = max(fidelity.cost() for fidelity in schedule.fidelities) / full.size**2 * options.batch
        at_once = options.chunk if strategy.name == "chunked" else max(1, round(held / options.accumulate))
        run.lost.update(reestimate_batchnorm(encoder, fabric, videos, full, options, at_once))
    result = {
        "videos": len({video.video_id for video in videos.videos}),
        "windows": len(videos),
        "fidelities": [str(fidelity) for fidelity in schedule.fidelities],
        "unreadable": run.all_lost(),
    }
    return run.outcome(result)


def parameter_groups(model: EndToEnd, options: LofiOptions) -> list[dict[str, Any]]:
    """Return the optimiser's groups: one, or the encoder apart if it has a learning rate of its own.

    A head starts from random weights and an encoder does not: with one large learning rate for both, the first
    gradients that come through the head can undo what stage 1 taught.
    """
    if options.encoder_lr is None:
        return [{"params": list(model.parameters())}]
    others = [parameter for name, parameter in model.named_parameters() if not name.startswith("encoder.")]
    encoder = {"params": list(model.encoder.parameters()), "lr_scale": options.encoder_lr / options.lr}
    return [{"params": others}, encoder]


@torch.no_grad()
def reestimate_batchnorm(
    encoder: Encoder, fabric: Fabric, videos: SnippetDataset, full: Fidelity, options: LofiOptions, at_once: int
) -> dict[str, str]:
    """Estimate BatchNorm's running statistics anew at full fidelity, which the encoder will be used at.

    As after the low-resolution phases of multigrid training (Wu et al., CVPR 2020). The statistics are the mean over
    parts of ``options.reestimate`` batches; the weights stay as they are. A part has ``at_once`` snippets of its batch,
    drawn at random: those of one video vary less than all do.

    Returns:
        Why videos could not be read, by id.
    """
    norms = [module for module in encoder.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return {}
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    encoder.train()
    order = epoch_batches(len(videos), options.batch, options.seed, options.epochs)
    wanted = [order[place % len(order)] for place in range(options.reestimate)]
    requests = [[Request(i, full, derive_seed(options.seed, "statistics", i))] for batch in wanted for i in batch]
    draws = torch.Generator().manual_seed(derive_seed(options.seed, "parts"))
    lost: dict[str, str] = {}
    # video by video, for loader processes share memory of the size of training's batches at most
    found = make_batches(videos, requests, options.workers, count=1, fidelities=[full])
    for batch in wanted:
        frames = []
        for one in islice(found, len(batch)):
            lost.update(videos.reasons(one))
            frames.append(one.frames.flatten(0, 1).clone())
        clips = as_clips(torch.cat(frames))
        with fabric.autocast():
            for part in torch.randperm(len(clips), generator=draws).tensor_split(-(-len(clips) // at_once)):
                encoder(clips[part].to(fabric.device))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    return lost


def video_generator(seed: int, step: int, name: str) -> torch.Generator:
    """Return the source of an item's random draws at a step: the same in whatever batch and process it is."""
    return torch.Generator().manual_seed(derive_seed(seed, "draw", step, name))


def _split(indices: list[int], size: int) -> list[list[int]]:
    return [indices[i : i + size] for i in range(0, len(indices), size)]


def snippet_classes(segments: Tensor, labels: Tensor, snippets: int, background: int) -> Tensor:
    """Return the class ``(L,)`` of each snippet: that of the shortest segment that covers its centre, or background.

    Args:
        segments: ``(N, 2)`` as shares of the video, and ``labels`` ``(N,)``; on the CPU, nothing waits for the device.
        labels: Class indices.
        snippets: L.
        background: Index of what no segment covers.
    """
    centres = (torch.arange(snippets, device=segments.device) + 0.5) / snippets
    target = torch.full((snippets,), background, dtype=torch.long, device=segments.device)
    for i in torch.argsort(segments[:, 0] - segments[:, 1]):  # the longest first, so that shorter ones overwrite
        target[(centres >= segments[i, 0]) & (centres < segments[i, 1])] = labels[i]
    return target


def class_loss(logits: Tensor, segments: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
    """Return the cross entropy of snippet logits ``(B, L, K + 1)``; class K is the background.

    Background counts as much as all classes together, so that a video with little action is not all background to the
    loss.
    """
    background = logits.shape[2] - 1
    target = torch.stack([
        snippet_classes(spans, classes, logits.shape[1], background)
        for spans, classes in zip(segments, labels, strict=True)
    ]).to(logits.device, non_blocking=True)  # fmt: skip
    losses = functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
    inside = (target != background).flatten()
    counts = global_counts(inside, ~inside)
    kinds = (counts > 0).sum()  # 1 if there is only action, or only background
    return (
        torch.stack([ratio((losses * mask).sum(), n) for mask, n in zip((inside, ~inside), counts, strict=True)]).sum()
        / kinds
    )
