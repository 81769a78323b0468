"""Head weights in and out: safetensors beside the arguments that rebuild the head."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save

from lofi_tal.artefacts import check_files
from lofi_tal.errors import DataError, LofiError
from lofi_tal.files import write_bytes, write_json
from lofi_tal.heads.contract import Head
from lofi_tal.heads.registry import HEADS, build_head
from lofi_tal.model_files import ComponentFile, build_for, load_exactly, read_description, refuse_fetching

HEAD_FILES = ("head.safetensors", "head.json")
"""What :func:`save_head` writes."""


def save_head(head: Head, folder: Path) -> None:
    """Write ``folder/head.safetensors`` and ``folder/head.json``.

    Raises:
        LofiError: If the head has no name: it was built neither by :func:`lofi_tal.heads.create_head` nor by a class
            that has one.
    """
    name = getattr(head, "name", None)
    if not name:
        raise LofiError(f"{type(head).__name__} has no name to save it under: set the class attribute `name`.")
    package = {"package": outside[name]} if name in (outside := HEADS.outside()) else {}
    state = {key: value.detach().cpu().contiguous() for key, value in head.state_dict().items()}
    write_bytes(folder / "head.safetensors", save(state))
    write_json(folder / "head.json", {"name": name, "config": head.config, **package})


def load_head(folder: Path, *, trusted: str | None = None) -> Head:
    """Rebuild a head that :func:`save_head` wrote, in eval mode.

    The folder may come from a stranger, so it may name registered heads only: those of this package and of installed
    ones.

    Args:
        folder: Folder of the head.
        trusted: A path to code, ``package.module:factory``, that the folder may name nevertheless.

    Raises:
        DataError: If the folder does not hold a head of this version, names one that is not registered, or a file is
            not as it was written.
    """
    check_files(folder, *HEAD_FILES)
    path, weights = folder / "head.json", folder / "head.safetensors"
    described = read_description(path, ComponentFile)
    name = described.name
    try:
        if name != trusted:
            refuse_fetching(described.config)
        head = build_for(weights, name, lambda: build_head(name, described.config, dotted=name == trusted))
        load_exactly(head, weights)
    except LofiError as error:
        package = described.package
        hint = f" It comes from the package {package!r}: is that installed here?" if package else ""
        raise DataError(f"{path}: {error}{hint}") from error
    except Exception as error:  # arguments from anybody make a constructor raise anything
        raise DataError(f"{folder} does not hold a head of this version: {error}.") from error
    return head.eval()
