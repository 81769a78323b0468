"""Which fidelity at which step (paper sec. 3.2, "Cyclic LoFi"): pure functions of epoch and step.

Every rank and every loader worker can ask and gets the same answer; nothing has to be saved for a resume.
The paper's order is S, T, ST, S, ...; the long cycle changes at epoch starts, every c_l epochs, the short
one every c_s mini-batches, counted across epochs (the paper does not say whether an epoch resets the
counter; a running one keeps the shares of the three phases equal).

Other packages add schedules as entry points of the group ``lofi_tal.schedules``: a function
``(full, **settings) -> Schedule``, which is given those of the settings of :func:`create_schedule` that it takes.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lofi_tal.errors import LofiError
from lofi_tal.fidelity.fidelity import Fidelity, reduced, s_lofi, st_lofi, t_lofi
from lofi_tal.registry import Registry

Cycle = Sequence[tuple[float, float]]
"""``(r_t, r_s)`` of each phase."""


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


SCHEDULES: Registry[Callable[..., Schedule]] = Registry("schedule", "lofi_tal.schedules")
"""Every schedule that is installed."""


def list_schedules() -> tuple[str, ...]:
    """Return the names of all schedules: the paper's, then those of other packages in alphabetical order."""
    return SCHEDULES.names()


def create_schedule(
    name: str,
    full: Fidelity,
    *,
    r_t: float = 4.0,
    r_s: float = 2.0,
    c_l: int = 1,
    c_s: int = 16,
    cycle: Cycle | None = None,
) -> Schedule:
    """Build a schedule by name.

    Args:
        name: One of :func:`list_schedules`, or ``package.module:factory``, which runs the code of that module.
        full: Full fidelity (L, S), from which every phase is derived.
        r_t: Temporal ratio of T-LoFi; ST-LoFi takes its square root.
        r_s: Spatial ratio of S-LoFi; ST-LoFi takes its square root.
        c_l: Epochs a phase lasts in the long cycle.
        c_s: Mini-batches a phase lasts in the short cycle.
        cycle: ``(r_t, r_s)`` of each phase of a cycle, instead of S, T, ST.

    Raises:
        LofiError: If the name is unknown, a ratio is not usable, or ``cycle`` is given and the schedule has none.
    """
    factory = SCHEDULES.get(name, dotted=True)
    settings: dict[str, Any] = {"r_t": r_t, "r_s": r_s, "c_l": c_l, "c_s": c_s, "cycle": cycle}
    parameters = inspect.signature(factory).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        settings = {key: value for key, value in settings.items() if key in parameters}
    if cycle is not None and "cycle" not in settings:
        raise LofiError(f"schedule {name!r} has no phases to list in `cycle`: use short or long.")
    try:
        return factory(full, **settings)
    except TypeError as error:
        raise LofiError(f"schedule {name!r}: {error}.") from error


@SCHEDULES.register("full")
def full_schedule(full: Fidelity, *, r_t: float, r_s: float) -> Schedule:
    """Full fidelity throughout; the ratios are only checked."""
    _phases(full, r_t, r_s)
    return ConstantSchedule(full)


@SCHEDULES.register("s")
def s_schedule(full: Fidelity, *, r_t: float, r_s: float) -> Schedule:
    """S-LoFi: smaller frames."""
    return ConstantSchedule(_phases(full, r_t, r_s)[0])


@SCHEDULES.register("t")
def t_schedule(full: Fidelity, *, r_t: float, r_s: float) -> Schedule:
    """T-LoFi: fewer snippets."""
    return ConstantSchedule(_phases(full, r_t, r_s)[1])


@SCHEDULES.register("st")
def st_schedule(full: Fidelity, *, r_t: float, r_s: float) -> Schedule:
    """ST-LoFi: both, each to the square root."""
    return ConstantSchedule(_phases(full, r_t, r_s)[2])


@SCHEDULES.register("short")
def short_cycle(full: Fidelity, *, r_t: float, r_s: float, c_s: int, cycle: Cycle | None) -> Schedule:
    """Short Cyclic LoFi: another phase every ``c_s`` mini-batches."""
    return CyclicSchedule(_phases(full, r_t, r_s, cycle), c_s, "step")


@SCHEDULES.register("long")
def long_cycle(full: Fidelity, *, r_t: float, r_s: float, c_l: int, cycle: Cycle | None) -> Schedule:
    """Long Cyclic LoFi: another phase every ``c_l`` epochs."""
    return CyclicSchedule(_phases(full, r_t, r_s, cycle), c_l, "epoch")


def _phases(full: Fidelity, r_t: float, r_s: float, cycle: Cycle | None = None) -> tuple[Fidelity, ...]:
    """Return the phases of ``cycle``, or S, T and ST.

    Raises:
        LofiError: If a ratio of any of S, T and ST or of the cycle is not usable.
    """
    phases: tuple[Fidelity, ...] = (
        s_lofi(full, r_s),
        t_lofi(full, r_t),
        st_lofi(full, math.sqrt(max(r_t, 0)), math.sqrt(max(r_s, 0))),
    )
    if cycle is not None:
        phases = tuple(reduced(f"r{index + 1}", full, *ratios) for index, ratios in enumerate(cycle))
    return phases
