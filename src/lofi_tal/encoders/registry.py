"""Encoders by name, for recipes and model files.

Other packages add encoders as entry points of the group ``lofi_tal.encoders``: a class or function
``(**options) -> Encoder``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from lofi_tal.encoders.contract import Encoder
from lofi_tal.encoders.foundation import FOUNDATION
from lofi_tal.encoders.joined import JoinedEncoder
from lofi_tal.encoders.timm_backbone import TimmEncoder
from lofi_tal.encoders.tsm import TSMResNet
from lofi_tal.encoders.video3d import S3D, VideoResNet18, VideoSwin
from lofi_tal.errors import LofiError
from lofi_tal.module_sizes import SizeLimit
from lofi_tal.registry import Registry, wrong_options

ENCODERS: Registry[Callable[..., Encoder]] = Registry("encoder", "lofi_tal.encoders")
"""Every encoder that is installed, and ``joined``."""

_JOINED = "joined"


@ENCODERS.register("tsm_resnet18")
def tsm_resnet18(**options: Any) -> TSMResNet:
    """TSM-ResNet-18, 512 channels: the paper's encoder."""
    return TSMResNet(**{"depth": 18, **options})


@ENCODERS.register("tsm_resnet34")
def tsm_resnet34(**options: Any) -> TSMResNet:
    """TSM-ResNet-34, 512 channels."""
    return TSMResNet(**{"depth": 34, **options})


@ENCODERS.register("tsm_resnet50")
def tsm_resnet50(**options: Any) -> TSMResNet:
    """TSM-ResNet-50, 2048 channels."""
    return TSMResNet(**{"depth": 50, **options})


@ENCODERS.register("tsm_resnet18_narrow")
def tsm_resnet18_narrow(**options: Any) -> TSMResNet:
    """A quarter-width TSM-ResNet-18 (0.7 M parameters, 128 channels) for small frames and CPUs."""
    return TSMResNet(**{"depth": 18, "width": 16, "stem": "compact", **options})


@ENCODERS.register("r2plus1d_18")
def r2plus1d_18(**options: Any) -> VideoResNet18:
    """R(2+1)D-18, 512 channels: the paper's other encoder (Table 5, at 112 × 112)."""
    return VideoResNet18(**{"kind": "r2plus1d", **options})


@ENCODERS.register("r2plus1d_18_narrow")
def r2plus1d_18_narrow(**options: Any) -> VideoResNet18:
    """A quarter-width R(2+1)D-18 (128 channels) for small frames and CPUs."""
    return VideoResNet18(**{"kind": "r2plus1d", "width": 16, **options})


@ENCODERS.register("mc3_18")
def mc3_18(**options: Any) -> VideoResNet18:
    """MC3-18, 512 channels: 3-D convolutions in the first stage, 2-D ones behind it."""
    return VideoResNet18(**{"kind": "mc3", **options})


@ENCODERS.register("r3d_18")
def r3d_18(**options: Any) -> VideoResNet18:
    """R3D-18, 512 channels: 3-D convolutions throughout."""
    return VideoResNet18(**{"kind": "r3d", **options})


@ENCODERS.register("swin3d_t")
def swin3d_t(**options: Any) -> VideoSwin:
    """Video Swin Transformer, tiny, 768 channels."""
    return VideoSwin(**options)


@ENCODERS.register("swin3d_s")
def swin3d_s(**options: Any) -> VideoSwin:
    """Video Swin Transformer, small, 768 channels."""
    return VideoSwin(**{"kind": "s", **options})


@ENCODERS.register("swin3d_b")
def swin3d_b(**options: Any) -> VideoSwin:
    """Video Swin Transformer, base, 1024 channels."""
    return VideoSwin(**{"kind": "b", **options})


@ENCODERS.register("s3d")
def s3d(**options: Any) -> S3D:
    """S3D, 1024 channels: separable 3-D convolutions."""
    return S3D(**options)


ENCODERS.register("timm")(TimmEncoder)
for _name, _class in FOUNDATION.items():
    ENCODERS.register(_name)(_class)


@ENCODERS.register(_JOINED)
def joined(parts: Sequence[Mapping[str, Any]], *, dotted: bool | Collection[str] = False) -> JoinedEncoder:
    """Several encoders side by side; each part is ``{"name": ..., **options}``."""
    built = [
        build_encoder(part["name"], {k: v for k, v in part.items() if k != "name"}, dotted=dotted) for part in parts
    ]
    return JoinedEncoder(built, [part["name"] for part in parts])


def list_encoders() -> tuple[str, ...]:
    """Return the names of all encoders but ``joined``, which takes some of them as parts.

    The built-in ones come first; those of other packages follow in alphabetical order.
    """
    return tuple(name for name in ENCODERS if name != _JOINED)


def build_encoder(name: str, options: Mapping[str, Any], *, dotted: bool | Collection[str] = False) -> Encoder:
    """Build an encoder with random weights.

    Args:
        name: One of :func:`list_encoders`, or ``joined``.
        options: Arguments of its class or function.
        dotted: Accept ``package.module:factory`` as a name, of parts too, which runs the code of that module: any, or
            exactly these.

    Raises:
        LofiError: If the name is unknown, its package cannot be imported, an option is not one of the encoder's, or
            what it builds is no encoder.
    """
    factory = ENCODERS.get(name, dotted=dotted is True or (dotted is not False and name in dotted))
    try:
        with SizeLimit(f"encoder {name!r}"):
            encoder = joined(**{**options, "dotted": dotted}) if name == _JOINED else factory(**options)
    except TypeError as error:
        raise wrong_options(f"encoder {name!r}", factory, error) from error
    if not isinstance(encoder, Encoder):
        raise LofiError(f"encoder {name!r} builds a {type(encoder).__name__}: it must be a lofi_tal.encoders.Encoder.")
    with contextlib.suppress(AttributeError):  # a class of another package may have a fixed name
        encoder.name = name
    return encoder
