"""What a run does about memory: take what a plan says fits, and step down where stage 2 runs out of it."""

from __future__ import annotations

import logging
import traceback

import torch
from lightning_fabric import Fabric

from lofi_tal.config import Recipe
from lofi_tal.errors import LofiError, RunError
from lofi_tal.planning import Choice, Plan, in_parts, next_smaller, plan_recipe, planned
from lofi_tal.runtime import PeakMemory, free_unused, precision_of

logger = logging.getLogger("lofi_tal")
_EVERYTHING = 2**50  # bytes: more than any device has
_NO_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    "out of memory",
    "_STATUS_ALLOC_FAILED",  # cuBLAS, cuDNN
    "STATUS_INSUFFICIENT_RESOURCES",  # cuSPARSE
    "unable to find an engine",  # cuDNN, when none has room to work in
)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, on the GPU or on the CPU."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in text for sign in _NO_MEMORY)


def plan_for(recipe: Recipe, fabric: Fabric, memory: int, *, search: bool | None = None) -> Plan:
    """Plan stage 2 for the devices and the precision of a run; half precisions need the same memory."""
    taken = "fp32" if precision_of(fabric) == "fp32" else "bf16"
    return plan_recipe(recipe, memory, devices=fabric.world_size, precision=taken, search=search)


def fitting_recipe(recipe: Recipe, fabric: Fabric, memory: int) -> tuple[Recipe, Plan]:
    """Return the recipe with what fits into ``memory`` bytes a device, and the plan.

    Raises:
        LofiError: If nothing fits.
    """
    plan = plan_for(recipe, fabric, memory)
    if plan.recommended is None:
        raise LofiError(plan.reason)
    return planned(recipe, plan.recommended), plan


def predicted_peak(recipe: Recipe, fabric: Fabric) -> float:
    """Return the bytes that a step of stage 2 is predicted to hold on a device, as the recipe has it."""
    return _own_choice(recipe, plan_for(recipe, fabric, _EVERYTHING)).peak


def _own_choice(recipe: Recipe, plan: Plan) -> Choice:
    """Return what a recipe takes among the choices of a plan."""
    section = recipe.lofi
    assert section is not None
    own = (section.schedule, section.r_t, section.strategy)
    taken = next(one for one in plan.choices if (one.schedule, one.r_t, one.strategy.name) == own)
    return in_parts(plan, taken, section.accumulate)


def smaller_recipe(recipe: Recipe, fabric: Fabric, error: BaseException, step_down: bool) -> Recipe:
    """Return the recipe with the next choice that needs less memory than what has just been tried.

    Raises:
        RunError: If there is none, or ``step_down`` is not asked for: what was predicted and used, and what would fit.
    """
    used = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else PeakMemory.resident()
    traceback.clear_frames(error.__traceback__)  # which hold the tensors of the step
    free_unused()
    smaller, message = _after_out_of_memory(recipe, plan_for(recipe, fabric, _EVERYTHING, search=True), used, step_down)
    if smaller is None or not step_down:
        raise RunError(message) from error
    logger.warning(message)
    return planned(recipe, smaller)


def _after_out_of_memory(recipe: Recipe, plan: Plan, used: int, step_down: bool) -> tuple[Choice | None, str]:
    """Return the next choice that needs less memory than what has just been tried, and a message."""
    section, tried = recipe.lofi, _own_choice(recipe, plan)
    assert section is not None
    smaller = next_smaller(plan, tried)
    message = (
        f"Stage 2 ran out of memory: {tried.strategy}, accumulate={tried.parts} was predicted to need "
        f"{tried.peak / 2**30:.2f} GiB, and {used / 2**30:.2f} GiB were in use."
    )
    if smaller is None:
        return None, f"{message} Nothing smaller is known: lower snippets.size, snippets.frames or the encoder."
    how = f"lofi.strategy={smaller.strategy.name} lofi.accumulate={smaller.parts}"
    if smaller.r_t != section.r_t:
        how += f" lofi.r_t={smaller.r_t:g} lofi.r_s={smaller.r_s:.4g}"
    return smaller, f"{message} The next that needs less ({smaller.peak / 2**30:.2f} GiB): --set {how}" + (
        "; going on with it." if step_down else "; or add --step-down, or say --memory."
    )
