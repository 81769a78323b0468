"""What a recipe's encoder can take, and the fidelities that follow from it, before any weights are read."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from lofi_tal.config import Recipe
from lofi_tal.encoder_settings import EncoderSection
from lofi_tal.encoders import Encoder, encoder_options, outline_encoder
from lofi_tal.fidelity import Fidelity, Takes, full_fidelity
from lofi_tal.files import read_json


def start_of(section: EncoderSection) -> Path | str | None:
    """Return what the encoder starts from: a file, a folder, public weights, or None."""
    return section.pretrained if section.weights is None else section.weights


def arguments_of(section: EncoderSection) -> dict[str, Any]:
    """Return ``{"name", **options}`` of a recipe's encoder, with what its checkpoint says of it.

    Raises:
        DataError: If what it starts from belongs to another encoder.
    """
    return {"name": section.name, **encoder_options(section.name, section.options, start_of(section))}


def outline_of(section: EncoderSection) -> Encoder:
    """Return a recipe's encoder to ask what it is like; no weights are read.

    Raises:
        LofiError: If it cannot be built.
        DataError: If what it starts from belongs to another encoder.
    """
    name, options, start = section.name, section.options, start_of(section)
    if isinstance(start, Path) and (start / "encoder.json").is_file():
        described = read_json(start / "encoder.json")
        if isinstance(described, dict) and ":" not in str(described.get("name", ":")):  # code is named by recipes alone
            name, options, start = str(described["name"]), dict(described.get("config", {})), None
    return outline_encoder(name, options, start)


def takes_of(recipe: Recipe) -> Takes:
    """Return what clips a recipe's encoder takes; anything where there are features instead.

    Raises:
        LofiError: If the encoder cannot be built.
    """
    if recipe.features is not None:
        return Takes()
    return _takes(json.dumps(recipe.encoder.model_dump(mode="json")))


def full_of(recipe: Recipe) -> Fidelity:
    """Return a recipe's full fidelity, from which those of stage 2 follow, in sizes that its encoder takes.

    Raises:
        LofiError: If the encoder takes no snippets of this size or number of frames.
    """
    section, takes = recipe.snippets, takes_of(recipe)
    takes.check(recipe.encoder.name, section.frames, section.size, section.size)
    return full_fidelity(section.count, section.size, takes)


@lru_cache(maxsize=16)
def _takes(section: str) -> Takes:
    content: dict[str, Any] = json.loads(section)
    return outline_of(EncoderSection.model_validate(content)).takes
