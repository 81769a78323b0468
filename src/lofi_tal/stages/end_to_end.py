"""Encoder and head as one module, whose losses train both (paper sec. 3.2).

Shapes: B videos, L snippets, T frames, S × S pixels, C channels, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lofi_tal.data import Batch, TruthVideo, as_clips
from lofi_tal.encoders import Encoder
from lofi_tal.heads import Head
from lofi_tal.heads.losses import global_counts, ratio, weighted_positives
from lofi_tal.runtime import derive_seed
from lofi_tal.stages.strategies import Strategy, encode

PLAIN = Strategy()


class EndToEnd(nn.Module):
    """Encoder, head and, for the class loss, one linear layer on the snippet features.

    Args:
        encoder: The encoder.
        head: The head.
        classes: K of the class loss; None for none.
        strategy: How the encoder is back-propagated.
        class_loss: Weight of the class loss.
        class_weights: ``(K,)`` weights of the classes in it; None for none.
        multi_label: Classes overlap: the layer says of each class whether it is there. Otherwise it tells K classes and
            background apart.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: Head,
        classes: int | None = None,
        strategy: Strategy = PLAIN,
        *,
        class_loss: float = 1.0,
        class_weights: Sequence[float] | None = None,
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        self.class_weights = None if class_weights is None else torch.tensor(class_weights)
        self.multi_label = multi_label
        self.strategy, self.class_weight = strategy, class_loss
        self.encoder, self.head = encoder, head
        outputs = 0 if not classes else classes if multi_label else classes + 1
        self.snippet_classifier = nn.Linear(encoder.channels, outputs) if outputs else None
        if multi_label and self.snippet_classifier is not None:  # as if one of K + 1 were there: no large first steps
            nn.init.constant_(self.snippet_classifier.bias, -math.log(outputs))
        if strategy.saves_in_head:
            head.save_memory()

    def forward(self, frames: Tensor) -> tuple[Any, Tensor | None]:
        """Map uint8 frames ``(B, L, T, S, S, 3)`` to the head's outputs and snippet logits ``(B, L, K + 1 or K)``."""
        batch, snippets = frames.shape[:2]
        features = encode(self.encoder, as_clips(frames.flatten(0, 1)), self.strategy)
        features = features.view(batch, snippets, -1)  # (B, L, C)
        logits = self.snippet_classifier(features) if self.snippet_classifier is not None else None
        with torch.autocast(features.device.type, enabled=False):  # probabilities near 0 and 1 want digits
            return self.head(features.transpose(1, 2).contiguous()), logits

    def losses(
        self,
        outputs: tuple[Any, Tensor | None],
        targets: Sequence[TruthVideo],
        draws: Sequence[torch.Generator] | None = None,
    ) -> dict[str, Tensor]:
        """Return the named losses of what :meth:`forward` returned; ``total`` is to be minimised.

        Args:
            outputs: Of :meth:`forward`.
            targets: B videos or windows with their segments and labels.
            draws: Source of the head's random draws for each of them; torch's own without it.
        """
        segments, labels = [one.segments for one in targets], [one.labels for one in targets]
        head_outputs, logits = outputs
        losses = self.head.loss(head_outputs, segments, labels, draws)
        if logits is not None:
            loss_of = overlapping_class_loss if self.multi_label else class_loss
            losses["class"] = loss_of(logits.float(), segments, labels, self.class_weights)
            losses["total"] = losses["total"] + self.class_weight * losses["class"]
        return losses

    def loss(self, batch: Batch[TruthVideo]) -> dict[str, Tensor]:
        """Return the named losses of a batch; ``total`` is to be minimised."""
        device = next(self.parameters()).device
        return self.losses(self(batch.frames.to(device, non_blocking=True)), batch.targets)


def video_generator(seed: int, step: int, name: str) -> torch.Generator:
    """Return the source of an item's random draws at a step: the same in whatever batch and process it is."""
    return torch.Generator().manual_seed(derive_seed(seed, "draw", step, name))


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


def class_loss(
    logits: Tensor, segments: Sequence[Tensor], labels: Sequence[Tensor], weights: Tensor | None = None
) -> Tensor:
    """Return the cross entropy of snippet logits ``(B, L, K + 1)``; class K is the background.

    Background counts as much as all classes together, so that a video with little action is not all background to the
    loss. ``weights`` ``(K,)`` are those of the classes.
    """
    background = logits.shape[2] - 1
    target = torch.stack([
        snippet_classes(spans, classes, logits.shape[1], background)
        for spans, classes in zip(segments, labels, strict=True)
    ]).to(logits.device, non_blocking=True)  # fmt: skip
    weights = None if weights is None else functional.pad(weights.to(logits), (0, 1), value=1.0)
    losses = functional.cross_entropy(logits.flatten(0, 1), target.flatten(), weights, reduction="none")
    return _mean_of_both(losses, (target != background).flatten())


def snippet_labels(segments: Tensor, labels: Tensor, snippets: int, classes: int) -> Tensor:
    """Return which classes ``(L, K)`` each snippet has, 1 or 0: those of all segments that cover its centre.

    Args:
        segments: ``(N, 2)`` as shares of the video, and ``labels`` ``(N,)``; on the CPU, nothing waits for the device.
        labels: Class indices.
        snippets: L.
        classes: K.
    """
    centres = (torch.arange(snippets, device=segments.device) + 0.5) / snippets
    covers = (centres[:, None] >= segments[:, 0]) & (centres[:, None] < segments[:, 1])  # (L, N)
    return (covers.float() @ functional.one_hot(labels, classes).float()).clamp(max=1)


def overlapping_class_loss(
    logits: Tensor, segments: Sequence[Tensor], labels: Sequence[Tensor], weights: Tensor | None = None
) -> Tensor:
    """Return the binary cross-entropy of snippet logits ``(B, L, K)``, summed over the classes: any may be there.

    Snippets without a class count as much as all others together, as in :func:`class_loss`. ``weights`` ``(K,)`` are
    those of the classes where they are there.
    """
    target = torch.stack([
        snippet_labels(spans, classes, *logits.shape[1:]) for spans, classes in zip(segments, labels, strict=True)
    ]).to(logits.device, non_blocking=True)  # fmt: skip
    losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    losses = weighted_positives(losses, target, weights)
    return _mean_of_both(losses.sum(dim=2).flatten(), (target.sum(dim=2) > 0).flatten())


def _mean_of_both(losses: Tensor, inside: Tensor) -> Tensor:
    """Return the mean over snippets ``(B · L,)`` inside actions and that over all others, half of each."""
    counts = global_counts(inside, ~inside)
    kinds = (counts > 0).sum()  # 1 if there is only action, or only background
    means = [ratio((losses * mask).sum(), n) for mask, n in zip((inside, ~inside), counts, strict=True)]
    return torch.stack(means).sum() / kinds
