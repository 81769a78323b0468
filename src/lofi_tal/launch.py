"""What the launcher of several processes (torchrun, srun) says in the environment, before anything is joined.

Nothing heavy is imported here: the command line asks before torch is loaded.
"""

from __future__ import annotations

import os


def started_rank() -> int:
    """Return this process's number as its launcher (torchrun, srun) says, before anything is joined."""
    return _launched("RANK", "SLURM_PROCID", 0) if started_size() > 1 else 0


def started_size() -> int:
    """Return how many processes there are, as their launcher says, before anything is joined.

    In a SLURM batch script without srun that is one, however many tasks the job has.
    """
    return _launched("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", 1)


def started_here() -> int:
    """Return how many of the processes are on this machine."""
    nodes = max(1, _launched("", "SLURM_STEP_NUM_NODES", 1))
    return _launched("LOCAL_WORLD_SIZE", "", max(1, started_size() // nodes))


def started_local_rank() -> int:
    """Return this process's number among those on its machine, as their launcher says."""
    return _launched("LOCAL_RANK", "SLURM_LOCALID", 0)


def _launched(torchrun: str, srun: str, otherwise: int) -> int:
    """Return a number that torchrun or else srun puts into the environment."""
    for name in (torchrun, srun):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return otherwise
