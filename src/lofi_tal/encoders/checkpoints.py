"""Checkpoints as transformers writes them: a local folder or a name on the Hugging Face hub, read without its code.

Tensors are read by this package and matched by name: a tensor of the encoder that is not in the checkpoint, or one in
the checkpoint that belongs to nothing that is known, is an error. transformers itself only warns, and has loaded biases
as zeros (VideoMAE's, in releases of version 5 before September 2026).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lofi_tal.encoders.extra import extra
from lofi_tal.encoders.foundation import FOUNDATION, Family, FoundationEncoder
from lofi_tal.encoders.hub import INDEX, WEIGHTS, called, is_hub_name
from lofi_tal.encoders.telling import tell
from lofi_tal.errors import DataError
from lofi_tal.fidelity.takes import RESIZE
from lofi_tal.files import read_json
from lofi_tal.tensor_files import check_finite, read_state_dict

_PREPROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")


def is_checkpoint(start: Path) -> bool:
    """Say whether a folder is one that transformers wrote."""
    return (start / "config.json").is_file() and not (start / "encoder.json").is_file()


def checkpoint_folder(start: str | Path) -> Path:
    """Return the folder of a checkpoint: a local one, or that of a name on the hub, downloaded if it is not cached.

    Raises:
        LofiError: If the hub's library is not installed.
        DataError: If there is no such checkpoint, or it cannot be downloaded.
    """
    path = Path(start)
    if path.is_dir():
        return path
    if not is_hub_name(str(start)):
        raise DataError(f"{start} is no folder, and no name on the hub such as MCG-NJU/videomae-base.")
    hub = extra("huggingface_hub", f"weights from the hub ({start})")
    try:
        wanted = ["*.json", "*.safetensors", "README.md"]
        folder = Path(hub.snapshot_download(str(start), allow_patterns=wanted))
        if not any(folder.glob("*.safetensors")):
            folder = Path(hub.snapshot_download(str(start), allow_patterns=[*wanted, "pytorch_model*.bin"]))
    except Exception as error:  # of the network, of the name, of a licence that has to be accepted
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{start} is not in the hub's cache and cannot be downloaded ({reason}). On a machine with a network run "
            f"`hf download {start}`, copy the folder, and give its path."
        ) from error
    return folder


def checkpoint_options(name: str, folder: Path) -> dict[str, Any]:
    """Return the arguments of an encoder of transformers from what lies beside its weights.

    Args:
        name: One of :data:`~lofi_tal.encoders.foundation.FOUNDATION`.
        folder: Of the checkpoint.

    Raises:
        DataError: If it holds another model, or says nothing of how frames are normalised.
    """
    family = FOUNDATION[name].family
    content = read_json(folder / "config.json")
    kind = content.get("model_type") if isinstance(content, dict) else None
    if kind not in family.model_types:
        other = next((key for key, made in FOUNDATION.items() if kind in made.family.model_types), None)
        hint = f" Use encoder {other!r}." if other else ""
        raise DataError(f"{folder / 'config.json'} describes a model {kind!r}, not {family.model_types[0]!r}.{hint}")
    if kind != family.model_types[0]:  # a larger model, of which the encoder is a part
        content = content.get("vision_config") or {}
    known = FOUNDATION[name].settings()
    architecture = {key: value for key, value in content.items() if key in known}
    return {"architecture": architecture, **_preprocessing(folder), "licence": _licence(folder, family)}


def load_checkpoint(name: str, folder: Path, options: Mapping[str, Any] | None = None) -> FoundationEncoder:
    """Build an encoder from a checkpoint of transformers.

    Args:
        name: One of :data:`~lofi_tal.encoders.foundation.FOUNDATION`.
        folder: Of the checkpoint.
        options: Arguments that take the place of what the folder says.

    Raises:
        DataError: If a tensor is missing, has another shape, or belongs to nothing that is known.
    """
    encoder = FOUNDATION[name](**{**checkpoint_options(name, folder), **(options or {})})
    encoder.name, path = name, checkpoint_weights(folder)
    tell(str(path.absolute()), f"{path}: {load_tensors(encoder, read_checkpoint(path), path)}")
    if encoder.licence:
        text = f"{called(folder)}: the licence of these weights is {encoder.licence}."
        tell(str(folder.absolute()), text, logging.WARNING)
    return encoder


def load_tensors(encoder: FoundationEncoder, state: Mapping[str, Tensor], path: Path) -> str:
    """Load the tensors of a checkpoint into an encoder, and return in words what was loaded.

    Args:
        encoder: Changed in place.
        state: Names of transformers, and tensors.
        path: Where they are from.

    Raises:
        DataError: If a tensor is missing, has another shape, belongs to nothing that is known, or is not finite.
    """
    own = dict(encoder.base_model.state_dict())
    found = _in_own_names(state, own, encoder.family)
    missing = [key for key in own if key not in found]
    left = [key for key in found if key not in own]
    wrong = [key for key in own if key in found and own[key].shape != found[key].shape]
    for keys, problem in (
        (missing, "are not in it"),
        (left, "belong to no part of this encoder"),
        (wrong, "have another shape"),
    ):
        if keys:
            shown = ", ".join(keys[:4]) + (", ..." if len(keys) > 4 else "")
            raise DataError(f"{path} does not fit encoder {encoder.name!r}: {len(keys)} tensors {problem} ({shown}).")
    check_finite(path, found)
    encoder.base_model.load_state_dict(found)
    others = f", {len(state) - len(found)} of other parts" * (len(state) > len(found))
    return f"{len(found)} tensors loaded{others}"


def _in_own_names(state: Mapping[str, Tensor], own: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    """Return the tensors of the encoder by the names that it has for them; those of other known parts are left out."""
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        prefix = next((prefix for prefix in family.prefixes if key.startswith(prefix)), "")
        name = _renamed(key.removeprefix(prefix), own, family)
        if name in own or not key.startswith(family.others):
            found[name] = value
    return found


def _renamed(name: str, own: Mapping[str, Tensor], family: Family) -> str:
    """Return what a tensor of an older or newer checkpoint is called here."""
    for old, new in family.renamed.items():
        for one, other in ((old, new), (new, old)):
            if name.endswith(one) and (here := name.removesuffix(one) + other) in own:
                return here
    return name


def checkpoint_weights(folder: Path) -> Path:
    """Return the file of a checkpoint's tensors, or the index of several.

    Raises:
        DataError: If there is none.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder} holds no weights: expected {' or '.join(WEIGHTS[::2])}.")


