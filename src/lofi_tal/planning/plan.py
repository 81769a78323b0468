"""A plan: every way to train stage 2 with what it needs, and which one to take.

The batch of an optimiser step is the recipe's, whatever the number of devices: what a device cannot hold at once, it
takes in parts whose gradients are summed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lofi_tal.config import Recipe
from lofi_tal.fidelity import Fidelity
from lofi_tal.planning.step import Parts, StepModel
from lofi_tal.stages.strategies import Strategy


@dataclass(frozen=True)
class Row:
    """One fidelity, strategy and precision.

    Args:
        fidelity: L × S.
        r_t: Temporal ratio to full fidelity.
        r_s: Spatial ratio to full fidelity.
        strategy: How it is back-propagated.
        precision: ``fp32`` or ``bf16``.
        one_video: Memory of a step with one video at once.
        videos_at_once: Most videos that fit on a device, and that it needs; 0 if not even one fits.
        parts: In which a device takes its share of the batch.
        step: Memory of a step with so many videos at once.
        compute: Of a video, relative to full fidelity with plain back-propagation.
        seconds: Predicted time of an optimiser step on this machine.
    """

    fidelity: Fidelity
    r_t: float
    r_s: float
    strategy: Strategy
    precision: str
    one_video: Parts
    videos_at_once: int
    parts: int
    step: Parts
    compute: float
    seconds: float

    @property
    def fits(self) -> bool:
        """Whether at least one video fits."""
        return self.videos_at_once > 0

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON-like values; memory in bytes."""
        return {
            **vars(self),
            "fidelity": self.fidelity.to_json(),
            "strategy": vars(self.strategy),
            "one_video": vars(self.one_video),
            "step": vars(self.step),
            "fits": self.fits,
        }


@dataclass(frozen=True)
class Choice:
    """A whole schedule under one strategy: its worst phase decides what fits, the mean of its phases what it costs.

    Args:
        schedule: Name of the schedule.
        r_t: As in the recipe.
        r_s: As in the recipe.
        strategy: For all phases.
        precision: For all phases.
        rows: Of its phases.
    """

    schedule: str
    r_t: float
    r_s: float
    strategy: Strategy
    precision: str
    rows: tuple[Row, ...]

    @property
    def fits(self) -> bool:
        """Whether every phase fits."""
        return all(row.fits for row in self.rows)

    @property
    def parts(self) -> int:
        """In how many parts a device takes its share of the batch."""
        return max(row.parts for row in self.rows)

    @property
    def peak(self) -> float:
        """Bytes of the largest phase."""
        return max(row.step.peak for row in self.rows)

    @property
    def compute(self) -> float:
        """Mean compute of a video, relative to full fidelity."""
        return sum(row.compute for row in self.rows) / len(self.rows)

    @property
    def seconds(self) -> float:
        """Mean time of an optimiser step."""
        return sum(row.seconds for row in self.rows) / len(self.rows)

    def to_json(self) -> dict[str, Any]:
        """Return what the choice sets and costs."""
        return {
            "schedule": self.schedule, "r_t": self.r_t, "r_s": self.r_s, "strategy": vars(self.strategy),
            "precision": self.precision, "accumulate": self.parts, "peak": self.peak, "compute": self.compute,
            "seconds": self.seconds, "fits": self.fits,
        }  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Everything that was looked at, and what to take.

    Args:
        budget: Bytes a device.
        devices: Number of devices.
        batch: Videos of an optimiser step, over all devices.
        rows: Every fidelity × strategy × precision.
        choices: Every schedule that was considered, the cheapest first.
        recommended: What to take; None if nothing fits.
        reason: Why, in a sentence.
        phases_equal: Largest relative difference in memory between the phases of the recipe's cycle (plain, one
            video), to be compared with 0.15.
        short_segments: Temporal ratio to the share of the training segments that are shorter than a snippet step.
        model: What the predictions come from.
    """

    budget: int
    devices: int
    batch: int
    rows: tuple[Row, ...]
    choices: tuple[Choice, ...]
    recommended: Choice | None
    reason: str
    phases_equal: float
    short_segments: dict[float, float]
    model: StepModel

    @property
    def share(self) -> int:
        """Videos of an optimiser step that one device takes."""
        return -(-self.batch // self.devices)

    def at_once(self, row: Row, videos: int) -> Row:
        """Return a row with ``videos`` at once on a device."""
        step = self.model.memory(videos, row.fidelity, row.strategy, row.precision)
        return replace(row, videos_at_once=videos, parts=-(-self.share // videos), step=step)

    def frontier(self) -> list[Choice]:
        """Return the choices that fit and are beaten by no other in both memory and compute, by memory."""
        front: list[Choice] = []
        for choice in sorted((c for c in self.choices if c.fits), key=lambda c: (c.peak, c.compute)):
            if not front or choice.compute < front[-1].compute - 1e-9:
                front.append(choice)
        return front

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON-like values."""
        plain = {key: value for key, value in vars(self).items() if key != "model"}
        return {
            **plain,
            "rows": [row.to_json() for row in self.rows],
            "choices": [choice.to_json() for choice in self.choices],
            "recommended": self.recommended.to_json() if self.recommended else None,
            "frontier": [choice.to_json() for choice in self.frontier()],
            "short_segments": {f"{ratio:g}": share for ratio, share in self.short_segments.items()},
        }


def planned(recipe: Recipe, choice: Choice) -> Recipe:
    """Return the recipe with the settings of a choice."""
    assert recipe.lofi is not None
    settings = {
        "r_t": choice.r_t, "r_s": choice.r_s, "strategy": choice.strategy.name, "accumulate": choice.parts,
    }  # fmt: skip
    return recipe.model_copy(update={"lofi": recipe.lofi.model_copy(update=settings)})


def in_parts(plan: Plan, choice: Choice, parts: int) -> Choice:
    """Return a choice whose devices take their share of the batch in at least so many parts."""
    rows = tuple(plan.at_once(row, -(-plan.share // max(parts, 1))) for row in choice.rows)
    return replace(choice, rows=rows)


def next_smaller(plan: Plan, tried: Choice) -> Choice | None:
    """Return what to try after a choice ran out of memory: the same schedule with less memory.

    First in twice as many parts, as long as there is more than one video in a part; then the strategies that need less
    for one video, the least reduced and cheapest first.
    """
    if tried.rows[0].videos_at_once > 1:
        return in_parts(plan, tried, 2 * tried.parts)
    smaller = [
        in_parts(plan, choice, plan.share)
        for choice in plan.choices
        if choice.schedule == tried.schedule and choice.precision == tried.precision and choice.r_t >= tried.r_t
    ]
    smaller = [choice for choice in smaller if choice.peak < 0.9 * tried.peak]
    return min(smaller, key=lambda choice: (choice.r_t, choice.compute), default=None)
