"""Fidelity of mini-batches: how many snippets, how many pixels, and which of them at which step."""

from lofi_tal.fidelity.fidelity import Fidelity, full_fidelity, reduced, s_lofi, st_lofi, t_lofi
from lofi_tal.fidelity.schedules import (
    SCHEDULES,
    ConstantSchedule,
    CyclicSchedule,
    Schedule,
    create_schedule,
    list_schedules,
)
from lofi_tal.fidelity.takes import RESIZE, Takes

__all__ = [
    "RESIZE",
    "SCHEDULES",
    "ConstantSchedule",
    "CyclicSchedule",
    "Fidelity",
    "Schedule",
    "Takes",
    "create_schedule",
    "full_fidelity",
    "list_schedules",
    "reduced",
    "s_lofi",
    "st_lofi",
    "t_lofi",
]
