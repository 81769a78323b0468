"""Shipped recipes, as YAML beside this file; they lack only the `data` section or its paths."""

from __future__ import annotations

from importlib import resources
from typing import Any

from lofi_tal.config import parse_yaml
from lofi_tal.errors import LofiError, nearest


def recipe_names() -> tuple[str, ...]:
    """Return the names of the shipped recipes."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")))


def shipped_recipe(name: str) -> dict[str, Any]:
    """Return the content of a shipped recipe.

    Raises:
        LofiError: If there is none of this name.
    """
    names = recipe_names()
    if name not in names:
        raise LofiError(f"recipe {name!r} is not shipped; there are: {', '.join(names)}.{nearest(name, names)}")
    text = (resources.files(__name__) / f"{name}.yaml").read_text(encoding="utf-8")
    return dict(parse_yaml(text, name))
