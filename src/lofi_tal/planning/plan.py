"""What fits: memory, compute and time of every way to train stage 2, and which one to take under a budget.

For each fidelity (full, S, T, ST, at the recipe's ratios and at others), strategy and precision: the memory of a step
with so many videos at once on a device, from :mod:`lofi_tal.planning.accounting`; the compute relative to full fidelity
with plain back-propagation; and the time, from one encoder step that is timed on this machine.

The batch of an optimiser step is the recipe's, whatever the number of devices: what a device cannot hold at once, it
takes in parts whose gradients are summed.

Shapes: B videos at once on one device, L snippets a video, S × S pixels.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from lofi_tal.config import Recipe
from lofi_tal.encoders import Encoder
from lofi_tal.errors import LofiError
from lofi_tal.fidelity import Fidelity, create_schedule, full_fidelity
from lofi_tal.heads import Head
from lofi_tal.planning.accounting import StepMemory, affine, encoder_memory, head_memory, tensor_bytes
from lofi_tal.stages.strategies import STRATEGIES, Strategy

FACTORS = (2.0, 4.0, 8.0)
"""Values of r_t · r_s² that the search looks at, besides the recipe's."""
CUDA_RESERVE = 1.0 * 2**30
"""Of a GPU's budget for its context and for the scratch memory of convolutions."""
_UNITS = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
          "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}  # fmt: skip
_SLACK = 0.15
"""Phases of a cycle cost the same if they differ by at most this share."""


