"""How the encoder is back-propagated in stage 2: what is kept of the forward pass, and what is computed again.

*plain* keeps every activation. *checkpoint* keeps what enters each block of the encoder and computes the rest of it
again when its gradient is due (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016); BatchNorm sees the
same batch both times, so nothing changes but time. *chunked* keeps nothing but the features: snippets go through the
encoder in groups, and each group is encoded again when its gradient is due, so that the memory is that of one group,
however many snippets there are. BatchNorm in train mode then takes its statistics group by group, the same groups in
both passes; with frozen statistics the gradient is that of plain.

With any of them the gradient can be sampled: only a random share of the snippets is back-propagated, scaled so that the
expected gradient is the whole one (cf. Cheng et al., "Stochastic Backpropagation", CVPR 2022).

Shapes: N snippets, T frames, S × S pixels, C channels.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lofi_tal.encoders import Encoder, batchnorms
from lofi_tal.errors import LofiError

STRATEGIES = ("plain", "checkpoint", "chunked")


@dataclass(frozen=True)
class Strategy:
    """How to back-propagate.

    Args:
        name: One of :data:`STRATEGIES`.
        chunk: Snippets in a group of ``chunked``.
        gradient_share: Share of the snippets that is back-propagated, in (0, 1].

    Raises:
        LofiError: If an argument is out of its range.
    """

    name: str = "plain"
    chunk: int = 8
    gradient_share: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in STRATEGIES:
            raise LofiError(f"strategy {self.name!r} is unknown; allowed: {', '.join(STRATEGIES)}.")
        if self.chunk < 1 or not 0 < self.gradient_share <= 1:
            raise LofiError(
                f"chunk={self.chunk} must be at least 1 snippet, gradient_share={self.gradient_share} in (0, 1]."
            )

    @property
    def saves_in_head(self) -> bool:
        """Whether the head computes again as well what grows with the square of the number of snippets."""
        return self.name == "chunked"

    def __str__(self) -> str:
        text = f"chunked by {self.chunk}" if self.name == "chunked" else self.name
        return text if self.gradient_share == 1 else f"{text}, gradient of {self.gradient_share:.0%}"


def encode(encoder: Encoder, clips: Tensor, strategy: Strategy) -> Tensor:
    """Encode clips ``(N, T, 3, S, S)`` to features ``(N, C)`` whose gradient is computed as ``strategy`` says.

    The snippets of a sampled gradient are drawn from torch's generator.
    """
    count = len(clips)
    kept = max(1, round(strategy.gradient_share * count))
    if kept == count or not torch.is_grad_enabled():
        return _encode(encoder, clips, strategy)
    order = torch.randperm(count).to(clips.device)
    with torch.no_grad():
        outside = torch.cat([encoder(chunk) for chunk in torch.split(clips[order[kept:]], strategy.chunk)])
    inside = _encode(encoder, clips[order[:kept]], strategy)
    inside = inside.detach() + (inside - inside.detach()) * (count / kept)
    return torch.cat([inside, outside])[order.argsort()]


def _encode(encoder: Encoder, clips: Tensor, strategy: Strategy) -> Tensor:
    if strategy.name == "plain" or not torch.is_grad_enabled():
        features: Tensor = encoder(clips)
        return features
    again = functools.partial(_contexts, encoder)
    if strategy.name == "chunked":
        groups = torch.split(clips, strategy.chunk)
        return torch.cat([checkpoint(encoder, group, use_reentrant=False, context_fn=again) for group in groups])
    with _checkpointed(encoder.blocks(), again):
        return _encode(encoder, clips, Strategy())


def _contexts(encoder: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return contextlib.nullcontext(), _statistics_kept(encoder)


@contextlib.contextmanager
def _statistics_kept(encoder: nn.Module) -> Iterator[None]:
    """Let BatchNorm see its batch without noting it: the first pass has done so."""
    norms = [norm for norm in batchnorms(encoder) if norm.training]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None  # not counted
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


@contextlib.contextmanager
def _checkpointed(
    blocks: list[nn.Module], contexts: Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]]
) -> Iterator[None]:
    """Keep only the inputs of ``blocks`` in a forward pass."""
    for block in blocks:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False, context_fn=contexts)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
