"""The memory and compute of one training step, whatever the fidelity: counted once for a size, then arithmetic.

Shapes: B videos at once on one device, L snippets a video, S × S pixels.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch

from lofi_tal.encoders import Encoder, trainable
from lofi_tal.fidelity import Fidelity
from lofi_tal.heads import Head
from lofi_tal.planning.accounting import (
    StepMemory,
    affine,
    encoder_memory,
    head_memory,
    tensor_bytes,
)
from lofi_tal.stages.strategies import Strategy


@dataclass(frozen=True)
class Parts:
    """Bytes of a training step by what they are for; ``peak`` is the most that is alive at once.

    Args:
        parameters: Of encoder and head.
        gradients: Of those that are trained.
        optimizer: State of the optimiser, and the average of the weights.
        input: Frames of the videos, as uint8.
        activations: What the encoder keeps for back-propagation.
        head: What the head holds at most.
        peak: All that is alive at the worst moment.
    """

    parameters: float
    gradients: float
    optimizer: float
    input: float
    activations: float
    head: float
    peak: float


_LONG = 0.08  # seconds of work that fixed costs are small beside
_MOST = 64  # snippets or videos at once, however fast they are


class StepModel:
    """Predicts the memory and compute of a training step of one encoder and head, whatever the fidelity.

    Every size, strategy and precision is counted once, for two numbers of snippets; from there on it is arithmetic.

    Args:
        encoder: The encoder; what is frozen in it needs no gradients.
        head: The head.
        frames: T.
        optimizer: ``sgd`` or ``adamw``.
        momentum: Of SGD.
        averaged: Whether an average of the weights is kept.
    """

    def __init__(
        self, encoder: Encoder, head: Head, *, frames: int, optimizer: str, momentum: float, averaged: bool = False
    ) -> None:
        self.encoder, self.head, self.frames = encoder, head, frames
        weights = trainable(encoder.modules())
        self.encoder_bytes = tensor_bytes(encoder.parameters())
        self.trained_bytes = tensor_bytes(weights)  # of the encoder; the head is trained whole
        self.head_bytes = tensor_bytes(head.parameters())
        self.largest_bytes = max((tensor_bytes([parameter]) for parameter in weights), default=0)
        states = (2 if optimizer == "adamw" else int(momentum > 0)) + averaged
        self.optimizer_bytes = states * (self.trained_bytes + self.head_bytes)
        self._fixed: dict[tuple[str, str], StepMemory] = {}
        self._flops: dict[int, float] = {}
        self._encoder = cache(self._count_encoder)
        self._head = cache(self._count_head)
        self.encoder_seconds = cache(self._time_encoder)
        self.head_seconds = cache(self._time_head)

    def memory(self, videos: int, fidelity: Fidelity, strategy: Strategy, precision: str) -> Parts:
        """Return the memory of a step with ``videos`` at once."""
        snippets = videos * fidelity.snippets
        kept = max(1, round(strategy.gradient_share * snippets))
        frames = snippets * self.frames * fidelity.size**2 * 3
        features = 4.0 * snippets * self.encoder.channels
        head = self._at(self._head(fidelity.snippets, strategy.saves_in_head), videos)
        at_once = min(kept, strategy.chunk) if strategy.name == "chunked" else kept
        chunks = strategy.name == "chunked" and kept > at_once  # gradients are summed over several chunks
        name = "plain" if strategy.name == "chunked" else strategy.name
        encoder = self._at(self._encoder(fidelity.size, name, precision), at_once)
        if strategy.name == "chunked":
            # the sum of the chunks before; while a layer's gradient is added, it is there as well, and so is the result
            peak = encoder.adding + self.trained_bytes + 2 * self.largest_bytes if chunks else encoder.peak
            saved, during_encoder, during_head = features, peak + 2 * features, features + head.peak
        else:
            saved, during_encoder, during_head = encoder.saved, encoder.peak, encoder.saved + head.peak
        weights, gradients = self.encoder_bytes + self.head_bytes, self.trained_bytes + self.head_bytes
        body = max(during_encoder + self.head_bytes, during_head, float(gradients))
        fixed = weights + self.optimizer_bytes
        return Parts(
            parameters=weights,
            gradients=gradients,
            optimizer=self.optimizer_bytes,
            input=frames,
            activations=saved,
            head=head.peak,
            peak=fixed + frames + body,
        )

    def compute(self, fidelity: Fidelity, strategy: Strategy, precision: str = "fp32") -> float:
        """Return the operations of a training step of one video; they are the same in any ``precision``."""
        head = self._at(self._head(fidelity.snippets, False), 1).flops
        backward = self._backward(fidelity.size, precision)
        return self._passes(fidelity, strategy, backward) * self._operations(fidelity.size, precision) + 3.0 * head

    def seconds(self, fidelity: Fidelity, strategy: Strategy, precision: str, *, timed: Sequence[int]) -> float:
        """Return the time of a training step of one video on this machine, its data aside.

        Args:
            fidelity: Of the video.
            strategy: How the encoder is back-propagated.
            precision: ``fp32`` or ``bf16``.
            timed: Sizes at which the encoder is timed; the nearest one tells how fast its operations are.
        """
        nearest = min(timed, key=lambda size: abs(math.log(size / fidelity.size)))
        operations = self._operations(fidelity.size, precision) / self._operations(nearest, precision)
        backward = self._backward(nearest, precision)
        passes = self._passes(fidelity, strategy, backward) / (1 + backward)
        encoder = passes * operations * self.encoder_seconds(nearest, precision)
        return encoder + self.head_seconds(fidelity.snippets) * (4 / 3 if strategy.saves_in_head else 1)

    @staticmethod
    def _passes(fidelity: Fidelity, strategy: Strategy, backward: float) -> float:
        """Return how often a step of one video does the work of the encoder's forward pass of a snippet."""
        passes = (1.0 if strategy.name == "plain" or not backward else 2.0) + backward
        share = max(1, round(strategy.gradient_share * fidelity.snippets)) / fidelity.snippets
        return fidelity.snippets * (passes * share + (1 - share))

    def _operations(self, size: int, precision: str) -> float:
        """Return the operations of the encoder's forward pass of a snippet."""
        return self._flops.get(size) or self._encoder(size, "plain", precision)[0].flops

    def _backward(self, size: int, precision: str) -> float:
        """Return the operations of the encoder's backward pass, those of the forward pass being 1: 2 if all learns."""
        if not self.encoder.frozen:
            return 2.0
        unit = self._encoder(size, "plain", precision)[0]
        return unit.backward / unit.flops

    def _time_encoder(self, size: int, precision: str) -> float:
        """Return the seconds of a snippet, forward and back, among so many that fixed costs do not count."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = self.encoder.to(device).train()

        def step(snippets: int) -> None:
            shape = (snippets, self.frames, size, size, 3)
            clips = torch.zeros(shape, dtype=torch.uint8, device=device).permute(0, 1, 4, 2, 3)
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                features = model(clips)
            if features.requires_grad:
                torch.autograd.backward(features.sum())

        seconds = _seconds_each(step, device)
        self.encoder.to("cpu").zero_grad(set_to_none=True)
        return seconds

    def _time_head(self, snippets: int) -> float:
        """Return the seconds of the head for a video of L snippets, forward, loss and back."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = copy.deepcopy(self.head).to(device).train()
        spans, labels = torch.tensor([[0.2, 0.6], [0.7, 0.8]], device=device), torch.zeros(2, dtype=torch.long)

        def step(videos: int) -> None:
            features = torch.randn(videos, model.in_channels, snippets, device=device)
            losses = model.loss(model(features), [spans] * videos, [labels.to(device)] * videos)
            torch.autograd.backward(losses["total"])

        return _seconds_each(step, device, _LONG / 5)  # a small part of a step, and one for each L

    def _count_encoder(self, size: int, name: str, precision: str) -> tuple[StepMemory, StepMemory]:
        def count(snippets: int) -> StepMemory:
            bf16 = precision == "bf16"
            return encoder_memory(self.encoder, snippets, self.frames, size, strategy=Strategy(name), bf16=bf16)

        fixed = self._fixed.get((name, precision))  # of the weights: the same at every size
        if fixed is None:
            unit, fixed = affine(count, 1, 3)
            self._fixed[name, precision] = fixed
        else:
            two = count(2)
            unit = StepMemory(*((getattr(two, field) - getattr(fixed, field)) / 2 for field in vars(two)))
        self._flops.setdefault(size, unit.flops)
        return unit, fixed

    def _count_head(self, snippets: int, saving: bool) -> tuple[StepMemory, StepMemory]:
        return affine(lambda videos: head_memory(self.head, videos, snippets, saving=saving), 1, 2)

    @staticmethod
    def _at(measured: tuple[StepMemory, StepMemory], count: int) -> StepMemory:
        unit, fixed = measured
        found = StepMemory(*(getattr(fixed, name) + count * getattr(unit, name) for name in vars(unit)))
        return replace(
            found, peak=max(found.peak, found.forward), adding=max(found.adding, found.forward)
        )  # few snippets were counted, with which gradients may be the most


def _seconds_each(step: Callable[[int], None], device: torch.device, least: float = _LONG) -> float:
    """Return the seconds of one item, from a step of so many that it takes ``least`` seconds; a first try warms up."""
    count = 1
    while True:
        first = _timed(step, count, device)
        if first >= least or count >= _MOST:
            return min(first, _timed(step, count, device)) / count
        count = min(_MOST, count * min(8, max(2, math.ceil(least / first))))


def _timed(step: Callable[[int], None], count: int, device: torch.device) -> float:
    began = time.perf_counter()
    step(count)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
