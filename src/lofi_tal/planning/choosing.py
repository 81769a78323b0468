"""What fits: every way to train stage 2 under a memory budget, and which one to take.

For each fidelity (full, S, T, ST, at the recipe's ratios and at others), strategy and precision: the memory of a step
with so many videos at once on a device, from :mod:`lofi_tal.planning.accounting`; the compute relative to full fidelity
with plain back-propagation; and the time, from one encoder step that is timed on this machine.

Shapes: L snippets a video, S × S pixels.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial

import torch

from lofi_tal.annotations import parse_annotations, read_labels
from lofi_tal.config import LofiSection, Recipe
from lofi_tal.encoders import adapt_encoder, create_encoder
from lofi_tal.errors import LofiError
from lofi_tal.fidelity import Fidelity, Schedule, create_schedule
from lofi_tal.heads import create_head, with_classes
from lofi_tal.planning.plan import Choice, Plan, Row
from lofi_tal.planning.step import Parts, StepModel
from lofi_tal.recipes.encoder import arguments_of, full_of
from lofi_tal.runtime import auto_precision
from lofi_tal.stages.strategies import STRATEGIES, Strategy

FACTORS = (2.0, 4.0, 8.0)
"""Values of r_t · r_s² that the search looks at, besides the recipe's."""
CUDA_RESERVE = 1.0 * 2**30
"""Of a GPU's budget for its context and for the scratch memory of convolutions."""
_UNITS = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
          "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}  # fmt: skip


