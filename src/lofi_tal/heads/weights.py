"""Head weights in and out: safetensors beside the arguments that rebuild the head."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from lofi_tal.errors import DataError
from lofi_tal.files import read_json, write_bytes, write_json
from lofi_tal.heads.contract import Head
from lofi_tal.heads.registry import create_head


def save_head(head: Head, folder: Path) -> None:
    """Write ``folder/head.safetensors`` and ``folder/head.json``."""
    state = {key: value.detach().cpu().contiguous() for key, value in head.state_dict().items()}
    write_bytes(folder / "head.safetensors", save(state))
    write_json(folder / "head.json", {"name": head.name, "config": head.config})


def load_head(folder: Path) -> Head:
    """Rebuild a head that :func:`save_head` wrote, in eval mode.

    Raises:
        DataError: If the folder does not hold a head of this version.
    """
    description = read_json(folder / "head.json")
    try:
        head = create_head(description["name"], **description["config"])
        head.load_state_dict(load_file(folder / "head.safetensors"))
    except (KeyError, TypeError, OSError, RuntimeError, SafetensorError) as error:
        raise DataError(f"{folder} does not hold a head of this version: {error}.") from error
    return head.eval()
