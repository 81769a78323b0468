"""The parts of the reference that are written from the code, as Markdown (MyST).

A page holds a mark such as ``<!-- generated: commands -->``, and :func:`fill_page` puts the text in its place as Sphinx
reads the page. Nothing generated is stored, so nothing can be out of date.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer.main
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.utils import get_params_from_function

import lofi_tal
from lofi_tal.cli.app import app
from lofi_tal.config import Recipe
from lofi_tal.errors import LofiError

MARK = re.compile(r"<!-- generated: (\w+) -->")


def fill_page(sphinx: Any, name: str, source: list[str]) -> None:
    """Replace the marks in the text of a page; Sphinx calls this for every page."""
    source[0] = MARK.sub(lambda mark: GENERATORS[mark[1]](), source[0])


def find_public_name(sphinx: Any, environment: Any, node: Any, content: Any) -> Any:
    """Return the reference to a name that is described as ``lofi_tal.NAME`` and was meant by the path of its module."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    if node.get("refdomain") != "py" or not module.startswith("lofi_tal.") or name not in lofi_tal.__all__:
        return None
    domain, target = environment.get_domain("py"), f"lofi_tal.{name}"
    return domain.resolve_xref(environment, node["refdoc"], sphinx.builder, node["reftype"], target, node, content)


# ---- commands ----------------------------------------------------------------------------------------------------


def walk_commands() -> Iterator[tuple[str, Any]]:
    """Yield every command of the Typer app that does something, as ``("lofi data check", command)``."""

    def below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        children = getattr(command, "commands", None)
        if children is None:
            yield name, command
        for child, inner in sorted((children or {}).items()):
            yield from below(f"{name} {child}", inner)

    yield from below("lofi", typer.main.get_command(app))


def commands() -> str:
    """Return one section for each command: what it does, its arguments and its options."""
    return "\n".join(_command(name, command) for name, command in walk_commands())


def _command(name: str, command: Any) -> str:
    types = get_params_from_function(inspect.unwrap(command.callback))
    shown = [one for one in command.params if one.name != "help"]
    shown.sort(key=lambda one: one.param_type_name != "argument")
    spelt = [_spelling(one, types[one.name].annotation) for one in shown]
    usage = " ".join([name, *(text for text in spelt if not text.startswith("-")), "[OPTIONS]"])
    parts = [f"## {name}", _prose(command.help or ""), f"```text\n{usage}\n```", f"```{{program}} {name}\n```"]
    parts += [f"```{{option}} {text}\n{_facts(one)}\n```" for one, text in zip(shown, spelt, strict=True)]
    return "\n\n".join(parts) + "\n"


def _spelling(parameter: Any, annotation: Any) -> str:
    """Return how a parameter is written, such as ``--output PATH, -o PATH``."""
    leaves = set(get_args(annotation)) | {annotation}
    kinds = {Path: "PATH", list[Path]: "PATH", int: "NUMBER", float: "NUMBER"}
    value = parameter.metavar or next((word for kind, word in kinds.items() if kind in leaves), "TEXT")
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or str(parameter.name).upper())
    options = [*parameter.opts, *parameter.secondary_opts]
    return ", ".join(option if bool in leaves else f"{option} {value}" for option in options)


def _facts(parameter: Any) -> str:
    """Return the help of a parameter, whether it is needed, and its default."""
    facts = [_escaped(parameter.help or "")]
    if parameter.required:
        facts.append("Required.")
    elif parameter.secondary_opts:
        facts.append(f"Default: `{(parameter.opts if parameter.default else parameter.secondary_opts)[0]}`.")
    elif parameter.default not in (None, False, (), "") and not callable(parameter.default):
        facts.append(f"Default: `{parameter.default}`.")
    return " ".join(filter(None, facts))


def _prose(text: str) -> str:
    """Return the help of a command as Markdown; its example becomes a block of code."""
    text, _, example = inspect.cleandoc(text).partition("Example: ")
    parts = [_escaped(text.strip())]
    if example:
        line, _, remark = example.strip().partition(" (")
        parts.append(f"```sh\n{line}{'   # ' + remark.rstrip(')') if remark else ''}\n```")
    return "\n\n".join(parts)


