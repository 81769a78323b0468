"""Heads by name, for recipes and model files."""

from __future__ import annotations

import inspect
from typing import Any

from lofi_tal.errors import LofiError, nearest
from lofi_tal.heads.anchor_free import AnchorFree
from lofi_tal.heads.bmn import BMN
from lofi_tal.heads.contract import Head
from lofi_tal.heads.gtad import GTAD

_HEADS: dict[str, type[Head]] = {head.name: head for head in (GTAD, BMN, AnchorFree)}


def list_heads() -> tuple[str, ...]:
    """Return the names that :func:`create_head` knows."""
    return tuple(_HEADS)


def takes_classes(name: str) -> bool:
    """Say whether a head scores classes itself, and so is built with ``num_classes``."""
    return name in _HEADS and "num_classes" in inspect.signature(_HEADS[name].__init__).parameters


def create_head(name: str, in_channels: int, **options: Any) -> Head:
    """Build a head with random weights.

    Args:
        name: One of :func:`list_heads`.
        in_channels: Channels of the features.
        options: Keyword arguments of the head's class; ``head.config`` holds them all.

    Raises:
        LofiError: If the name is unknown or an option is not one of the head's.
    """
    if name not in _HEADS:
        raise LofiError(f"head {name!r} is unknown; known: {', '.join(_HEADS)}.{nearest(name, _HEADS)}")
    try:
        return _HEADS[name](in_channels=in_channels, **options)
    except TypeError as error:
        raise LofiError(f"head {name!r}: {error}.") from error
