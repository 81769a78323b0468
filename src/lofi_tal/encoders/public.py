"""Public weights through torchvision: ImageNet for the ResNets, Kinetics-400 for the video models.

torchvision knows where each file lies and how its hash begins; it is downloaded once, to torch's cache. Without a
network, the message says which file to put where.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torchvision.models import get_weight

from lofi_tal.encoders.foundation import FOUNDATION
from lofi_tal.errors import DataError, LofiError, nearest

PUBLIC_WEIGHTS = {
    "imagenet": {
        "tsm_resnet18": "ResNet18_Weights.IMAGENET1K_V1",
        "tsm_resnet34": "ResNet34_Weights.IMAGENET1K_V1",
        "tsm_resnet50": "ResNet50_Weights.IMAGENET1K_V1",
    },
    "kinetics400": {
        "r2plus1d_18": "R2Plus1D_18_Weights.KINETICS400_V1",
        "mc3_18": "MC3_18_Weights.KINETICS400_V1",
        "r3d_18": "R3D_18_Weights.KINETICS400_V1",
        "swin3d_t": "Swin3D_T_Weights.KINETICS400_V1",
        "swin3d_s": "Swin3D_S_Weights.KINETICS400_V1",
        "swin3d_b": "Swin3D_B_Weights.KINETICS400_V1",
        "s3d": "S3D_Weights.KINETICS400_V1",
    },
}
"""Data set to encoder to torchvision's name of the weights."""

LICENCES = {
    **{name: "BSD-3-Clause" for fitting in PUBLIC_WEIGHTS.values() for name in fitting},
    "timm": "each its own",
    **{name: made.family.licence for name, made in FOUNDATION.items()},
}
"""Encoder to the licence of its public weights, as their publishers state it; what they were trained on has its own."""


def public_weights(pretrained: str, encoder: str) -> Path:
    """Return the file of public weights, downloaded if it is not in torch's cache yet.

    Args:
        pretrained: ``imagenet``, ``kinetics400``, or torchvision's name, such as ``ResNet18_Weights.IMAGENET1K_V1``.
        encoder: Name of the encoder.

    Raises:
        LofiError: If there are no such weights for this encoder.
        DataError: If the file is not there and cannot be downloaded.
    """
    url, path = public_source(pretrained, encoder)
    if not path.is_file():
        _download(url, path)
    return path


def public_source(pretrained: str, encoder: str) -> tuple[str, Path]:
    """Return where public weights are, and the file in torch's cache that holds them once they are downloaded.

    Args:
        pretrained: See :func:`public_weights`.
        encoder: Name of the encoder.

    Raises:
        LofiError: If there are no such weights for this encoder.
    """
    name = pretrained
    if pretrained in PUBLIC_WEIGHTS:
        fitting = PUBLIC_WEIGHTS[pretrained]
        if encoder not in fitting:
            raise LofiError(
                f"encoder.pretrained {pretrained!r}: there are no such weights for {encoder!r}, only for "
                f"{', '.join(fitting)}."
            )
        name = fitting[encoder]
    try:
        weights: Any = get_weight(name)
    except (ValueError, AttributeError, KeyError) as error:
        known = [*PUBLIC_WEIGHTS, *(full for names in PUBLIC_WEIGHTS.values() for full in names.values())]
        raise LofiError(
            f"encoder.pretrained {pretrained!r} is unknown; known: {', '.join(known)}.{nearest(pretrained, known)}"
        ) from error
    return weights.url, Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name


def _download(url: str, path: Path) -> None:
    """Fetch a file in one atomic step and check the hash that its name carries."""
    match = re.search(r"-([a-f0-9]+)\.", path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), match[1] if match else None, progress=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{path.name} is not in {path.parent} and cannot be downloaded ({error}). On a machine with a network "
            f"fetch {url} and put it there; or give a file of your own with encoder.weights."
        ) from error