def _escaped(text: str) -> str:
    """Return text in which nothing but `code` is markup."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(piece if piece.startswith("`") else re.sub(r"([<*_\[\]])", r"\\\1", piece) for piece in pieces)


# ---- recipe ------------------------------------------------------------------------------------------------------


def recipe_keys() -> Iterator[tuple[str, FieldInfo]]:
    """Yield every key of a recipe that holds a value, as ``("lofi.r_t", field)``."""
    for name, field in Recipe.model_fields.items():
        model = section_of(field)
        if model is None:
            yield name, field
        else:
            yield from ((f"{name}.{key}", inner) for key, inner in model.model_fields.items())


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a section of the recipe, or None for a plain value."""
    leaves = get_args(field.annotation) or (field.annotation,)
    return next((leaf for leaf in leaves if isinstance(leaf, type) and issubclass(leaf, BaseModel)), None)


def recipe() -> str:
    """Return one section for each section of the recipe: every key with type, default and description."""
    plain, sections = [], []
    for name, field in Recipe.model_fields.items():
        model = section_of(field)
        if model is None:
            plain.append(_key(name, field))
            continue
        remarks = [inspect.cleandoc(model.__doc__ or ""), field.description or ""]
        if field.default is None:
            remarks.append("The section is left out by default.")
        keys = [_key(f"{name}.{key}", inner) for key, inner in model.model_fields.items()]
        sections.append("\n\n".join([f"## {name}", _escaped(" ".join(filter(None, remarks))), *keys]))
    return "\n\n".join(["## Top level", *plain, *sections]) + "\n"


def _key(name: str, field: FieldInfo) -> str:
    default = "required" if field.default is PydanticUndefined and field.default_factory is None else _yaml(field)
    text = _escaped(" ".join((field.description or "").split()))
    return f"```{{confval}} {name}\n:type: {_type(field)}\n:default: {default}\n\n{text}\n```"


def _yaml(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    value = list(default) if isinstance(default, tuple) else default
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")
    return f"`{text}`"


def _type(field: FieldInfo) -> str:
    """Return the type of a key in words, with its limits."""
    names = {Path: "path", str: "text", int: "whole number", float: "number", bool: "true or false"}

    def words(annotation: Any) -> str:
        origin, inner = get_origin(annotation), get_args(annotation)
        if origin is Literal:
            return " or ".join(f"`{one}`" for one in inner)
        if type(None) in inner:
            rest = [words(one) for one in inner if one is not type(None)]
            return " or ".join([*rest, "`null`"])
        if hasattr(annotation, "__metadata__"):
            return words(inner[0])
        if origin is tuple:
            kinds = dict.fromkeys(words(one) for one in inner if one is not Ellipsis)
            counted = f"{len(inner)} of: " if Ellipsis not in inner else ""
            return f"list ({counted}{', '.join(kinds)})"
        return names.get(annotation, "mapping" if origin is dict else str(annotation))

    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [
        f"{sign} {getattr(mark, key):g}" for mark in field.metadata for key, sign in signs.items() if hasattr(mark, key)
    ]
    return ", ".join([words(field.annotation), *limits])


# ---- errors and names --------------------------------------------------------------------------------------------


def error_classes() -> list[type[LofiError]]:
    """Return every class of the family of errors, parents first."""
    for module in pkgutil.walk_packages(lofi_tal.__path__, "lofi_tal."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: list[type[LofiError]] = [LofiError]
    for one in found:
        found += [child for child in one.__subclasses__() if child not in found]
    return found


def errors() -> str:
    """Return every error class with its exit status."""
    parts = []
    for one in error_classes():
        parents = ", ".join(f"`{parent.__name__}`" for parent in one.__bases__)
        parts += [
            f"## {one.__name__}",
            f"Exit status {one.exit_status}; a subclass of {parents}. Import it from `{one.__module__}`.",
            f"```{{eval-rst}}\n.. autoexception:: {one.__module__}.{one.__qualname__}\n```",
        ]
    return "\n\n".join(parts) + "\n"


def names() -> str:
    """Return every public name with its documentation."""
    parts = []
    for name in sorted(lofi_tal.__all__, key=str.lower):
        value = getattr(lofi_tal, name)
        if not inspect.isclass(value):
            directive = f".. autofunction:: lofi_tal.{name}"
        elif issubclass(value, BaseModel):  # its fields have a page of their own
            directive = f".. py:class:: lofi_tal.{name}\n\n   {value.__doc__}"
        else:
            directive = f".. autoclass:: lofi_tal.{name}\n   :members:"
        parts.append(f"```{{eval-rst}}\n{directive}\n```")
    return "\n\n".join(parts) + "\n"


GENERATORS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "recipe": recipe,
    "errors": errors,
    "names": names,
}
"""What makes each part, by the word in its mark."""
