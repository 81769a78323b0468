"""The order of training: which items at which step and fidelity, as a function of seed, epoch and step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from lofi_tal.balance import draw
from lofi_tal.data.items import Request
from lofi_tal.errors import LofiError
from lofi_tal.fidelity import Fidelity, Schedule
from lofi_tal.runtime import derive_seed


def epoch_batches(
    count: int, batch: int, seed: int, epoch: int, shares: NDArray[np.float64] | None = None
) -> list[list[int]]:
    """Return the index lists of one epoch's batches, which differ by one item at most.

    They are as many as batches of the full size would be: a last batch of one or two items would train on poor
    statistics, and could not be spread over several processes.

    Args:
        count: Items.
        batch: Items a step.
        seed: Of the order.
        epoch: Number of the epoch.
        shares: ``(count,)`` how often each item is drawn, on average (:mod:`lofi_tal.balance`); each once without it.
    """
    generator = np.random.default_rng(derive_seed(seed, "order", epoch))
    order = generator.permutation(count)
    if shares is not None:
        order = generator.permutation(draw(shares, generator))
    return [part.tolist() for part in np.array_split(order, steps_per_epoch(count, batch))]


def steps_per_epoch(count: int, batch: int) -> int:
    """Return the number of batches of an epoch."""
    return -(-count // batch)


class StepRequests(Sampler[list[Request]]):
    """The requests of every step from ``start`` on, for this rank.

    Args:
        count: Items.
        batch: Items a step, over all ranks.
        epochs: Passes.
        seed: Of order and augmentation.
        schedule: The fidelity of each step.
        start: First step (of a resumed run).
        rank: This process.
        ranks: Number of processes.
        shares: How often each item is drawn: see :func:`epoch_batches`.
    """

    def __init__(
        self,
        *,
        count: int,
        batch: int,
        epochs: int,
        seed: int,
        schedule: Schedule,
        start: int = 0,
        rank: int = 0,
        ranks: int = 1,
        shares: NDArray[np.float64] | None = None,
    ) -> None:
        self.shares = shares
        self.count, self.batch, self.epochs, self.seed = count, batch, epochs, seed
        self.schedule, self.start, self.rank, self.ranks = schedule, start, rank, ranks
        self.steps = steps_per_epoch(count, batch)

    def __len__(self) -> int:
        return self.epochs * self.steps - self.start

    def __iter__(self) -> Iterator[list[Request]]:
        for epoch in range(self.start // self.steps, self.epochs):
            for position, indices in enumerate(epoch_batches(self.count, self.batch, self.seed, epoch, self.shares)):
                step = epoch * self.steps + position
                if step < self.start:
                    continue
                fidelity = self.schedule.at(epoch=epoch, step=step)
                if len(indices) < self.ranks:
                    raise LofiError(
                        f"A batch of {len(indices)} items cannot be spread over {self.ranks} processes: use fewer "
                        "processes or a larger batch."
                    )
                yield [
                    Request(index, fidelity, derive_seed(self.seed, "view", epoch, index))
                    for index in indices[self.rank :: self.ranks]
                ]


def centre_requests(count: int, batch: int, fidelity: Fidelity) -> list[list[Request]]:
    """Return all items once, in order, centre view."""
    return [
        [Request(index, fidelity, None) for index in range(i, min(i + batch, count))] for i in range(0, count, batch)
    ]
