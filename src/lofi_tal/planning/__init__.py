"""Memory is the budget: predicts what a training step needs, and chooses what fits."""

from lofi_tal.planning.choosing import make_plan, parse_memory, plan_recipe
from lofi_tal.planning.plan import Choice, Plan, Row, in_parts, next_smaller, planned
from lofi_tal.planning.step import Parts, StepModel

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
    "plan_recipe",
    "planned",
]
