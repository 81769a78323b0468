"""Encoders with the weights that they start from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lofi_tal.encoders.contract import Encoder
from lofi_tal.encoders.public import PUBLIC_WEIGHTS, public_weights
from lofi_tal.encoders.registry import build_encoder
from lofi_tal.encoders.weights import is_adapted, load_encoder, load_weights
from lofi_tal.errors import DataError

_SUFFIXES = (".safetensors", ".pth", ".pt")


def create_encoder(name: str, *, pretrained: str | Path | None = None, **options: Any) -> Encoder:
    """Build an encoder, with random weights unless ``pretrained`` says otherwise.

    Args:
        name: One of :func:`lofi_tal.encoders.list_encoders`, ``joined`` with ``parts``, or ``package.module:factory``,
            which runs the code of that module.
        pretrained: ``imagenet``, ``kinetics400``, torchvision's name of weights, a weights file, or a folder that
            :func:`lofi_tal.encoders.save_encoder` wrote.
        options: Arguments of the encoder, such as ``width``; ``encoder.config`` holds them all.

    Raises:
        LofiError: If the name or ``pretrained`` is unknown, or an option is not one of the encoder's.
        DataError: If weights are missing, cannot be read or do not fit.
    """
    encoder = build_encoder(name, options, dotted=True)
    if pretrained is not None and is_adapted(Path(pretrained)):
        return _adapted(Path(pretrained), encoder)
    if pretrained is not None:
        load_weights(encoder, _weights_file(pretrained, name))
    return encoder


def _adapted(folder: Path, wanted: Encoder) -> Encoder:
    """Return the encoder with its adapters that a folder holds.

    Raises:
        DataError: If it is another encoder than what is wanted.
    """
    found = load_encoder(folder, trusted={wanted.name or ""})
    if (found.name, found.config) != (wanted.name, wanted.config):
        raise DataError(f"{folder} holds {found.name} {found.config}, not {wanted.name} {wanted.config}.")
    return found


def _weights_file(pretrained: str | Path, name: str) -> Path:
    """Return the file of weights: of a path, or of a name of public weights."""
    path = Path(pretrained)
    is_path = isinstance(pretrained, Path) or os.sep in pretrained or path.suffix in _SUFFIXES or path.exists()
    if isinstance(pretrained, str) and (pretrained in PUBLIC_WEIGHTS or not is_path):
        return public_weights(pretrained, name)
    return path / "encoder.safetensors" if path.is_dir() else path
