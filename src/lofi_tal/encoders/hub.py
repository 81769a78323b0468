"""The cache of the Hugging Face hub on this machine: which weights are in it, without a question to the network."""

from __future__ import annotations

import re
from pathlib import Path

from lofi_tal.encoders.extra import extra

INDEX = ".index.json"
"""How the name of a file ends that names several with weights."""
WEIGHTS = ("model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}")
"""Files of weights as transformers and timm name them, the best first."""
_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def is_hub_name(text: str) -> bool:
    """Say whether a text can be a name on the hub, such as ``MCG-NJU/videomae-base``."""
    return _NAME.fullmatch(text) is not None and ".." not in text and "--" not in text


def cached_weights(name: str, revision: str | None = None) -> Path | None:
    """Return the file of weights of a name on the hub, or their index, if it is in the cache.

    Args:
        name: On the hub.
        revision: Commit; by default that which was downloaded last as the main one.

    Raises:
        LofiError: If the hub's library is not installed.
    """
    hub = extra("huggingface_hub", f"weights from the hub ({name})")
    for file in WEIGHTS if is_hub_name(name) else ():
        found = hub.try_to_load_from_cache(name, file, revision=revision)
        if isinstance(found, str):
            return Path(found)
    return None


def hub_cache() -> Path:
    """Return the folder of the cache."""
    return Path(extra("huggingface_hub.constants", "weights from the hub").HF_HUB_CACHE)


def called(folder: Path) -> str:
    """Return the name of a checkpoint: on the hub if the folder is of its cache, or else that of the folder."""
    if folder.parent.name != "snapshots":
        return folder.name
    return folder.parent.parent.name.removeprefix("models--").replace("--", "/")


def hub_address(name: str) -> str:
    """Return the URL of a small file that every model on the hub has."""
    return str(extra("huggingface_hub", f"weights from the hub ({name})").hf_hub_url(name, "config.json"))
