"""Recipes as text: every value as it is, or every setting with what it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from lofi_tal.config import Recipe, make_recipe
from lofi_tal.recipes import change_paths


def save_recipe(recipe: Recipe) -> str:
    """Return the recipe as YAML with every value, defaults included."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """Return the recipe with paths that mean the same wherever its file lies."""
    content = recipe.model_dump(mode="json")
    change_paths(content, lambda value: Path(value).absolute())
    return make_recipe(content)


def commented_recipe(recipe: Recipe, heading: str, reasons: Mapping[str, str]) -> str:
    """Return the recipe as YAML in which every setting says what it is or, from ``reasons``, why it has this value.

    Args:
        recipe: The recipe.
        heading: Lines of text for the top.
        reasons: ``section.key`` to the reason for its value.
    """
    lines = [f"# {line}".rstrip() for line in heading.splitlines()] + [""]
    for name, field in Recipe.model_fields.items():
        value = getattr(recipe, name)
        if not isinstance(value, BaseModel):
            lines.append(_commented_line(name, value, reasons.get(name) or field.description, ""))
            continue
        title = (type(value).__doc__ or "").strip().splitlines()[0]
        lines += ["", f"{name}:  # {title}"]
        for key, inner in type(value).model_fields.items():
            reason = reasons.get(f"{name}.{key}") or inner.description
            lines.append(_commented_line(key, getattr(value, key), reason, "  "))
    return "\n".join(lines) + "\n"


def _commented_line(key: str, value: Any, comment: str | None, indent: str) -> str:
    plain = str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
    text = (
        yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True, width=10_000).removesuffix("...\n").strip()
    )
    return f"{indent}{key}: {text}" + (f"  # {' '.join(comment.split())}" if comment else "")
