"""Several processes of one run: what one of them does for all, and what each does a share of.

They are started by `torchrun` or SLURM and joined by Fabric; in a single process all of this is plain calls.
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor

from lofi_tal.errors import LofiError
from lofi_tal.files import write_text

Result = TypeVar("Result")


def is_parallel() -> bool:
    """Say whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank_and_size() -> tuple[int, int]:
    """Return this process's number and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if is_parallel() else (0, 1)


class _Work:
    begun = False


def _only(work: Callable[[], Result]) -> Result:
    """Do ``work``, and note for that time that the other processes wait for it."""
    _Work.begun = True
    try:
        return work()
    finally:
        _Work.begun = False


def on_first(work: Callable[[], Result]) -> Result:
    """Do ``work`` in the first process alone, and return its result, or raise its error, in all of them.

    Raises:
        RuntimeError: If it is called within such work, with one process too: the others would take the result of the
            inner work for that of the outer one.
    """
    if _Work.begun:
        raise RuntimeError("on_first within the work of on_first: do first what the inner one does.")
    if not is_parallel():
        return _only(work)
    box: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            box = [(_only(work), None)]
        except Exception as error:  # raised below, in every process
            box = [(None, error)]
    dist.broadcast_object_list(box, src=0)
    result, failure = box[0]
    if failure is not None:
        raise failure
    return result  # type: ignore[no-any-return]


def check_common_folder(folder: Path) -> None:
    """Refuse a run folder that is not the same on all hosts; it waits for all processes.

    Raises:
        LofiError: If a process does not see what the first one writes there; the message names its host.
    """
    if not is_parallel():
        return
    name = f".common-{on_first(lambda: uuid.uuid4().hex)}"
    on_first(lambda: write_text(folder / name, ""))
    seen = gather((socket.gethostname(), (folder / name).exists()))
    on_first(lambda: (folder / name).unlink(missing_ok=True))
    strangers = sorted({host for host, there in seen if not there})
    if strangers:
        raise LofiError(
            f"{folder} is not the same folder on all hosts: {', '.join(strangers)} does not see what the first process "
            "writes there. Give a folder on a file system that they share."
        )


def share_of_batch(items: int, fabric: Fabric) -> float | Tensor:
    """Return the factor of a mean over this process's items of a batch, on the device: nothing waits for it.

    The processes' gradients are averaged; with this factor the result is the mean over all items of the batch, even if
    the processes have different numbers of them.
    """
    if not is_parallel():
        return 1.0
    total = torch.tensor([float(items)], device=fabric.device)
    dist.all_reduce(total)
    return items * dist.get_world_size() / total[0]


def mean_over_processes(figures: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the mean of each scalar over all processes: of losses, that of the whole batch.

    All of them leave the device together, which is the one time in a step that the processor waits for it.
    """
    if not figures:
        return {}
    together = torch.stack([value.detach().float() for value in figures.values()])
    if is_parallel():
        dist.all_reduce(together)
        together /= dist.get_world_size()
    return dict(zip(figures, together.tolist(), strict=True))


def gather(value: Any) -> list[Any]:
    """Return the values of all processes, in their order, in each of them; it waits for all of them."""
    if not is_parallel():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