def parse_memory(text: str) -> int:
    """Return the bytes of a budget such as ``24GiB``, ``24 GB`` or ``8000MB``.

    Raises:
        LofiError: If the text is not a positive number with a unit of memory.
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*", text)
    unit = found[2].lower() if found else ""
    if not found or unit not in _UNITS or unit in ("", "b") or float(found[1]) <= 0:
        raise LofiError(
            f"memory {text!r} is not an amount of memory: give a positive number and one of "
            "KiB, MiB, GiB, TiB, kB, MB, GB, TB, such as 24GiB."
        )
    return int(float(found[1]) * _UNITS[unit])


@dataclass(frozen=True)
class Parts:
    """Bytes of a training step by what they are for; ``peak`` is the most that is alive at once.

    Args:
        parameters: Of encoder and head.
        gradients: Of the same.
        optimizer: State of the optimiser.
        input: Frames of the videos, as uint8.
        activations: What the encoder keeps for back-propagation.
        head: What the head holds at most.
        peak: All that is alive at the worst moment.
    """

    parameters: float
    gradients: float
    optimizer: float
    input: float
    activations: float
    head: float
    peak: float


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
            "fidelity": vars(self.fidelity),
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
        found: list[Choice] = []
        for choice in sorted((c for c in self.choices if c.fits), key=lambda c: (c.peak, c.compute)):
            if not found or choice.compute < found[-1].compute - 1e-9:
                found.append(choice)
        return found

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


class StepModel:
    """Predicts the memory and compute of a training step of one encoder and head, whatever the fidelity.

    Every size, strategy and precision is counted once, for two numbers of snippets; from there on it is arithmetic.

    Args:
        encoder: The encoder.
        head: The head.
        frames: T.
        optimizer: ``sgd`` or ``adamw``.
        momentum: Of SGD.
    """

    def __init__(self, encoder: Encoder, head: Head, *, frames: int, optimizer: str, momentum: float) -> None:
        self.encoder, self.head, self.frames = encoder, head, frames
        self.encoder_bytes = tensor_bytes(encoder.parameters())
        self.head_bytes = tensor_bytes(head.parameters())
        self.largest_bytes = max(tensor_bytes([parameter]) for parameter in encoder.parameters())
        states = 2 if optimizer == "adamw" else int(momentum > 0)
        self.optimizer_bytes = states * (self.encoder_bytes + self.head_bytes)
        self._fixed: dict[tuple[str, str], StepMemory] = {}
        self._encoder = cache(self._count_encoder)
        self._head = cache(self._count_head)
        self.seconds_per_operation = cache(self._time_operation)

    def memory(self, videos: int, fidelity: Fidelity, strategy: Strategy, precision: str) -> Parts:
        """Return the memory of a step with ``videos`` at once."""
        snippets = videos * fidelity.snippets
        kept = max(1, round(strategy.gradient_share * snippets))
        frames = snippets * self.frames * fidelity.size**2 * 3
        features = 4.0 * snippets * self.encoder.channels
        head = self._at(self._head(fidelity.snippets, strategy.saves_in_head), videos)
        at_once = min(kept, strategy.chunk) if strategy.name == "chunked" else kept
        chunks = strategy.name == "chunked" and kept > at_once  # gradients are summed over several chunks
        name = "chunk" if chunks else "plain" if strategy.name == "chunked" else strategy.name
        encoder = self._at(self._encoder(fidelity.size, name, precision), at_once)
        if strategy.name == "chunked":
            # the sum of the chunks before; while a layer's gradient is added, it is there as well, and so is the result
            summed = self.encoder_bytes + 2 * self.largest_bytes if chunks else 0
            saved, during_encoder, during_head = features, encoder.peak + summed + 2 * features, features + head.peak
        else:
            saved, during_encoder, during_head = encoder.saved, encoder.peak, encoder.saved + head.peak
        weights = self.encoder_bytes + self.head_bytes
        body = max(during_encoder + self.head_bytes, during_head, float(weights))
        fixed = weights + self.optimizer_bytes
        return Parts(
            parameters=weights,
            gradients=weights,
            optimizer=self.optimizer_bytes,
            input=frames,
            activations=saved,
            head=head.peak,
            peak=fixed + frames + body,
        )

    def compute(self, fidelity: Fidelity, strategy: Strategy) -> float:
        """Return the operations of a training step of one video."""
        encoder = fidelity.snippets * self._encoder(fidelity.size, "plain", "fp32")[0].flops
        head = self._at(self._head(fidelity.snippets, False), 1).flops
        passes = 3.0 if strategy.name == "plain" else 4.0
        share = max(1, round(strategy.gradient_share * fidelity.snippets)) / fidelity.snippets
        return encoder * (passes * share + (1 - share)) + 3.0 * head

    def _time_operation(self, size: int, precision: str) -> float:
        """Return the time of an operation on this machine, from encoder steps of one snippet on the CPU or GPU."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = self.encoder.to(device).train()
        clips = torch.zeros(1, self.frames, size, size, 3, dtype=torch.uint8, device=device).permute(0, 1, 4, 2, 3)
        times = []
        for _ in range(3):
            began = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                features = model(clips)
            torch.autograd.backward(features.sum())
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
        self.encoder.to("cpu").zero_grad(set_to_none=True)
        unit = self._encoder(size, "plain", "fp32")[0].flops
        return min(times[1:]) / (3.0 * unit)

    def _count_encoder(self, size: int, name: str, precision: str) -> tuple[StepMemory, StepMemory]:
        def count(snippets: int) -> StepMemory:
            strategy = Strategy("plain" if name == "chunk" else name)
            return encoder_memory(
                self.encoder,
                snippets,
                self.frames,
                size,
                strategy=strategy,
                bf16=precision == "bf16",
                summed=name == "chunk",
            )

        fixed = self._fixed.get((name, precision))  # of the weights: the same at every size
        if fixed is None:
            unit, fixed = affine(count, 1, 3)
            self._fixed[name, precision] = fixed
            return unit, fixed
        found = count(2)
        unit = StepMemory(
            (found.saved - fixed.saved) / 2, (found.peak - fixed.peak) / 2, (found.flops - fixed.flops) / 2
        )
        return unit, fixed

    def _count_head(self, snippets: int, saving: bool) -> tuple[StepMemory, StepMemory]:
        return affine(lambda videos: head_memory(self.head, videos, snippets, saving=saving), 1, 2)

    @staticmethod
    def _at(measured: tuple[StepMemory, StepMemory], count: int) -> StepMemory:
        unit, fixed = measured
        return StepMemory(
            fixed.saved + count * unit.saved, fixed.peak + count * unit.peak, fixed.flops + count * unit.flops
        )


