"""Which encoder a weights file belongs to: told by its description, or by the names and shapes of its tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from lofi_tal.encoders.checkpoints import is_checkpoint
from lofi_tal.encoders.contract import Encoder
from lofi_tal.encoders.create import outline_encoder
from lofi_tal.encoders.foundation import FOUNDATION
from lofi_tal.encoders.registry import list_encoders
from lofi_tal.encoders.weights import in_own_names, is_of_a_classifier
from lofi_tal.errors import DataError
from lofi_tal.files import read_json
from lofi_tal.model_files import ComponentFile, read_description
from lofi_tal.tensor_files import read_state_dict

_DESCRIPTION = "encoder.json"
_IMAGENET = 1000  # classes
_DEPTHS = (18, 34, 50)
_STEMS = {7: "imagenet", 3: "compact"}  # by the size of the first convolution
_BY_ORDER = {"features.0.0.weight": "mobilenetv2_100", "_conv_stem.weight": "tf_efficientnet_lite0"}
"""Models of timm for which files under other names are about, by their first tensor."""


@dataclass(frozen=True)
class IdentifiedEncoder:
    """What a weights file says of its encoder.

    Args:
        name: Of the encoder, one of :func:`lofi_tal.encoders.list_encoders` or ``joined``.
        options: Its arguments, those that are not its defaults.
        weights: What ``encoder.weights`` of a recipe is to be: the folder of a described encoder, or the file.
        snippets: ``frames``, ``stride`` and ``size`` that it was trained with, where that is known.
        pictures: Whether the weights are of pictures, and know nothing of motion: those of an image backbone, or with a
            classifier of ImageNet's 1,000 classes.
    """

    name: str
    options: dict[str, Any]
    weights: Path
    snippets: dict[str, Any] = field(default_factory=dict)
    pictures: bool = False


def identify_encoder(path: Path) -> IdentifiedEncoder:
    """Return which encoder a weights file, or a folder of an encoder, belongs to.

    Args:
        path: Folder that :func:`lofi_tal.encoders.save_encoder` wrote, its ``encoder.safetensors``, a folder of
            transformers, or a checkpoint of TSM, mmaction2 or torchvision.

    Raises:
        DataError: If the file cannot be read safely, or belongs to no encoder that is known here.
    """
    folder = path if path.is_dir() else path.parent
    if (folder / _DESCRIPTION).is_file() and (path.is_dir() or path.name == "encoder.safetensors"):
        return _described(folder)
    if path.is_dir() and is_checkpoint(path):
        return _of_transformers(path)
    if path.is_dir():
        inside = sorted(str(found.parent) for found in path.glob(f"*/{_DESCRIPTION}"))
        inside += sorted(str(found.parent) for found in path.glob(f"arms/*/model/{_DESCRIPTION}"))
        hint = f" There is one in {', '.join(inside)}." if inside else ""
        raise DataError(f"{path} is not the folder of an encoder: it has no {_DESCRIPTION}.{hint}")
    return _fitting(path, read_state_dict(path))


def _of_transformers(folder: Path) -> IdentifiedEncoder:
    content = read_json(folder / "config.json")
    kind = content.get("model_type") if isinstance(content, dict) else None
    name = next((name for name, made in FOUNDATION.items() if kind in made.family.model_types), None)
    if name is None:
        raise DataError(f"{folder / 'config.json'} describes a model {kind!r}; known here: {', '.join(FOUNDATION)}.")
    return IdentifiedEncoder(name, {}, folder)


def _described(folder: Path) -> IdentifiedEncoder:
    path = folder / _DESCRIPTION
    description = read_description(path, ComponentFile)
    name, config, inputs = description.name, description.config, description.facts.get("inputs")
    trained = inputs.get("snippets") if isinstance(inputs, dict) else None
    built = _outline(name, {})
    defaults = {} if built is None else built.config
    options = {key: value for key, value in config.items() if key not in defaults or defaults[key] != value}
    known = {key: trained[key] for key in ("frames", "stride", "size") if isinstance(trained, dict) and key in trained}
    return IdentifiedEncoder(name, options, folder, known)


def _fitting(path: Path, state: Mapping[str, Tensor]) -> IdentifiedEncoder:
    """Return the encoder of which the file holds every tensor, and the fewest others."""
    best: tuple[int, str, dict[str, Any]] | None = None
    for name, options in _candidates(state):
        built = _outline(name, options)
        left = None if built is None else _unused(built, state)
        if left is not None and (best is None or left < best[0]):
            best = left, name, options
    if best is None:
        raise DataError(
            f"{path}: its {len(state)} tensors ({', '.join(list(state)[:3])}, ...) are those of no encoder that is "
            f"known here: {', '.join(list_encoders())}. Write encoder.name and encoder.options into the recipe by hand."
        )
    return IdentifiedEncoder(best[1], best[2], path, pictures=best[1] == "timm" or _tells_imagenet(state))


def _tells_imagenet(state: Mapping[str, Tensor]) -> bool:
    return any(
        is_of_a_classifier(key.removeprefix("module.")) and value.ndim == 2 and len(value) == _IMAGENET
        for key, value in state.items()
    )


def _candidates(state: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Any]]]:
    built_in = [name for name in list_encoders() if name != "timm" and name not in FOUNDATION]  # which have one shape
    yield from ((name, {}) for name in built_in)
    first = [value.shape for key, value in state.items() if key.endswith("conv1.weight") and value.ndim == 4]
    for width, colours, size, _ in first:
        if colours == 3 and size in _STEMS:
            options = {"width": int(width), "stem": _STEMS[int(size)]}
            yield from ((f"tsm_resnet{depth}", options) for depth in _DEPTHS)
    yield from (("timm", {"model": model}) for key, model in _BY_ORDER.items() if key in state)


def _outline(name: str, options: dict[str, Any]) -> Encoder | None:
    """Return an encoder without weights; None if it cannot be built: one of another package may need arguments."""
    with contextlib.suppress(Exception):
        return outline_encoder(name, options)
    return None


def _unused(encoder: Encoder, state: Mapping[str, Tensor]) -> int | None:
    """Return how many tensors of the file the encoder does not need; None if it lacks one, or a shape differs."""
    own = encoder.state_dict()
    given = in_own_names(state, own)
    needed = [key for key in own if not key.endswith("num_batches_tracked")]
    if any(key not in given or given[key].shape != own[key].shape for key in needed):
        return None
    return sum(key not in own and not is_of_a_classifier(key) for key in given)
