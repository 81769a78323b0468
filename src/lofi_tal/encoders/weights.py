"""Encoder weights in and out: our own folders, and public ResNet / TSM checkpoints by key mapping.

Key layouts read in public code: mit-han-lab/temporal-shift-module (`module.base_model.layer1.0.conv1.net.weight`,
`new_fc`), open-mmlab/mmaction2 (`backbone.layer1.0.conv1.conv.net.weight`, `cls_head`), torchvision ResNets.
No file is ever unpickled freely (:mod:`lofi_tal.tensor_files`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from lofi_tal.artefacts import check_files
from lofi_tal.encoders.contract import Encoder
from lofi_tal.encoders.registry import ENCODERS, build_encoder
from lofi_tal.errors import DataError, LofiError
from lofi_tal.files import write_bytes, write_json
from lofi_tal.model_files import ComponentFile, build_for, check_tensors, read_description, refuse_fetching
from lofi_tal.tensor_files import check_finite, read_state_dict

ENCODER_FILES = ("encoder.safetensors", "encoder.json")
"""What :func:`save_encoder` writes."""
_CLASSIFIERS = re.compile(r"^(fc|new_fc|cls_head|classifier|head)\.")


@dataclass(frozen=True)
class LoadReport:
    """What a weights file gave: tensors loaded, tensors of the encoder that stayed as they were, keys not used."""

    loaded: int
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{self.loaded} tensors loaded"
        for name, keys in (("not in the file", self.missing), ("not used", self.unused)):
            if keys:
                text += f"; {len(keys)} {name} ({', '.join(keys[:4])}{', ...' if len(keys) > 4 else ''})"
        return text


def save_encoder(encoder: Encoder, name: str, folder: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Write ``folder/encoder.safetensors`` and ``folder/encoder.json`` (name, arguments, where it comes from)."""
    state = {key: value.detach().cpu().contiguous() for key, value in encoder.state_dict().items()}
    package = {"package": outside[name]} if name in (outside := ENCODERS.outside()) else {}
    write_bytes(folder / "encoder.safetensors", save(state))
    write_json(folder / "encoder.json", {"name": name, "config": encoder.config, "facts": dict(facts or {}), **package})


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
    described = read_description(path, ComponentFile)
    name = described.name
    try:
        if name not in trusted:
            refuse_fetching(described.config)
        encoder = build_for(weights, name, lambda: build_encoder(name, described.config, dotted=set(trusted)))
    except LofiError as error:
        package = described.package
        hint = f" It comes from the package {package!r}: is that installed here?" if package else ""
        raise DataError(f"{path}: {error}{hint}") from error
    except Exception as error:  # arguments from anybody make a constructor raise anything
        raise DataError(f"{path} does not describe an encoder of this version: {error}.") from error
    report = load_weights(encoder, weights)
    if report.missing or report.unused:
        raise DataError(f"{weights} does not fit {name!r}: {report}.")
    return encoder


def load_weights(encoder: Encoder, path: Path) -> LoadReport:
    """Load public or own weights into ``encoder``.

    Args:
        encoder: Changed in place.
        path: A ``.safetensors`` file, or a ``.pth`` / ``.pt`` checkpoint of TSM, mmaction2 or a torchvision ResNet.

    Raises:
        DataError: If the file cannot be read safely, a shape differs, less than all convolutions are in it, or a number
            in it is not finite.
    """
    if path.name == ENCODER_FILES[0]:
        check_files(path.parent, path.name)
    own = encoder.state_dict()
    state = in_own_names(read_state_dict(path), own)
    check_tensors(path, state, own)
    missing = tuple(key for key in own if key not in state and not key.endswith("num_batches_tracked"))
    unused = tuple(key for key in state if key not in own and not _CLASSIFIERS.match(key))
    report = LoadReport(sum(key in own for key in state), missing, unused)
    if missing:
        raise DataError(f"{path} does not hold all weights of this encoder: {report}.")
    check_finite(path, {key: state[key] for key in own if key in state})
    encoder.load_state_dict({key: state.get(key, own[key]) for key in own})
    return report


def is_of_a_classifier(key: str) -> bool:
    """Say whether a tensor belongs to the layers behind an encoder, which public checkpoints carry."""
    return _CLASSIFIERS.match(key) is not None


def in_own_names(state: Mapping[str, Tensor], own: Collection[str]) -> dict[str, Tensor]:
    """Return a public state dict under the names of an encoder, as far as they can be translated."""
    return {_own_key(key, own): value for key, value in state.items()}


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
