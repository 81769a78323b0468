"""Encoder weights in and out: our own folders, and public ResNet / TSM checkpoints by key mapping.

Key layouts read in public code: mit-han-lab/temporal-shift-module (`module.base_model.layer1.0.conv1.net.weight`,
`new_fc`), open-mmlab/mmaction2 (`backbone.layer1.0.conv1.conv.net.weight`, `cls_head`), torchvision ResNets.
No file is ever unpickled freely (:mod:`lofi_tal.tensor_files`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from safetensors.torch import save
from torch import Tensor

from lofi_tal.artefacts import check_files
from lofi_tal.bounds import Options
from lofi_tal.encoders.adapters import add_adapter, is_of_an_adapter
from lofi_tal.encoders.bases import Base, base_file
from lofi_tal.encoders.checkpoints import load_tensors, read_checkpoint
from lofi_tal.encoders.contract import Encoder
from lofi_tal.encoders.foundation import FoundationEncoder
from lofi_tal.encoders.gated_shift import is_of_a_gate
from lofi_tal.encoders.registry import ENCODERS, build_encoder
from lofi_tal.encoders.timm_backbone import TimmEncoder
from lofi_tal.encoders.timm_weights import check_origin, load_public, names_in_order, timm_names
from lofi_tal.errors import DataError, LofiError
from lofi_tal.files import write_bytes, write_json
from lofi_tal.model_files import (
    ComponentFile,
    build_for,
    check_tensors,
    read_description,
    read_shapes,
    refuse_fetching,
)
from lofi_tal.module_sizes import SizeLimit
from lofi_tal.tensor_files import check_finite, read_state_dict

ENCODER_FILES = ("encoder.safetensors", "encoder.json")
"""What :func:`save_encoder` writes."""
_CLASSIFIERS = re.compile(r"^(fc|new_fc|cls_head|classifier|head)\.")


class EncoderFile(ComponentFile):
    """``encoder.json``."""

    adapter: Options | None = None
    base: Base | None = None
    licence: Annotated[str, Field(max_length=200)] = ""


@dataclass(frozen=True)
class LoadReport:
    """What a weights file gave: tensors loaded, tensors of the encoder that stayed as they were, keys not used.

    ``in_order``: names were not known, so that tensors were matched by their order and shapes.
    """

    loaded: int
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    in_order: bool = False

    def __str__(self) -> str:
        text = f"{self.loaded} tensors loaded" + (", matched by order and shape" if self.in_order else "")
        for name, keys in (("not in the file", self.missing), ("not used", self.unused)):
            if keys:
                text += f"; {len(keys)} {name} ({', '.join(keys[:4])}{', ...' if len(keys) > 4 else ''})"
        return text


def save_encoder(encoder: Encoder, name: str, folder: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Write ``folder/encoder.safetensors`` and ``folder/encoder.json`` (name, arguments, where it comes from).

    If the encoder has a ``base``, these weights are named and only the adapters are written.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in encoder.state_dict().items()}
    description: dict[str, Any] = {"name": name, "config": encoder.config, "facts": dict(facts or {})}
    if name in (outside := ENCODERS.outside()):
        description["package"] = outside[name]
    if encoder.licence and "licence" not in encoder.config:
        description["licence"] = encoder.licence
    if encoder.adapter is not None:
        description["adapter"] = encoder.adapter
    base = None if encoder.adapter is None else encoder.base
    if base is not None:
        description["base"] = base
        state = {key: value for key, value in state.items() if is_of_an_adapter(key)}
    write_bytes(folder / "encoder.safetensors", save(state, metadata=base))
    write_json(folder / "encoder.json", description)


def load_encoder(folder: Path, *, trusted: Collection[str] = ()) -> Encoder:
    """Rebuild an encoder that :func:`save_encoder` wrote.

    The folder may come from a stranger, so it may name registered encoders only: those of this package and of installed
    ones.

    Args:
        folder: Folder of the encoder.
        trusted: Paths to code, ``package.module:factory``, that the folder may name nevertheless.

    Raises:
        DataError: If the folder does not hold an encoder, it names one that is not registered, the weights do not fit
            it exactly, or a file is not as it was written.
    """
    check_files(folder, *ENCODER_FILES)
    path, weights = folder / "encoder.json", folder / "encoder.safetensors"
    described = read_description(path, EncoderFile)
    name = described.name
    try:
        if name not in trusted:
            refuse_fetching(described.config)
        encoder = _built(described, folder, trusted)
    except LofiError as error:
        package = described.package
        hint = f" It comes from the package {package!r}: is that installed here?" if package else ""
        raise DataError(f"{path}: {error}{hint}") from error
    except Exception as error:  # arguments from anybody make a constructor raise anything
        raise DataError(f"{path} does not describe an encoder of this version: {error}.") from error
    wanted = is_of_an_adapter if described.base is not None else lambda key: True
    report = _load(encoder, weights, wanted)
    if report.missing or report.unused:
        raise DataError(f"{weights} does not fit {name!r}: {report}.")
    encoder.licence = described.licence or encoder.licence
    return encoder


def _built(described: EncoderFile, folder: Path, trusted: Collection[str]) -> Encoder:
    """Build an encoder as large as the weights beside it, or those that its adapters belong to."""
    name, weights = described.name, folder / ENCODER_FILES[0]

    def build() -> Encoder:
        return build_encoder(name, described.config, dotted=set(trusted))

    if described.base is None:

        def with_adapters() -> Encoder:
            encoder = build()
            if described.adapter is not None:
                add_adapter(encoder, **described.adapter)
            return encoder

        return build_for(weights, name, with_adapters)
    base = base_file(described.base, name, described.config, folder, fetch=name in trusted)
    state = read_checkpoint(base)
    with SizeLimit(name, {key: tuple(value.shape) for key, value in state.items()}, base):
        encoder = build()
        _load_base(encoder, state, base, public=described.base.pretrained is not None)
    if described.adapter is not None:
        with SizeLimit(f"the adapters of {name}", read_shapes(weights), weights):
            add_adapter(encoder, **described.adapter)
    encoder.base = described.base.model_dump(exclude_none=True)
    return encoder


def _load_base(encoder: Encoder, state: Mapping[str, Tensor], path: Path, *, public: bool) -> None:
    """Load what adapters belong to, under the names of whoever has published it or under our own."""
    if isinstance(encoder, FoundationEncoder) and not encoder.state_dict().keys() <= state.keys():
        load_tensors(encoder, state, path)
    elif isinstance(encoder, TimmEncoder) and public:
        load_public(encoder, state)
    else:
        _fill(encoder, state, path, lambda key: True)


def is_adapted(folder: Path) -> bool:
    """Say whether a folder holds an encoder with adapters.

    Raises:
        DataError: If it describes an encoder, and not as this version does.
    """
    path = folder / ENCODER_FILES[1]
    return path.is_file() and read_description(path, EncoderFile).adapter is not None


def load_weights(encoder: Encoder, path: Path) -> LoadReport:
    """Load public or own weights into ``encoder``. The gates of a gated shift stay as they are if the file has none.

    Args:
        encoder: Changed in place.
        path: A ``.safetensors`` file, or a ``.pth`` / ``.pt`` checkpoint of TSM, mmaction2, torchvision or timm; or of
            another program that builds the same network in the same order, whose names are not known.

    Raises:
        DataError: If the file cannot be read safely, a shape differs, less than all convolutions are in it, or a number
            in it is not finite.
    """
    return _load(encoder, path, lambda key: True, new_gates=True)


def _load(encoder: Encoder, path: Path, wanted: Callable[[str], bool], *, new_gates: bool = False) -> LoadReport:
    """Load the tensors whose names are wanted; with ``new_gates``, gates may be missing. See :func:`load_weights`."""
    if path.name == ENCODER_FILES[0]:
        check_files(path.parent, path.name)
    state = read_state_dict(path)
    if new_gates and not any(map(is_of_a_gate, state)):
        return _fill(encoder, state, path, lambda key: not is_of_a_gate(key))
    return _fill(encoder, state, path, wanted)


def _fill(encoder: Encoder, given: Mapping[str, Tensor], path: Path, wanted: Callable[[str], bool]) -> LoadReport:
    """Load the tensors whose names are wanted; ``path`` is where they are from."""
    own = {key: value for key, value in encoder.state_dict().items() if wanted(key)}
    check_origin(encoder, given)
    state, in_order = _translated(given, own)
    if any(is_of_an_adapter(key) and key not in own for key in state):
        raise DataError(f"{path} holds adapters, which its folder describes: give the folder, {path.parent}.")
    check_tensors(path, state, own)
    missing = tuple(key for key in own if key not in state and not key.endswith("num_batches_tracked"))
    unused = tuple(key for key in state if key not in own and not _CLASSIFIERS.match(key))
    report = LoadReport(sum(key in own for key in state), missing, unused, in_order)
    if missing:
        raise DataError(f"{path} does not hold all weights of this encoder: {report}.")
    check_finite(path, {key: state[key] for key in own if key in state})
    encoder.load_state_dict(
        {key: state.get(key, own[key]) for key in own}, strict=len(own) == len(encoder.state_dict())
    )
    return report


def is_of_a_classifier(key: str) -> bool:
    """Say whether a tensor belongs to the layers behind an encoder, which public checkpoints carry."""
    return _CLASSIFIERS.match(key) is not None


def in_own_names(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a public state dict under the names of an encoder, as far as they can be translated.

    Where no name fits, tensors are matched by order and shape.
    """
    return _translated(state, own)[0]


def _translated(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """Return a state dict under the names of an encoder, and whether they were found by the order alone."""
    named = {_own_key(key, own): value for key, value in timm_names(state, own).items()}
    ordered = None if any(key in own for key in named) else names_in_order(state, own)
    return (named, False) if ordered is None else (ordered, True)


def _own_key(key: str, own_keys: Collection[str]) -> str:
    """Translate a public name to ours."""
    if key in own_keys:
        return key
    key = re.sub(r"^(module\.)+", "", key)
    if key.startswith("backbone."):  # mmaction2 wraps each convolution with its BatchNorm
        key = key.removeprefix("backbone.")
        key = re.sub(r"\bconv(\d)\.conv\.", r"conv\1.", key)
        key = re.sub(r"\bconv(\d)\.bn\.", r"bn\1.", key)
        key = re.sub(r"\bdownsample\.conv\.", "downsample.0.", key)
        key = re.sub(r"\bdownsample\.bn\.", "downsample.1.", key)
    key = key.removeprefix("base_model.")
    if _CLASSIFIERS.match(key):
        return key
    own = f"base_model.{key}"
    shifted = own.replace(".conv1.weight", ".conv1.net.weight") if ".layer" in own else own
    return shifted if shifted in own_keys else own
