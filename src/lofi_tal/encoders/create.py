"""Encoders with the weights that they start from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lofi_tal.encoders.bases import is_public, weights_file
from lofi_tal.encoders.checkpoints import checkpoint_folder, checkpoint_options, is_checkpoint, load_checkpoint
from lofi_tal.encoders.contract import Encoder
from lofi_tal.encoders.foundation import FOUNDATION
from lofi_tal.encoders.public import LICENCES
from lofi_tal.encoders.registry import build_encoder
from lofi_tal.encoders.telling import tell
from lofi_tal.encoders.timm_backbone import TimmEncoder
from lofi_tal.encoders.timm_weights import load_public
from lofi_tal.encoders.weights import is_adapted, load_encoder, load_weights
from lofi_tal.errors import DataError
from lofi_tal.files import read_json


def create_encoder(name: str, *, pretrained: str | Path | None = None, **options: Any) -> Encoder:
    """Build an encoder, with random weights unless ``pretrained`` says otherwise.

    Args:
        name: One of :func:`lofi_tal.encoders.list_encoders`, ``joined`` with ``parts``, or ``package.module:factory``,
            which runs the code of that module.
        pretrained: ``imagenet``, ``kinetics400``, torchvision's name of weights, a weights file, or a folder that
            :func:`lofi_tal.encoders.save_encoder` wrote; for an encoder of transformers a folder as ``save_pretrained``
            writes it, or a name on the Hugging Face hub. Public weights are downloaded if they are not cached.
        options: Arguments of the encoder, such as ``width``; ``encoder.config`` holds them all.

    Raises:
        LofiError: If the name or ``pretrained`` is unknown, an option is not one of the encoder's, or a library that
            it needs is not installed.
        DataError: If weights are missing, cannot be read or do not fit.
    """
    if name in FOUNDATION and pretrained is not None and not _is_own(pretrained):
        return load_checkpoint(name, checkpoint_folder(pretrained), options)
    encoder = build_encoder(name, encoder_options(name, options, pretrained), dotted=True)
    if pretrained is None:
        return encoder
    if is_adapted(Path(pretrained)):
        return _adapted(Path(pretrained), encoder)
    if isinstance(encoder, TimmEncoder) and pretrained == "imagenet":
        model = encoder.config["model"]
        tell(model, f"{model}: {load_public(encoder)}")
    else:
        path = weights_file(pretrained, name)
        tell(str(path.absolute()), f"{path}: {load_weights(encoder, path)}")
        if is_public(pretrained, name):
            encoder.licence = LICENCES.get(name, "")
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


def encoder_options(name: str, options: Mapping[str, Any], start: str | Path | None) -> dict[str, Any]:
    """Return the arguments of an encoder that starts from some weights: those given, and those that these tell.

    Args:
        name: Of the encoder.
        options: As they are given.
        start: What :func:`create_encoder` takes as ``pretrained``.

    Raises:
        DataError: If the weights belong to another model.
    """
    if name not in FOUNDATION or start is None:
        return dict(options)
    if _is_own(start):
        folder = Path(start) if Path(start).is_dir() else Path(start).parent
        return {**read_json(folder / "encoder.json").get("config", {}), **options}
    return {**checkpoint_options(name, checkpoint_folder(start)), **options}


def outline_encoder(name: str, options: Mapping[str, Any], start: str | Path | None = None) -> Encoder:
    """Build an encoder to ask what it is like, without memory for its weights where it can be built so.

    An encoder may compute while it is built, as vision transformers do whose drop rates are items of a tensor: it is
    built for real then. Nothing is drawn from torch's generator that others would miss.

    Args:
        name: As for :func:`create_encoder`.
        options: Arguments of the encoder.
        start: What :func:`create_encoder` takes as ``pretrained``; no weights are read.

    Raises:
        LofiError: As :func:`create_encoder`.
    """
    found = encoder_options(name, options, start)
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return build_encoder(name, found, dotted=True)
        except Exception:  # whatever the library raises that cannot be built so
            return build_encoder(name, found, dotted=True)


def _is_own(start: str | Path) -> bool:
    """Say whether weights of an encoder of transformers lie in a folder or file of this package."""
    path = Path(start)
    return (path.is_dir() and not is_checkpoint(path)) or path.is_file()
