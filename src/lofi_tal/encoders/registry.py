"""Encoders by name, for recipes and model files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lofi_tal.encoders.contract import Encoder
from lofi_tal.encoders.tsm import TSMResNet
from lofi_tal.errors import LofiError, nearest


def tsm_resnet18(**options: Any) -> TSMResNet:
    """TSM-ResNet-18, 512 channels: the paper's encoder."""
    return TSMResNet(**{"depth": 18, **options})


def tsm_resnet34(**options: Any) -> TSMResNet:
    """TSM-ResNet-34, 512 channels."""
    return TSMResNet(**{"depth": 34, **options})


def tsm_resnet50(**options: Any) -> TSMResNet:
    """TSM-ResNet-50, 2048 channels."""
    return TSMResNet(**{"depth": 50, **options})


def tsm_resnet18_narrow(**options: Any) -> TSMResNet:
    """A quarter-width TSM-ResNet-18 (0.7 M parameters, 128 channels) for small frames and CPUs."""
    return TSMResNet(**{"depth": 18, "width": 16, "stem": "compact", **options})


_ENCODERS: dict[str, Callable[..., Encoder]] = {
    "tsm_resnet18": tsm_resnet18,
    "tsm_resnet34": tsm_resnet34,
    "tsm_resnet50": tsm_resnet50,
    "tsm_resnet18_narrow": tsm_resnet18_narrow,
}


def list_encoders() -> tuple[str, ...]:
    """Return the names that :func:`create_encoder` knows."""
    return tuple(_ENCODERS)


def create_encoder(name: str, **options: Any) -> Encoder:
    """Build an encoder with random weights.

    Raises:
        LofiError: If the name is unknown or an option is not one of the encoder's.
    """
    if name not in _ENCODERS:
        raise LofiError(f"encoder {name!r} is unknown; known: {', '.join(_ENCODERS)}.{nearest(name, _ENCODERS)}")
    try:
        return _ENCODERS[name](**options)
    except TypeError as error:
        raise LofiError(f"encoder {name!r}: {error}.") from error