def weights_parts(path: Path) -> list[Path]:
    """Return the files that hold the tensors of a file of weights, or of an index of several.

    Raises:
        DataError: If an index names files that are not in its folder.
    """
    if not path.name.endswith(INDEX):
        return [path]
    content = read_json(path)
    named = content.get("weight_map") if isinstance(content, dict) else None
    names = sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []
    for name in names:
        if Path(name).name != name:
            raise DataError(f"{path} names {name!r}, which is not a file of this folder.")
    return [path.parent / name for name in names]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a file of weights, or of the files that an index names.

    Raises:
        DataError: If a file cannot be read safely.
    """
    state: dict[str, Tensor] = {}
    for part in weights_parts(path):
        state |= read_state_dict(part)
    return state


def _preprocessing(folder: Path) -> dict[str, Any]:
    """Return mean, standard deviation and resize from the checkpoint's own file."""
    found = next((folder / name for name in _PREPROCESSORS if (folder / name).is_file()), None)
    if found is None:
        raise DataError(
            f"{folder} has no {_PREPROCESSORS[0]}, which says how frames are normalised: copy it from where the "
            "weights come from."
        )
    content = read_json(found)
    if not isinstance(content, dict):
        raise DataError(f"{found} does not hold settings.")
    content = content.get("video_processor") or content.get("image_processor") or content
    try:
        scale = 255 * float(content.get("rescale_factor", 1 / 255)) if content.get("do_rescale", True) else 255.0
        mean, std = [0.0] * 3, [1.0] * 3
        if content.get("do_normalize", True):
            mean, std = ([float(value) for value in content[key]] for key in ("image_mean", "image_std"))
        crop, short = _edge(content.get("crop_size")), _edge(content.get("size"))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{found} lacks or misnames a setting: {error!r}.") from error
    resize = RESIZE
    if crop and short and content.get("do_resize", True) and content.get("do_center_crop", True):
        resize = max(1.0, short / crop)
    # (scale · x - mean) / std for x in [0, 1]
    return {"mean": [m / scale for m in mean], "std": [s / scale for s in std], "resize": resize}


def _edge(size: Any) -> float:
    """Return the side or the shorter side that a size of transformers means; 0 if there is none."""
    if isinstance(size, Mapping):
        size = size.get("shortest_edge") or size.get("height") or 0
    return float(size or 0)


def _licence(folder: Path, family: Family) -> str:
    """Return the licence that the card in the folder names, or else that of the published weights."""
    card = folder / "README.md"
    if card.is_file():
        head = card.read_text(encoding="utf-8", errors="replace")[:4000].split("---")
        found = re.search(r"^license:\s*['\"]?([\w.+-]+)", head[1], re.MULTILINE) if len(head) > 2 else None
        if found:
            return found[1]
    return family.licence
