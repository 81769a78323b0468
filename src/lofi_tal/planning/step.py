"""The memory and compute of one training step, whatever the fidelity: counted once for a size, then arithmetic.

Shapes: B videos at once on one device, L snippets a video, S × S pixels.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import torch

from lofi_tal.encoders import Encoder
from lofi_tal.fidelity import Fidelity
from lofi_tal.heads import Head
from lofi_tal.planning.accounting import StepMemory, affine, encoder_memory, head_memory, tensor_bytes
from lofi_tal.stages.strategies import Strategy


@dataclass(frozen=True)
class Parts:
    """Bytes of a training step by what they are for; ``peak`` is the most that is alive at once.

    Args:
        parameters: Of encoder and head.
        gradients: Of the same.
        optimizer: State of the optimiser.
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


class StepModel:
    """Predicts the memory and compute of a training step of one encoder and head, whatever the fidelity.

    Every size, strategy and precision is counted once, for two numbers of snippets; from there on it is arithmetic.

    Args:
        encoder: The encoder.
        head: The head.
        frames: T.
        optimizer: ``sgd`` or ``adamw``.
        momentum: Of SGD.
    """

    def __init__(self, encoder: Encoder, head: Head, *, frames: int, optimizer: str, momentum: float) -> None:
        self.encoder, self.head, self.frames = encoder, head, frames
        self.encoder_bytes = tensor_bytes(encoder.parameters())
        self.head_bytes = tensor_bytes(head.parameters())
        self.largest_bytes = max(tensor_bytes([parameter]) for parameter in encoder.parameters())
        states = 2 if optimizer == "adamw" else int(momentum > 0)
        self.optimizer_bytes = states * (self.encoder_bytes + self.head_bytes)
        self._fixed: dict[tuple[str, str], StepMemory] = {}
        self._encoder = cache(self._count_encoder)
        self._head = cache(self._count_head)
        self.seconds_per_operation = cache(self._time_operation)

    def memory(self, videos: int, fidelity: Fidelity, strategy: Strategy, precision: str) -> Parts:
        """Return the memory of a step with ``videos`` at once."""
        snippets = videos * fidelity.snippets
        kept = max(1, round(strategy.gradient_share * snippets))
        frames = snippets * self.frames * fidelity.size**2 * 3
        features = 4.0 * snippets * self.encoder.channels
        head = self._at(self._head(fidelity.snippets, strategy.saves_in_head), videos)
        at_once = min(kept, strategy.chunk) if strategy.name == "chunked" else kept
        chunks = strategy.name == "chunked" and kept > at_once  # gradients are summed over several chunks
        name = "chunk" if chunks else "plain" if strategy.name == "chunked" else strategy.name
        encoder = self._at(self._encoder(fidelity.size, name, precision), at_once)
        if strategy.name == "chunked":
            # the sum of the chunks before; while a layer's gradient is added, it is there as well, and so is the result
            summed = self.encoder_bytes + 2 * self.largest_bytes if chunks else 0
            saved, during_encoder, during_head = features, encoder.peak + summed + 2 * features, features + head.peak
        else:
            saved, during_encoder, during_head = encoder.saved, encoder.peak, encoder.saved + head.peak
        weights = self.encoder_bytes + self.head_bytes
        body = max(during_encoder + self.head_bytes, during_head, float(weights))
        fixed = weights + self.optimizer_bytes
        return Parts(
            parameters=weights,
            gradients=weights,
            optimizer=self.optimizer_bytes,
            input=frames,
            activations=saved,
            head=head.peak,
            peak=fixed + frames + body,
        )

    def compute(self, fidelity: Fidelity, strategy: Strategy) -> float:
        """Return the operations of a training step of one video."""
        encoder = fidelity.snippets * self._encoder(fidelity.size, "plain", "fp32")[0].flops
        head = self._at(self._head(fidelity.snippets, False), 1).flops
        passes = 3.0 if strategy.name == "plain" else 4.0
        share = max(1, round(strategy.gradient_share * fidelity.snippets)) / fidelity.snippets
        return encoder * (passes * share + (1 - share)) + 3.0 * head

    def _time_operation(self, size: int, precision: str) -> float:
        """Return the time of an operation on this machine, from encoder steps of one snippet on the CPU or GPU."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = self.encoder.to(device).train()
        clips = torch.zeros(1, self.frames, size, size, 3, dtype=torch.uint8, device=device).permute(0, 1, 4, 2, 3)
        times = []
        for _ in range(3):
            began = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                features = model(clips)
            torch.autograd.backward(features.sum())
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
        self.encoder.to("cpu").zero_grad(set_to_none=True)
        unit = self._encoder(size, "plain", "fp32")[0].flops
        return min(times[1:]) / (3.0 * unit)

    def _count_encoder(self, size: int, name: str, precision: str) -> tuple[StepMemory, StepMemory]:
        def count(snippets: int) -> StepMemory:
            strategy = Strategy("plain" if name == "chunk" else name)
            return encoder_memory(
                self.encoder,
                snippets,
                self.frames,
                size,
                strategy=strategy,
                bf16=precision == "bf16",
                summed=name == "chunk",
            )

        fixed = self._fixed.get((name, precision))  # of the weights: the same at every size
        if fixed is None:
            unit, fixed = affine(count, 1, 3)
            self._fixed[name, precision] = fixed
            return unit, fixed
        two_snippets = count(2)
        unit = StepMemory(
            (two_snippets.saved - fixed.saved) / 2,
            (two_snippets.peak - fixed.peak) / 2,
            (two_snippets.flops - fixed.flops) / 2,
        )
        return unit, fixed

    def _count_head(self, snippets: int, saving: bool) -> tuple[StepMemory, StepMemory]:
        return affine(lambda videos: head_memory(self.head, videos, snippets, saving=saving), 1, 2)

    @staticmethod
    def _at(measured: tuple[StepMemory, StepMemory], count: int) -> StepMemory:
        unit, fixed = measured
        return StepMemory(
            fixed.saved + count * unit.saved, fixed.peak + count * unit.peak, fixed.flops + count * unit.flops
        )
