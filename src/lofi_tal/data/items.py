"""The items of a batch: what is asked for, what a loader process makes of it, and what a training step is given.

Shapes: B items, S × S pixels; frames are uint8 (..., S, S, 3), the decoder's own layout.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lofi_tal.errors import RunError
from lofi_tal.fidelity import Fidelity

Target = TypeVar("Target")


@dataclass(frozen=True)
class Request:
    """One item of a batch; ``seed`` is that of its augmentation, None for the centre view."""

    index: int
    fidelity: Fidelity
    seed: int | None


@dataclass(frozen=True, eq=False)
class Sample:
    """What a loader worker makes of a request; ``error`` says why there are no frames."""

    index: int
    frames: Tensor | None
    error: str = ""


@dataclass(frozen=True, eq=False)
class Batch(Generic[Target]):
    """What one step is given: items of one fidelity.

    Args:
        indices: Of the items in their data set.
        frames: ``(B, ..., S, S, 3)`` uint8.
        targets: What is to be learnt of each item; a :class:`~lofi_tal.data.TruthVideo`, or the number of a class.
        fidelity: Of all items.
        failed: Why other items that were asked for are not among them, by name.
    """

    indices: list[int]
    frames: Tensor
    targets: list[Target]
    fidelity: Fidelity
    failed: dict[str, str]

    def __len__(self) -> int:
        return len(self.indices)

    def split(self, parts: int) -> Iterator[Batch[Target]]:
        """Yield the micro-batches of the batch: at most ``parts``, of the same size but for the last."""
        size = -(-len(self) // parts)
        for first in range(0, len(self), size):
            rows = slice(first, first + size)
            yield replace(self, indices=self.indices[rows], frames=self.frames[rows], targets=self.targets[rows])


class FrameDataset(Dataset[Sample], ABC, Generic[Target]):
    """Items whose frames, as many for each, are read into memory that is there already."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """Return the name of an item's file for the user: what is lost is listed by it."""

    @abstractmethod
    def target(self, index: int) -> Target:
        """Return what is to be learnt of an item."""

    @abstractmethod
    def shape(self, fidelity: Fidelity) -> tuple[int, ...]:
        """Return the shape of an item's frames, ``(..., S, S, 3)``."""

    @abstractmethod
    def read(self, request: Request, into: Tensor) -> str:
        """Write an item's frames into uint8 memory of that shape; return why there are none, or nothing."""

    def __getitem__(self, request: Request) -> Sample:
        frames = torch.empty(self.shape(request.fidelity), dtype=torch.uint8)
        error = self.read(request, frames)
        return Sample(request.index, None if error else frames, error)

    def batch(self, requests: Sequence[Request], memory: Tensor | None = None) -> Batch[Target]:
        """Return several items of one fidelity, those that can be read.

        Where not one item of a training batch can be read, the next item of the data that can be read stands in, so
        that a lost video never ends a run; the centre views of an evaluation have no stand-in.

        Args:
            requests: The items.
            memory: ``(N,)`` uint8, at least as large as their frames, which are written there; None allocates it.

        Raises:
            RunError: If no item of the data at all can be read.
        """
        shape = (len(requests), *self.shape(requests[0].fidelity))
        frames = torch.empty(shape, dtype=torch.uint8) if memory is None else memory[: math.prod(shape)].view(shape)
        indices: list[int] = []
        failed: dict[str, str] = {}

        def take(request: Request) -> None:
            error = self.read(request, frames[len(indices)])
            if error:
                failed[self.name(request.index)] = error
            else:
                indices.append(request.index)

        for request in requests:
            take(request)
        stand_ins = self._stand_ins(requests[-1])
        while not indices and (stand_in := next(stand_ins, None)) is not None:
            take(stand_in)
        if not indices and requests[-1].seed is not None:
            raise RunError(f"Not one of {len(failed)} videos can be read; the first: {next(iter(failed.values()))}")
        return self.joined(indices, frames[: len(indices)], requests[0].fidelity, failed)

    def joined(self, indices: list[int], frames: Tensor, fidelity: Fidelity, failed: dict[str, str]) -> Batch[Target]:
        """Return items with their targets as a batch."""
        return Batch(indices, frames, [self.target(index) for index in indices], fidelity, failed)

    def _stand_ins(self, last: Request) -> Iterator[Request]:
        """Yield the same view of every other item, those after ``last`` first; nothing for a centre view."""
        if last.seed is not None:
            for step in range(1, len(self)):
                yield replace(last, index=(last.index + step) % len(self))
