"""Loader processes: batches in order, in shared memory that is used in turns; files that hang end no run."""

from __future__ import annotations

import contextlib
import functools
import math
import multiprocessing
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lofi_tal.data.items import Batch, FrameDataset, Request, Target
from lofi_tal.data.order import StepRequests
from lofi_tal.errors import LofiError, RunError
from lofi_tal.fidelity import Fidelity, Schedule
from lofi_tal.runtime import TrainingRun, pinned
from lofi_tal.video import watch

_AHEAD = 2
"""Batches that a loader process prepares ahead."""
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
    turns = workers * _AHEAD + 2  # those under way, the one in use and the next
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

    A process in which a video file hangs ends; others go on in its place, to which that file is one that hangs.
    """
    told, tell = multiprocessing.Pipe(duplex=False)
    hanging: list[Path] = []
    waiting: deque[_Key] = deque()  # keys of which nothing has come yet
    left = iter(keys)
    while True:
        loader = DataLoader(
            _Caught(read),
            sampler=_noted(chain(tuple(waiting), left), waiting),
            batch_size=None,
            collate_fn=_unchanged,
            num_workers=workers,
            worker_init_fn=functools.partial(_begin_process, tell, tuple(hanging)),
            prefetch_factor=_AHEAD if workers else None,
        )
        waiting.clear()
        try:
            for item in loader:
                if isinstance(item, LofiError):
                    raise item
                waiting.popleft()
                yield item
            return
        except RuntimeError:  # a process has ended
            if not told.poll():
                raise
            while told.poll():
                hanging.append(Path(os.fsdecode(told.recv_bytes())))


def _noted(keys: Iterable[_Key], waiting: deque[_Key]) -> Iterator[_Key]:
    for key in keys:
        waiting.append(key)
        yield key


def _begin_process(tell: Connection, hanging: Collection[Path], worker: int) -> None:
    """Watch the files that this process reads, and let a signal to the whole group of processes end none with an error.

    On SIGTERM and SIGHUP loader processes leave at once, in silence: the main process has what its step needs, ends
    it, and writes a checkpoint. They must not ignore SIGTERM, which is how torch ends them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: os._exit(0))
    watch.watch_this_process(lambda path: tell.send_bytes(os.fsencode(path)), hanging)


class _Caught(Dataset[Any]):
    """Items whose errors are items too: raised in a loader process, they would come with its traceback as text."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self.read = read

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.read(key)
        except LofiError as error:
            return error


def _unchanged(item: Any) -> Any:
    return item
