"""Loader processes: batches in order, in shared memory that is used in turns; no file ends a run."""

from __future__ import annotations

import contextlib
import functools
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lofi_tal.data.items import Batch, FrameDataset, Request, Target
from lofi_tal.data.order import StepRequests
from lofi_tal.errors import RunError
from lofi_tal.fidelity import Fidelity, Schedule
from lofi_tal.runtime import TrainingRun, pinned
from lofi_tal.video.readers import AHEAD, read_in_processes

_SHARED = Path("/dev/shm")  # noqa: S108 (where Linux has shared memory)
_Key = TypeVar("_Key")
_Item = TypeVar("_Item")


def make_training_loader(
    run: TrainingRun,
    dataset: FrameDataset[Target],
    *,
    batch: int,
    schedule: Schedule,
    workers: int,
    shares: NDArray[np.float64] | None = None,
) -> Iterator[Batch[Target]]:
    """Return the batches of a training stage, from the step at which ``run`` begins, for this rank.

    As :func:`make_batches`, at the fidelities of ``schedule``; ``shares`` say how often each item is drawn.
    """
    requests = StepRequests(
        count=len(dataset),
        batch=batch,
        epochs=run.epochs,
        seed=run.seed,
        schedule=schedule,
        start=run.start,
        rank=run.fabric.global_rank,
        ranks=run.fabric.world_size,
        shares=shares,
    )
    count = -(-batch // run.fabric.world_size)
    return make_batches(dataset, requests, workers, count=count, fidelities=schedule.fidelities)


def make_batches(
    dataset: FrameDataset[Target],
    requests: Iterable[Sequence[Request]],
    workers: int,
    *,
    count: int,
    fidelities: Sequence[Fidelity],
) -> Iterator[Batch[Target]]:
    """Return the batch of each list of requests, in order.

    Loader processes write the frames into shared memory that is used in turns, for fresh memory costs more than what
    is written there: the frames of a batch hold until the next but one is asked for. On CUDA that memory is pinned, so
    that a copy to the device need not be waited for; a step of training is over before its frames are overwritten.

    Args:
        dataset: The items.
        requests: Those of each batch.
        workers: Loader processes.
        count: Items of the largest batch.
        fidelities: All that are asked for.

    Raises:
        RunError: If there is not that much shared memory.
    """
    if not workers:
        yield from make_loader(dataset.batch, requests, 0)
        return
    largest = count * max(math.prod(dataset.shape(fidelity)) for fidelity in fidelities)
    turns = workers * AHEAD + 2  # those under way, the one in use and the next
    _check_shared_memory(turns * largest)
    # torch has no public name for it
    storage = torch.UntypedStorage._new_shared(turns * largest)  # type: ignore[no-untyped-call]  # noqa: SLF001
    memory = torch.empty(0, dtype=torch.uint8).set_(storage).view(turns, largest)
    keys = ((number % turns, wanted) for number, wanted in enumerate(requests))
    items = make_loader(functools.partial(_write_batch, dataset, memory), keys, workers)
    with contextlib.ExitStack() as held:
        for number, (turn, shape, indices, fidelity, failed) in enumerate(items):
            if number == 0:  # only now: the loader processes have been forked
                held.enter_context(pinned(memory))
            yield dataset.joined(indices, memory[turn, : math.prod(shape)].view(shape), fidelity, failed)


def _check_shared_memory(needed: int) -> None:
    """Refuse to begin what would end in a bus error, as in a container with the usual 64 MB."""
    if _SHARED.exists() and needed > (free := shutil.disk_usage(_SHARED).free):
        raise RunError(
            f"The loader processes need {needed / 2**30:.2f} GiB of shared memory for their batches, and {_SHARED} has "
            f"{free / 2**30:.2f} GiB left: lower data.workers (0 needs none), or give the container more (--shm-size)."
        )


def _write_batch(
    dataset: FrameDataset[Any], memory: Tensor, key: tuple[int, Sequence[Request]]
) -> tuple[int, tuple[int, ...], list[int], Fidelity, dict[str, str]]:
    """Write a batch where its turn is; the frames themselves are not sent to the main process, which has them."""
    turn, requests = key
    batch = dataset.batch(requests, memory[turn])
    return turn, tuple(batch.frames.shape), batch.indices, batch.fidelity, batch.failed


def make_loader(read: Callable[[_Key], _Item], keys: Iterable[_Key], workers: int) -> Iterator[_Item]:
    """Return what ``read`` gives for each of ``keys``, in order; it is called in ``workers`` processes.

    A process that dies, or in which a file hangs, is replaced; see :mod:`lofi_tal.video.readers`.
    """
    return read_in_processes(read, keys, workers, begin=functools.partial(torch.set_num_threads, 1))
