"""The weights that an encoder starts from, named so that a folder of adapters alone finds them again.

A folder of adapters may come from a stranger. What it names is a file of weights: one in torch's cache or in that of
the hub, one beside the adapters, or one where it was. Nothing else is read, nothing of it is run, and no connection is
opened for a name on the hub.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from lofi_tal.encoders.checkpoints import checkpoint_weights, is_checkpoint, weights_parts
from lofi_tal.encoders.contract import Encoder
from lofi_tal.encoders.foundation import FOUNDATION
from lofi_tal.encoders.hub import INDEX, WEIGHTS, cached_weights, hub_cache, is_hub_name
from lofi_tal.encoders.public import PUBLIC_WEIGHTS, public_source, public_weights
from lofi_tal.encoders.timm_weights import timm_hub_name
from lofi_tal.errors import DataError
from lofi_tal.files import hash_file, hash_object, plain_file
from lofi_tal.model_files import Description

_SUFFIXES = (".safetensors", ".pth", ".pt", ".tar", ".bin")


class Base(Description):
    """The weights that saved adapters belong to: public ones by name, or a file.

    Args:
        pretrained: Name of public weights, as ``encoder.pretrained``.
        revision: Commit on the hub.
        weights: File.
        hash: Of the file, or of the files that an index names.
    """

    pretrained: Annotated[str, Field(max_length=200)] | None = None
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")] | None = None
    weights: Annotated[str, Field(max_length=4096)] | None = None
    hash: Annotated[str, Field(max_length=200)]


def base_of(encoder: Encoder, start: str | Path | None) -> dict[str, str] | None:
    """Return what names the weights that adapters are put on, for ``encoder.base``; None for random ones.

    Args:
        encoder: With these weights.
        start: What :func:`lofi_tal.create_encoder` took as ``pretrained``.

    Raises:
        LofiError: If they are public, and cannot be named.
        DataError: If they are not there any more.
    """
    if start is None:
        return None
    name = encoder.name or ""
    if not is_public(start, name):
        path = weights_file(start, name).absolute()
        return {"weights": str(path), "hash": hash_weights(path)}
    repository = hub_name(name, encoder.config, str(start))
    if repository is None:
        return {"pretrained": str(start), "hash": hash_weights(public_weights(str(start), name))}
    found = cached_weights(repository)
    if found is None:
        raise DataError(f"{repository} is not in the hub's cache, {hub_cache()}, so that adapters cannot name it.")
    return {"pretrained": str(start), "revision": found.parent.name, "hash": hash_weights(found)}


def weights_file(start: str | Path, name: str = "") -> Path:
    """Return the file of weights: of a path, or of a name of torchvision's for the encoder ``name``.

    Raises:
        LofiError: If there are no such public weights.
        DataError: If they are not there and cannot be downloaded.
    """
    path = Path(start)
    if is_public(start, name):
        return public_weights(str(start), name)
    if is_checkpoint(path):
        return checkpoint_weights(path)
    return path / "encoder.safetensors" if path.is_dir() else path


def is_public(start: str | Path, name: str) -> bool:
    """Say whether weights are named as public ones, and not by a path."""
    path = Path(start)
    if isinstance(start, Path) or path.exists():
        return start in PUBLIC_WEIGHTS
    return name in FOUNDATION or (os.sep not in start and path.suffix not in _SUFFIXES)


def hub_name(name: str, options: Mapping[str, Any], pretrained: str) -> str | None:
    """Return the name on the hub of public weights; None for those of torchvision.

    Args:
        name: Of the encoder.
        options: Its arguments.
        pretrained: As ``encoder.pretrained``.

    Raises:
        LofiError: If timm is not installed, has no such model, or keeps its weights elsewhere.
    """
    if name in FOUNDATION:
        return pretrained
    return timm_hub_name(str(options.get("model"))) if name == "timm" and pretrained == "imagenet" else None


def base_file(base: Base, name: str, config: Mapping[str, Any], folder: Path, *, fetch: bool) -> Path:
    """Return the file of the weights that saved adapters belong to: beside them, in a cache, or where it was.

    Those of torchvision are downloaded only with ``fetch``: what a stranger's folder says opens no connection.

    Args:
        base: What the folder says.
        name: Of the encoder.
        config: Its arguments.
        folder: Of the adapters.
        fetch: The user has named the encoder.

    Raises:
        DataError: If it is not there, is another one, or is no file of weights.
    """
    beside = [path for suffix in _SUFFIXES if (path := folder / f"base{suffix}").is_file()]
    path, root = (beside[0], folder) if beside else _named(base, name, config, folder, fetch=fetch)
    index = path.name.endswith(INDEX)
    if path.name not in WEIGHTS if index else path.suffix not in _SUFFIXES:
        # the folder may be a stranger's, who names any file of this machine
        raise DataError(f"{path} is no file of weights: expected a name that ends in {', '.join(_SUFFIXES)}.")
    plain_file(path, root)
    for part in weights_parts(path) if index else ():
        plain_file(part, root)
    if (found := hash_weights(path)) != base.hash:
        wanted = f" `hf download` has a --revision: it was {base.revision}." if base.revision else ""
        raise DataError(
            f"{folder} holds adapters for other weights than those in {path} (hash {found}, not {base.hash}).{wanted}"
        )
    return path


def _named(base: Base, name: str, config: Mapping[str, Any], folder: Path, *, fetch: bool) -> tuple[Path, Path]:
    """Return the file that the folder names, and the folder out of which it may not lead."""
    put = f"or put the file into {folder} as base.safetensors"
    if base.pretrained is None:
        recorded = Path(base.weights or "none")
        if not recorded.is_file():
            suffix = recorded.suffix if recorded.suffix in _SUFFIXES else ".safetensors"
            raise DataError(
                f"{folder} holds adapters alone, and the weights that they belong to are not at {recorded}: put that "
                f"file into the folder as base{suffix}."
            )
        return recorded, recorded.parent
    repository = hub_name(name, config, base.pretrained)
    if repository is not None:
        if not is_hub_name(repository):
            raise DataError(f"{folder}: the weights {repository!r} are no name on the hub.")
        found = (cached_weights(repository, base.revision) if base.revision else None) or cached_weights(repository)
        if found is None:
            revision = f" --revision {base.revision}" if base.revision else ""
            raise DataError(
                f"{folder} holds adapters alone, and the weights that they belong to, {repository}, are not in the "
                f"hub's cache, {hub_cache()}. What a folder says downloads nothing: run `hf download "
                f"{repository}{revision}`, {put}."
            )
        return found, hub_cache()
    path = public_source(base.pretrained, name)[1]
    if not fetch and not path.is_file():
        raise DataError(
            f"{path.name} is not in {path.parent}, and what a folder says downloads nothing: fetch it once, with "
            f"create_encoder({name!r}, pretrained={base.pretrained!r}), {put}."
        )
    path = public_weights(base.pretrained, name)
    return path, path.parent


def hash_weights(path: Path) -> str:
    """Return a hash of the weights in a file, or in the files that an index names."""
    parts = weights_parts(path)
    return hash_file(path) if parts == [path] else hash_object([hash_file(part) for part in parts])
