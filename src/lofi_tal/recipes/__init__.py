"""Recipes as YAML: files of the user's, and those shipped beside this module, which lack the paths of their data.

A recipe may begin with `extends: NAME`, a shipped recipe or a file beside it: what it says itself comes on top.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from lofi_tal.config import Recipe, make_recipe, path_settings
from lofi_tal.errors import DataError, LofiError, nearest
from lofi_tal.files import read_text, with_home
from lofi_tal.recipes.parsing import parse_yaml

__all__ = ["apply_overrides", "change_paths", "load_recipe", "merge", "parse_yaml", "recipe_names", "shipped_recipe"]

_MOST_LEVELS = 8


def recipe_names() -> tuple[str, ...]:
    """Return the names of the shipped recipes."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")))


def shipped_recipe(name: str) -> dict[str, Any]:
    """Return the content of a shipped recipe, with what it extends.

    Raises:
        LofiError: If there is none of this name.
    """
    names = recipe_names()
    if name not in names:
        raise LofiError(f"recipe {name!r} is not shipped; there are: {', '.join(names)}.{nearest(name, names)}")
    text = (resources.files(__name__) / f"{name}.yaml").read_text(encoding="utf-8")
    return _extended(dict(parse_yaml(text, name)), None, 0)


def load_recipe(path: Path | str, overrides: Sequence[str] = (), *, needs_data: bool = True) -> Recipe:
    """Read a YAML recipe, or a shipped one by its name, and apply ``section.key=value`` overrides.

    Relative paths in the file are taken from the folder of the file; those in overrides from the current folder.

    Args:
        path: The file; where there is none of this name, a shipped recipe.
        overrides: ``section.key=value``.
        needs_data: Refuse a recipe that does not say where its data lie, as some of the shipped ones.

    Raises:
        LofiError: If the file is missing or not YAML, a key is unknown (the nearest one is named), or a value is not
            allowed.
    """
    path, name = Path(path), str(path)
    shipped = not path.exists() and name in recipe_names()
    content = apply_overrides(shipped_recipe(name) if shipped else _read(path, 0), overrides)
    data = content.get("data", {})
    if shipped and isinstance(data, dict) and "annotations" not in data:
        if needs_data:
            raise LofiError(
                f"The shipped recipe {name!r} has no data of its own: add --set data.annotations=labels.json and "
                f"--set data.videos=videos/. (`lofi reproduce --data {name}` and `lofi demo` make theirs.)"
            )
        content["data"] = {**data, "annotations": "annotations.json", "videos": "videos"}
    return make_recipe(content, name)


def _read(path: Path, level: int) -> dict[str, Any]:
    if (inside := path / "recipe.yaml").is_file():
        raise LofiError(f"Recipe {path} is a run folder: give {inside}, and the folder as -o to go on with its run.")
    try:
        text = read_text(path, "YAML")
    except DataError as error:
        hint = "" if path.exists() else f" Shipped recipes go by their names.{nearest(str(path), recipe_names())}"
        raise LofiError(f"Recipe {error}{hint}") from error
    content = parse_yaml(text, str(path))
    if not isinstance(content, dict):
        raise LofiError(f"Recipe {path} holds no settings: expected a mapping with at least `data`.")
    change_paths(content, lambda value: path.parent / with_home(value))
    return _extended(content, path.parent, level)


def _extended(content: dict[str, Any], folder: Path | None, level: int) -> dict[str, Any]:
    """Put ``content`` on top of what it extends: a shipped recipe, or a file in ``folder``."""
    name = content.pop("extends", None)
    if name is None:
        return content
    if level == _MOST_LEVELS:
        raise LofiError(f"`extends: {name}`: more than {_MOST_LEVELS} recipes extend each other; is it a circle?")
    if isinstance(name, str) and name in recipe_names():
        return merge(shipped_recipe(name), content)
    if isinstance(name, str) and folder is not None and _lies_in(folder, name):
        return merge(_read(folder / name, level + 1), content)
    raise LofiError(
        f"`extends: {name}` is neither a file beside the recipe nor a shipped recipe: {', '.join(recipe_names())}."
    )


def _lies_in(folder: Path, name: str) -> bool:
    """Say whether a name is that of a file in the folder of a recipe; no recipe reads another one elsewhere."""
    path = folder / name
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the values of ``top``; sections are merged key by key, anything else is replaced."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = merge(below, value) if both and key != "options" else value  # type: ignore[arg-type]
    return merged


def apply_overrides(content: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Set ``section.key=value`` for each override, in place, and return the content.

    Raises:
        LofiError: If an override is not of this form.
    """
    for override in overrides:
        _apply(content, override)
    return content


def change_paths(content: dict[str, Any], change: Callable[[str], Path]) -> None:
    """Replace every path in the content of a recipe, in place."""
    for section, key in path_settings():
        values = content.get(section)
        if not isinstance(values, dict):
            continue
        value = values.get(key)
        if isinstance(value, str):
            values[key] = str(change(value))
        elif isinstance(value, list):
            values[key] = [str(change(part)) if isinstance(part, str) else part for part in value]


def _apply(content: dict[str, Any], override: str) -> None:
    """Set one ``a.b=value`` in place."""
    name, equals, value = override.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise LofiError(f"--set {override!r} is not of the form section.key=value, such as lofi.epochs=6.")
    target = content
    for key in keys[:-1]:
        if target.get(key) is None:
            target[key] = {}
        target = target[key]
        if not isinstance(target, dict):
            raise LofiError(f"--set {override!r}: {key!r} is a single value, not a section.")
    target[keys[-1]] = parse_yaml(value, f"--set {override!r}")
