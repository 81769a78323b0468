"""A cache of the Hugging Face hub as the hub's library lays it out, and no network."""

import hashlib
import json
import os

import pytest


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return what puts a folder into the hub's cache under a name; what it returns is the commit."""
    library = pytest.importorskip("huggingface_hub.constants")
    cache = tmp_path / "hub"
    monkeypatch.setattr(library, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(library, "HF_HUB_OFFLINE", True)

    def put(name, folder):
        content = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        commit = hashlib.sha1(b"".join(content.values()), usedforsecurity=False).hexdigest()
        home = cache / f"models--{name.replace('/', '--')}"
        for part in ("blobs", "refs", f"snapshots/{commit}"):
            (home / part).mkdir(parents=True, exist_ok=True)
        for file, data in content.items():
            blob = home / "blobs" / hashlib.sha256(data).hexdigest()
            blob.write_bytes(data)
            link = home / "snapshots" / commit / file
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
        (home / "refs" / "main").write_text(commit)
        return commit

    return put


def preprocessor(folder, size=64):
    """Write how frames are normalised, as checkpoints of transformers have it."""
    settings = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2], "size": {"shortest_edge": size}}
    settings["crop_size"] = {"height": size, "width": size}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
