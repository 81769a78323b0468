"""Which fidelity at which step (paper sec. 3.2, "Cyclic LoFi"): pure functions of epoch and step.

Every rank and every loader worker can ask and gets the same answer; nothing has to be saved for a resume.
The paper's order is S, T, ST, S, ...; the long cycle changes at epoch starts, every c_l epochs, the short
one every c_s mini-batches, counted across epochs (the paper does not say whether an epoch resets the
counter; a running one keeps the shares of the three phases equal).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lofi_tal.errors import LofiError, nearest
from lofi_tal.fidelity.fidelity import Fidelity, reduced, s_lofi, st_lofi, t_lofi

SCHEDULES = ("full", "s", "t", "st", "short", "long")


class Schedule(Protocol):
    """A fidelity for each optimiser step."""

    @property
    def fidelities(self) -> tuple[Fidelity, ...]:
        """All fidelities that occur."""

    def at(self, *, epoch: int, step: int) -> Fidelity:
        """Return the fidelity of optimiser step ``step`` (counted from 0 over the whole run) in epoch ``epoch``."""


@dataclass(frozen=True)
class ConstantSchedule:
    """One fidelity all the time: S-, T-, ST-LoFi or full fidelity."""

    fidelity: Fidelity

    @property
    def fidelities(self) -> tuple[Fidelity, ...]:
        """The one fidelity."""
        return (self.fidelity,)

    def at(self, *, epoch: int, step: int) -> Fidelity:
        """Return the one fidelity."""
        return self.fidelity


@dataclass(frozen=True)
class CyclicSchedule:
    """Go round ``fidelities``, changing every ``every`` epochs (long cycle) or steps (short cycle).

    Args:
        fidelities: Phases in visiting order.
        every: c_l epochs or c_s steps of each phase.
        unit: ``"epoch"`` or ``"step"``.

    Raises:
        LofiError: If ``every`` is less than 1.
    """

    fidelities: tuple[Fidelity, ...]
    every: int
    unit: str

    def __post_init__(self) -> None:
        if self.every < 1:
            name = "c_l (epochs)" if self.unit == "epoch" else "c_s (mini-batches)"
            raise LofiError(f"{name} is {self.every}: a phase of the cycle lasts at least 1.")

    def at(self, *, epoch: int, step: int) -> Fidelity:
        """Return the fidelity of the phase that ``epoch`` or ``step`` falls into."""
        position = epoch if self.unit == "epoch" else step
        return self.fidelities[position // self.every % len(self.fidelities)]


def create_schedule(
    name: str,
    full: Fidelity,
    *,
    r_t: float = 4.0,
    r_s: float = 2.0,
    c_l: int = 1,
    c_s: int = 16,
    cycle: Sequence[tuple[float, float]] | None = None,
) -> Schedule:
    """Build one of the paper's schedules by name.

    Args:
        name: ``full``, ``s``, ``t``, ``st``, ``short`` or ``long``.
        full: Full fidelity (L, S), from which every phase is derived.
        r_t: Temporal ratio of T-LoFi; ST-LoFi takes its square root.
        r_s: Spatial ratio of S-LoFi; ST-LoFi takes its square root.
        c_l: Epochs a phase lasts in the long cycle.
        c_s: Mini-batches a phase lasts in the short cycle.
        cycle: ``(r_t, r_s)`` of each phase of a cycle, instead of S, T, ST.

    Raises:
        LofiError: If the name is unknown or a ratio is not usable.
    """
    phases: tuple[Fidelity, ...] = (
        s_lofi(full, r_s),
        t_lofi(full, r_t),
        st_lofi(full, math.sqrt(max(r_t, 0)), math.sqrt(max(r_s, 0))),
    )
    if cycle is not None:
        if name not in ("short", "long"):
            raise LofiError(f"schedule {name!r} has no phases to list in `cycle`: use short or long.")
        phases = tuple(reduced(f"r{place + 1}", full, *ratios) for place, ratios in enumerate(cycle))
    match name:
        case "full":
            return ConstantSchedule(full)
        case "s" | "t" | "st":
            return ConstantSchedule(phases[("s", "t", "st").index(name)])
        case "long":
            return CyclicSchedule(phases, c_l, "epoch")
        case "short":
            return CyclicSchedule(phases, c_s, "step")
    raise LofiError(f"schedule {name!r} is unknown; known: {', '.join(SCHEDULES)}.{nearest(name, SCHEDULES)}")
