"""Encoders by name, for recipes and model files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lofi_tal.encoders.contract import Encoder
from lofi_tal.encoders.joined import JoinedEncoder
from lofi_tal.encoders.tsm import TSMResNet
from lofi_tal.encoders.video3d import VideoResNet18, VideoSwin
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


def r2plus1d_18(**options: Any) -> VideoResNet18:
    """R(2+1)D-18, 512 channels: the paper's other encoder (Table 5, at 112 × 112)."""
    return VideoResNet18(**{"kind": "r2plus1d", **options})


def r2plus1d_18_narrow(**options: Any) -> VideoResNet18:
    """A quarter-width R(2+1)D-18 (128 channels) for small frames and CPUs."""
    return VideoResNet18(**{"kind": "r2plus1d", "width": 16, **options})


def mc3_18(**options: Any) -> VideoResNet18:
    """MC3-18, 512 channels: 3-D convolutions in the first stage, 2-D ones behind it."""
    return VideoResNet18(**{"kind": "mc3", **options})


def r3d_18(**options: Any) -> VideoResNet18:
    """R3D-18, 512 channels: 3-D convolutions throughout."""
    return VideoResNet18(**{"kind": "r3d", **options})


def swin3d_t(**options: Any) -> VideoSwin:
    """Video Swin Transformer, tiny, 768 channels."""
    return VideoSwin(**options)


def joined(parts: Sequence[Mapping[str, Any]]) -> JoinedEncoder:
    """Several encoders side by side; each part is ``{"name": ..., **options}``."""
    built = [create_encoder(part["name"], **{k: v for k, v in part.items() if k != "name"}) for part in parts]
    return JoinedEncoder(built, [part["name"] for part in parts])


_ENCODERS: dict[str, Callable[..., Encoder]] = {
    "tsm_resnet18": tsm_resnet18,
    "tsm_resnet34": tsm_resnet34,
    "tsm_resnet50": tsm_resnet50,
    "tsm_resnet18_narrow": tsm_resnet18_narrow,
    "r2plus1d_18": r2plus1d_18,
    "r2plus1d_18_narrow": r2plus1d_18_narrow,
    "mc3_18": mc3_18,
    "r3d_18": r3d_18,
    "swin3d_t": swin3d_t,
}


def list_encoders() -> tuple[str, ...]:
    """Return the names that :func:`create_encoder` knows (and ``joined``, which takes some of them as parts)."""
    return tuple(_ENCODERS)


def create_encoder(name: str, **options: Any) -> Encoder:
    """Build an encoder with random weights.

    Raises:
        LofiError: If the name is unknown or an option is not one of the encoder's.
    """
    if name == "joined":
        return joined(**options)
    if name not in _ENCODERS:
        raise LofiError(f"encoder {name!r} is unknown; known: {', '.join(_ENCODERS)}.{nearest(name, _ENCODERS)}")
    try:
        return _ENCODERS[name](**options)
    except TypeError as error:
        raise LofiError(f"encoder {name!r}: {error}.") from error