def make_plan(
    recipe: Recipe,
    model: StepModel,
    *,
    budget: int,
    devices: int = 1,
    precisions: Sequence[str] = ("fp32", "bf16"),
    search: bool = True,
    cuda: bool | None = None,
    lengths: Sequence[float] = (),
) -> Plan:
    """Look at every way to train stage 2 under a memory budget, and recommend one.

    The recommendation keeps the recipe's schedule and reduces the resolution only as far as it must: of the smallest
    r_t · r_s² (from the recipe's on) at which something fits, it takes what needs the least compute, in the first of
    ``precisions`` if both fit.

    Args:
        recipe: Its sections `snippets`, `lofi` and `head` count.
        model: Of the recipe's encoder and head; what it has counted for one plan serves the next.
        budget: Bytes of each device.
        devices: Number of devices.
        precisions: What to look at, the preferred one first.
        search: Look at other ratios than the recipe's as well.
        cuda: Keep memory back for a GPU's context; by default if there is a GPU here.
        lengths: Of the training segments, as shares of their videos.

    Raises:
        LofiError: If the recipe has no stage 2, or an argument is out of range.
    """
    section = recipe.lofi
    if section is None:
        raise LofiError("The recipe has no stage 2 (`lofi: null`): there is nothing to plan.")
    if budget <= 0 or devices < 1:
        raise LofiError(f"budget={budget} bytes and devices={devices}: both must be positive.")
    if cuda is None:
        cuda = torch.cuda.is_available()
    usable = budget - (CUDA_RESERVE if cuda else 0)
    full = full_fidelity(recipe.snippets.count, recipe.snippets.size)
    share = -(-section.batch // devices)
    reference = model.compute(full, Strategy())
    timed = max(16, full.size // 2)
    speeds = {precision: model.seconds_per_operation(timed, precision) for precision in precisions}

    @cache
    def row(fidelity: Fidelity, strategy: Strategy, precision: str) -> Row:
        def peak(videos: int) -> float:
            return model.memory(videos, fidelity, strategy, precision).peak

        at_once = next((videos for videos in range(share, 0, -1) if peak(videos) <= usable), 0)
        compute = model.compute(fidelity, strategy)
        return Row(
            fidelity=fidelity,
            r_t=full.snippets / fidelity.snippets,
            r_s=full.size / fidelity.size,
            strategy=strategy,
            precision=precision,
            one_video=model.memory(1, fidelity, strategy, precision),
            videos_at_once=at_once,
            parts=-(-share // max(1, at_once)),
            step=model.memory(max(1, at_once), fidelity, strategy, precision),
            compute=compute / reference,
            seconds=compute * share * speeds[precision],
        )

    own = section.r_t
    ratios = sorted({own, *(FACTORS if search else ())})
    strategies = [Strategy(name, section.chunk, section.gradient_share) for name in STRATEGIES]
    rows: list[Row] = []
    choices: list[Choice] = []
    for factor in ratios:
        r_t, r_s = (own, section.r_s) if factor == own else (factor, math.sqrt(factor))
        try:
            schedules = {
                name: create_schedule(
                    name,
                    full,
                    r_t=r_t,
                    r_s=r_s,
                    c_l=section.c_l,
                    c_s=section.c_s,
                    cycle=section.cycle if name == section.schedule and factor == own else None,
                )
                for name in {section.schedule, "s", "t", "st", *(("full",) if factor == ratios[0] else ())}
            }
        except LofiError:
            continue  # nothing is left of the video at this ratio
        for precision in precisions:
            for strategy in strategies:
                for name, schedule in schedules.items():
                    found = tuple(row(fidelity, strategy, precision) for fidelity in schedule.fidelities)
                    rows += [one for one in found if one not in rows]
                    choices.append(Choice(name, r_t, r_s, strategy, precision, found))
    rows.sort(key=lambda one: (-one.fidelity.cost(), one.fidelity.name, one.precision, one.compute))
    choices.sort(key=lambda choice: (choice.compute, choice.peak))
    recommended, reason = _recommend(choices, section.schedule, own, precisions, usable)
    return Plan(
        budget=budget,
        devices=devices,
        batch=section.batch,
        rows=tuple(rows),
        choices=tuple(choices),
        recommended=recommended,
        reason=reason,
        phases_equal=_difference([
            row(fidelity, Strategy(), precisions[0]).one_video.peak
            for fidelity in create_schedule("long", full, r_t=own, r_s=section.r_s, cycle=section.cycle).fidelities
        ]),
        short_segments={
            ratio: sum(length * full.snippets / ratio < 1 for length in lengths) / len(lengths)
            for ratio in sorted({1.0, math.sqrt(own), *ratios})
        } if lengths else {},
        model=model,
    )  # fmt: skip


def _difference(values: Sequence[float]) -> float:
    return max(values) / min(values) - 1


def _recommend(
    choices: Sequence[Choice], schedule: str, own: float, precisions: Sequence[str], usable: float
) -> tuple[Choice | None, str]:
    """Return the least compute at the least reduction, and why."""
    candidates = [choice for choice in choices if choice.schedule == schedule and choice.r_t >= own - 1e-9]
    fitting = [choice for choice in candidates if choice.fits]
    if not fitting:
        smallest = min(candidates, key=lambda choice: max(row.one_video.peak for row in choice.rows))
        needed = max(row.one_video.peak for row in smallest.rows) + max(0.0, -usable)
        return None, (
            f"Nothing fits: the smallest, {schedule} with r_t = {smallest.r_t:g}, {smallest.strategy} in "
            f"{smallest.precision}, needs {needed / 2**30:.2f} GiB for one video. Give more memory, a smaller "
            "snippets.size or snippets.frames, or a smaller encoder."
        )
    best = min(fitting, key=lambda c: (c.r_t, c.compute, precisions.index(c.precision), c.parts, c.peak))
    why = [f"{best.strategy} back-propagation in {best.precision} is the least compute that fits"]
    if best.r_t > own:
        why.append(f"r_t is raised from {own:g} to {best.r_t:g} because nothing fits at the recipe's ratio")
    if best.parts > 1:
        why.append(f"each device takes its share of the batch in {best.parts} parts")
    return best, "; ".join(why) + "."


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
