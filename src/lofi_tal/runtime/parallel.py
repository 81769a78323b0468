"""Several processes of one run: what one of them does for all, and what each does a share of.

They are started by `torchrun` or SLURM and joined by Fabric; in a single process all of this is plain calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric import Fabric

Result = TypeVar("Result")


def is_parallel() -> bool:
    """Say whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank_and_size() -> tuple[int, int]:
    """Return this process's number and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if is_parallel() else (0, 1)


def on_first(work: Callable[[], Result]) -> Result:
    """Do ``work`` in the first process alone, and return its result, or raise its error, in all of them."""
    if not is_parallel():
        return work()
    box: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            box = [(work(), None)]
        except Exception as error:  # raised below, in every process
            box = [(None, error)]
    dist.broadcast_object_list(box, src=0)
    result, failure = box[0]
    if failure is not None:
        raise failure
    return result  # type: ignore[no-any-return]


def share_of_batch(items: int, fabric: Fabric) -> float:
    """Return the factor of a mean over this process's items of a batch.

    The processes' gradients are averaged; with this factor the result is the mean over all items of the batch, even if
    the processes have different numbers of them.
    """
    if not is_parallel():
        return 1.0
    total = torch.tensor([float(items)], device=fabric.device)
    dist.all_reduce(total)
    return items * dist.get_world_size() / float(total)


def mean_over_processes(figures: dict[str, float]) -> dict[str, float]:
    """Return the mean of each figure over all processes: of losses, that of the whole batch."""
    if not is_parallel() or not figures:
        return figures
    all_of_them = gather(figures)
    return {name: sum(one[name] for one in all_of_them) / len(all_of_them) for name in figures}


def gather(value: Any) -> list[Any]:
    """Return the values of all processes, in their order, in each of them; it waits for all of them."""
    if not is_parallel():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
