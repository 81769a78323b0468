"""Heads by name, for recipes and model files.

Other packages add heads as entry points of the group ``lofi_tal.heads``: a class or function
``(in_channels, **options) -> Head``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from lofi_tal.errors import LofiError
from lofi_tal.heads.actionformer import ActionFormer
from lofi_tal.heads.anchor_free import AnchorFree
from lofi_tal.heads.bmn import BMN
from lofi_tal.heads.contract import Head
from lofi_tal.heads.gtad import GTAD
from lofi_tal.module_sizes import SizeLimit
from lofi_tal.registry import Registry, wrong_options

HEADS: Registry[Callable[..., Head]] = Registry("head", "lofi_tal.heads")
"""Every head that is installed."""

for _head in (GTAD, BMN, ActionFormer, AnchorFree):
    HEADS.register(_head.name)(_head)


def list_heads() -> tuple[str, ...]:
    """Return the names of all heads: the built-in ones, then those of other packages in alphabetical order."""
    return HEADS.names()


def with_classes(name: str, options: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """Return the options of a head with the number of classes, if it scores classes itself and they do not say it."""
    return {**({"num_classes": classes} if takes_classes(name) else {}), **options}


def takes_classes(name: str) -> bool:
    """Say whether a head scores classes itself, and so is built with ``num_classes``.

    Raises:
        LofiError: If the head cannot be imported.
    """
    if ":" not in name and name not in HEADS:
        return False
    return "num_classes" in inspect.signature(HEADS.get(name, dotted=True)).parameters


def create_head(name: str, in_channels: int, **options: Any) -> Head:
    """Build a head with random weights.

    Args:
        name: One of :func:`list_heads`, or ``package.module:factory``, which runs the code of that module.
        in_channels: Channels of the features.
        options: Arguments of the head; ``head.config`` holds them all.

    Raises:
        LofiError: If the name is unknown or an option is not one of the head's.
    """
    return build_head(name, {"in_channels": in_channels, **options}, dotted=True)


def build_head(name: str, options: Mapping[str, Any], *, dotted: bool = False) -> Head:
    """Build a head with random weights; ``head.name`` becomes the name under which it was asked for.

    Args:
        name: One of :func:`list_heads`.
        options: Arguments of its class or function, ``in_channels`` among them.
        dotted: Accept ``package.module:factory`` as a name; it runs the code of that module.

    Raises:
        LofiError: If the name is unknown, its package cannot be imported, an option is not one of the head's, or what
            it builds is no head.
    """
    factory = HEADS.get(name, dotted=dotted)
    try:
        with SizeLimit(f"head {name!r}"):
            head = factory(**options)
    except TypeError as error:
        raise wrong_options(f"head {name!r}", factory, error) from error
    if not isinstance(head, Head):
        raise LofiError(f"head {name!r} builds a {type(head).__name__}: it must be a lofi_tal.heads.Head.")
    head.name = name
    return head
