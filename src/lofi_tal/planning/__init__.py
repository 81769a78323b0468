"""Memory is the budget: predicts what a training step needs, and chooses what fits."""

from lofi_tal.planning.plan import (
    Choice,
    Parts,
    Plan,
    Row,
    StepModel,
    in_parts,
    make_plan,
    next_smaller,
    parse_memory,
    planned,
)

__all__ = [
    "Choice",
    "Parts",
    "Plan",
    "Row",
    "StepModel",
    "in_parts",
    "make_plan",
    "next_smaller",
    "parse_memory",
    "planned",
]