def parse_memory(text: str) -> int:
    """Return the bytes of a budget such as ``24GiB``, ``24 GB`` or ``8000MB``.

    Raises:
        LofiError: If the text is not a positive number with a unit of memory.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*", text)
    unit = match[2].lower() if match else ""
    if not match or unit not in _UNITS or unit in ("", "b") or float(match[1]) <= 0:
        raise LofiError(
            f"memory {text!r} is not an amount of memory: give a positive number and one of "
            "KiB, MiB, GiB, TiB, kB, MB, GB, TB, such as 24GiB."
        )
    return int(float(match[1]) * _UNITS[unit])


def plan_recipe(
    recipe: Recipe,
    budget: int,
    *,
    devices: int = 1,
    precision: str = "auto",
    search: bool | None = None,
    model: StepModel | None = None,
) -> Plan:
    """Look at every way to train a recipe's stage 2 under a budget of ``budget`` bytes a device.

    Args:
        recipe: The recipe; the lengths of its training segments, as shares of the video or window, are read from its
            annotations, if they are there.
        budget: Bytes.
        devices: Number of devices.
        precision: ``auto`` (what a run would take first, then the other), ``both``, ``fp32`` or ``bf16``.
        search: Look at other ratios than the recipe's as well; None does so if nothing fits at the recipe's.
        model: Of an earlier plan for the same encoder and head.

    Raises:
        LofiError: If the recipe has no stage 2, or an argument is out of range.
    """
    precisions = _precisions(precision)
    labels, lengths = _segments(recipe)
    model = model or _step_model(_step_settings(recipe, labels))
    make = partial(make_plan, recipe, model, budget=budget, devices=devices, precisions=precisions, lengths=lengths)
    plan = make(search=bool(search))
    return make(search=True) if search is None and plan.recommended is None else plan


def _step_settings(recipe: Recipe, labels: int) -> str:
    """Return all that the memory of a step depends on but fidelity and strategy, as text."""
    lofi = recipe.lofi
    optimizer, momentum = ("sgd", 0.0) if lofi is None else (lofi.optimizer, lofi.momentum)
    averaged = lofi is not None and lofi.ema is not None
    return json.dumps({
        "encoder": [arguments_of(recipe.encoder), recipe.encoder.adapting()],
        "head": [recipe.head.name, with_classes(recipe.head.name, recipe.head.options, labels)],
        "step": {"frames": recipe.snippets.frames, "optimizer": optimizer, "momentum": momentum,
                 "averaged": averaged},
    })  # fmt: skip


@lru_cache(maxsize=8)
def _step_model(settings: str) -> StepModel:
    """Return the model of a step; what it has counted for one plan serves the next of the same parts."""
    content = json.loads(settings)
    (arguments, adapting), (head, head_options) = content["encoder"], content["head"]
    encoder = create_encoder(**arguments)
    adapt_encoder(encoder, **adapting)
    return StepModel(encoder, create_head(head, encoder.channels, **head_options), **content["step"])


def _precisions(precision: str) -> tuple[str, ...]:
    """Return the precisions to look at, the preferred one first."""
    if precision not in ("auto", "both", "fp32", "bf16"):
        raise LofiError(f"precision {precision!r} is unknown; allowed: auto, both, fp32, bf16.")
    if precision not in ("auto", "both"):
        return (precision,)
    cuda = torch.cuda.is_available()
    both = ("bf16", "fp32") if auto_precision("cuda" if cuda else "cpu") == "bf16" else ("fp32", "bf16")
    return both if precision == "both" or cuda else both[:1]


def _segments(recipe: Recipe) -> tuple[int, list[float]]:
    """Return the number of classes and the lengths of the training segments as shares of their videos or windows."""
    lengths: list[float] = []
    if not recipe.data.annotations.exists():
        return 1, lengths
    labels = read_labels(recipe.data.annotations, recipe.data.events)
    loaded = parse_annotations(labels, recipe.data.annotations, strict=False)
    videos = loaded.clean()[0].subset(recipe.data.train_subset)
    for video in videos:
        whole = recipe.snippets.window or video.duration
        if whole:
            lengths += ((video.segments.end - video.segments.start) / whole).tolist()
    return max(1, len(videos.labels)), lengths


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
    usable = budget - (CUDA_RESERVE if (torch.cuda.is_available() if cuda is None else cuda) else 0)
    full = full_of(recipe)
    phases = create_schedule("long", full, r_t=section.r_t, r_s=section.r_s, cycle=section.cycle).fidelities
    timed = sorted({full.size, min(phase.size for phase in phases)})
    rows = _Rows(model, full, share=-(-section.batch // devices), usable=usable, timed=timed)
    ratios = sorted({section.r_t, *(FACTORS if search else ())})
    strategies = [Strategy(name, section.chunk, section.gradient_share) for name in STRATEGIES]
    choices = [
        Choice(
            name, r_t, r_s, strategy, precision, tuple(rows(one, strategy, precision) for one in schedule.fidelities)
        )
        for r_t, r_s, schedules in _schedules(section, full, ratios)
        for precision in precisions
        for strategy in strategies
        for name, schedule in schedules.items()
    ]
    every = dict.fromkeys(row for choice in choices for row in choice.rows)
    choices.sort(key=lambda choice: (choice.compute, choice.peak))
    recommended, reason = _recommend(choices, section.schedule, section.r_t, precisions, usable)
    return Plan(
        budget=budget,
        devices=devices,
        batch=section.batch,
        rows=tuple(
            sorted(every, key=lambda one: (-one.fidelity.cost(), one.fidelity.name, one.precision, one.compute))
        ),
        choices=tuple(choices),
        recommended=recommended,
        reason=reason,
        phases_equal=_difference([rows(phase, Strategy(), precisions[0]).one_video.peak for phase in phases]),
        short_segments=_short_segments(lengths, full, sorted({1.0, math.sqrt(section.r_t), *ratios})),
        model=model,
    )


def _schedules(
    section: LofiSection, full: Fidelity, ratios: Sequence[float]
) -> Iterator[tuple[float, float, dict[str, Schedule]]]:
    """Yield r_t, r_s and the schedules for each r_t · r_s² at which something is left of the video."""
    settings = {"c_l": section.c_l, "c_s": section.c_s}
    for factor in ratios:
        own = factor == section.r_t
        r_t, r_s = (factor, section.r_s) if own else (factor, math.sqrt(factor))
        names = dict.fromkeys([section.schedule, "s", "t", "st", *(["full"] if factor == ratios[0] else [])])
        with contextlib.suppress(LofiError):
            yield (
                r_t,
                r_s,
                {
                    name: create_schedule(
                        name,
                        full,
                        r_t=r_t,
                        r_s=r_s,
                        cycle=section.cycle if own and name == section.schedule else None,
                        **settings,
                    )
                    for name in names
                },
            )


def _short_segments(lengths: Sequence[float], full: Fidelity, ratios: Sequence[float]) -> dict[float, float]:
    """Return, for each temporal ratio, the share of the segments that are shorter than a snippet step."""
    if not lengths:
        return {}
    return {ratio: sum(length * full.snippets / ratio < 1 for length in lengths) / len(lengths) for ratio in ratios}


class _Rows:
    """The rows of a plan, each of which is computed once.

    Args:
        model: Of encoder and head.
        full: Full fidelity.
        share: Videos of an optimiser step that one device takes.
        usable: Bytes of a device.
        timed: Sizes at which the encoder is timed on this machine.
    """

    def __init__(self, model: StepModel, full: Fidelity, *, share: int, usable: float, timed: Sequence[int]) -> None:
        self.model, self.full, self.share, self.usable = model, full, share, usable
        self.timed = timed
        self._made: dict[tuple[Fidelity, Strategy, str], Row] = {}

    def __call__(self, fidelity: Fidelity, strategy: Strategy, precision: str) -> Row:
        """Return the row of a fidelity, strategy and precision."""
        key = (fidelity, strategy, precision)
        if key not in self._made:
            self._made[key] = self._make(*key)
        return self._made[key]

    def _make(self, fidelity: Fidelity, strategy: Strategy, precision: str) -> Row:
        def memory(videos: int) -> Parts:
            return self.model.memory(videos, fidelity, strategy, precision)

        fitting = (videos for videos in range(self.share, 0, -1) if memory(videos).peak <= self.usable)
        at_once = next(fitting, 0)
        reference = self.model.compute(self.full, Strategy(), precision)
        return Row(
            fidelity=fidelity,
            r_t=self.full.snippets / fidelity.snippets,
            r_s=self.full.size / fidelity.size,
            strategy=strategy,
            precision=precision,
            one_video=memory(1),
            videos_at_once=at_once,
            parts=-(-self.share // max(1, at_once)),
            step=memory(max(1, at_once)),
            compute=self.model.compute(fidelity, strategy, precision) / reference,
            seconds=self.share * self.model.seconds(fidelity, strategy, precision, timed=self.timed),
        )


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
