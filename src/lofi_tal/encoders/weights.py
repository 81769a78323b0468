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

from lofi_tal.encoders.contract import Encoder
from lofi_tal.encoders.registry import ENCODERS, build_encoder
from lofi_tal.encoders.timm_weights import check_origin, names_in_order, timm_names
from lofi_tal.errors import DataError, LofiError
from lofi_tal.files import read_json, write_bytes, write_json
from lofi_tal.tensor_files import read_state_dict

_CLASSIFIERS = re.compile(r"^(fc|new_fc|cls_head|classifier|head)\.")


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
        DataError: If the folder does not hold an encoder, it names one that is not registered, or the weights do not
            fit it exactly.
    """
    path = folder / "encoder.json"
    description = read_json(path)
    try:
        name = description["name"]
        encoder = build_encoder(name, dict(description["config"]), dotted=set(trusted))
    except LofiError as error:
        package = description.get("package")
        hint = f" It comes from the package {package!r}: is that installed here?" if package else ""
        raise DataError(f"{path}: {error}{hint}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} does not describe an encoder of this version: {error}.") from error
    report = load_weights(encoder, folder / "encoder.safetensors")
    if report.missing or report.unused:
        raise DataError(f"{folder / 'encoder.safetensors'} does not fit {name!r}: {report}.")
    return encoder


def load_weights(encoder: Encoder, path: Path) -> LoadReport:
    """Load public or own weights into ``encoder``.

    Args:
        encoder: Changed in place.
        path: A ``.safetensors`` file, or a ``.pth`` / ``.pt`` checkpoint of TSM, mmaction2, torchvision or timm; or of
            another program that builds the same network in the same order, whose names are not known.

    Raises:
        DataError: If the file cannot be read safely, a shape differs, or less than all convolutions are in it.
    """
    own = encoder.state_dict()
    given = read_state_dict(path)
    check_origin(encoder, given)
    state, in_order = _translated(given, own)
    wrong = [key for key in own if key in state and own[key].shape != state[key].shape]
    if wrong:
        key = wrong[0]
        raise DataError(
            f"{path}: {len(wrong)} tensors have another shape than the encoder's, e.g. {key}: "
            f"{tuple(state[key].shape)} in the file, {tuple(own[key].shape)} here. "
            "The file belongs to another depth or width."
        )
    missing = tuple(key for key in own if key not in state and not key.endswith("num_batches_tracked"))
    unused = tuple(key for key in state if key not in own and not _CLASSIFIERS.match(key))
    report = LoadReport(sum(key in own for key in state), missing, unused, in_order)
    if missing:
        raise DataError(f"{path} does not hold all weights of this encoder: {report}.")
    encoder.load_state_dict({key: state.get(key, own[key]) for key in own})
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
