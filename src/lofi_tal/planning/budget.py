"""What to change in a recipe so that a run fits into a time: learning rates, epochs, then the size of the frames.

What costs the result least goes first. The choice is arithmetic on measured seconds; whoever takes it measures again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lofi_tal.config import Recipe, make_recipe
from lofi_tal.errors import LofiError
from lofi_tal.recipes import apply_overrides
from lofi_tal.recipes.encoder import full_of, takes_of

SHARES = (1.0, 0.8, 0.6, 0.45, 0.33, 0.25)
"""Of the epochs that are tried, the largest first."""
RATES = (5, 3, 1)
"""Numbers of learning rates of stage 3."""
SIZES = (1.0, 0.8, 0.65, 0.5)
"""Of the side of the frames."""
MARGIN = 0.9
"""Share of the time that is planned for: what is measured in seconds is off by some percent after hours."""
_UNITS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> float:
    """Return the seconds of ``90s``, ``30min``, ``2h``, ``1h30min``, ``30:00`` (minutes) or ``1:30:00`` (hours).

    Raises:
        LofiError: If the text is none of these, or nothing.
    """
    compact = text.replace(" ", "").lower()
    if re.fullmatch(r"\d+(:[0-5]\d){1,2}", compact):
        seconds = 0.0
        for part in compact.split(":"):
            seconds = 60 * seconds + int(part)
    else:
        parts = re.findall(r"(\d+\.?\d*|\.\d+)(sec|min|[smhd])", compact)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        if "".join(number + unit for number, unit in parts) != compact:
            seconds = 0.0
    if seconds <= 0:
        raise LofiError(f"{text!r} is not a time: give one such as 90s, 30min, 2h, 1h30min or 1:30:00.")
    return seconds


def fit_budget(recipe: Recipe, seconds_of: Callable[[Recipe], float], budget: float) -> tuple[list[str], Recipe]:
    """Return what to change, as ``section.key=value``, so that a run fits into ``budget`` seconds, and the recipe.

    Args:
        recipe: As it is.
        seconds_of: How long a run of a recipe takes.
        budget: Seconds; of these :data:`MARGIN` is planned for.

    Raises:
        LofiError: If nothing that is tried fits; the message says how long the shortest takes.
    """
    shortest = float("inf")
    for settings in _changes(recipe):
        changed = changed_recipe(recipe, settings)
        needed = seconds_of(changed)
        if needed <= MARGIN * budget:
            return settings, changed
        shortest = min(shortest, needed)
    raise LofiError(
        f"Nothing that --budget may change fits into {budget:.0f} s: the shortest run takes about {shortest:.0f} s. "
        "Give more time, fewer videos, a smaller encoder, or fewer snippets (snippets.count)."
    )


def changed_recipe(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """Return a recipe with settings of the form ``section.key=value``."""
    return make_recipe(apply_overrides(recipe.model_dump(mode="json"), settings), recipe.name)


def _changes(recipe: Recipe) -> Iterator[list[str]]:
    """Yield what may be changed, what costs the result least first."""
    seen: list[list[str]] = []
    for size in SIZES if recipe.features is None else (1.0,):
        for share in SHARES:
            for count in RATES:
                settings = [*_size(recipe, size), *_epochs(recipe, share), *_rates(recipe, count)]
                if settings not in seen:
                    seen.append(settings)
                    yield settings


def _size(recipe: Recipe, share: float) -> list[str]:
    """Return the setting for smaller frames, of a side that is a multiple of 8 and leaves enough to every phase."""
    step = math.lcm(8, takes_of(recipe).size_multiple)
    size = recipe.snippets.size if share == 1 else max(32, step * round(share * recipe.snippets.size / step))
    if size >= recipe.snippets.size:
        return []
    try:
        smaller = full_of(recipe.model_copy(update={"snippets": recipe.snippets.model_copy(update={"size": size})}))
        if recipe.lofi is not None:
            recipe.lofi.fidelities_over(smaller)
    except LofiError:
        return []
    return [f"snippets.size={size}"]


def _epochs(recipe: Recipe, share: float) -> list[str]:
    """Return the settings for fewer epochs; of stage 2 whole cycles, with its falls of the learning rate in place."""
    settings = []
    encoders = ("pretrain", "second", "finetune") if recipe.features is None else ()
    for name in (*encoders, "head"):
        section: Any = getattr(recipe, name)
        if section is not None and not (name == "head" and recipe.head.weights):
            settings += _fewer(f"{name}.epochs", section.epochs, share, 1)
    lofi = recipe.lofi
    if lofi is not None and recipe.features is None:
        full = full_of(recipe)
        cycle = len(lofi.fidelities_over(full).fidelities) * lofi.c_l if lofi.schedule == "long" else 1
        settings += _fewer("lofi.epochs", lofi.epochs, share, cycle)
        if lofi.optimizer == "sgd":
            settings += _fewer("lofi.lr_step", lofi.lr_step, share, 1)
    return settings


def _fewer(key: str, value: int, share: float, step: int) -> list[str]:
    """Return the setting for a share of a number, in steps, of which one is left at least."""
    fewer = max(step, step * round(share * value / step))
    return [] if fewer >= value else [f"{key}={fewer}"]


def _rates(recipe: Recipe, count: int) -> list[str]:
    """Return the setting for fewer learning rates: those in the middle."""
    rates = recipe.head.lrs
    if count >= len(rates) or recipe.head.weights:
        return []
    first = (len(rates) - count) // 2
    return [f"head.lrs=[{', '.join(f'{lr:g}' for lr in rates[first : first + count])}]"]
