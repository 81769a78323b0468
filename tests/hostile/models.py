"""Model folders with one fault each."""

import copy
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from lofi_tal.shipped import DEMO_LOCALIZER

KEYS = {
    "localizer.json": (
        *("format", "labels", "labels.0", "snippets", "snippets.count", "snippets.frames", "snippets.stride"),
        *("snippets.size", "snippets.window", "snippets.overlap", "detect", "detect.preset", "detect.sigma"),
        *("detect.top_k", "detect.classes", "detect.pooling", "detect.vote", "threshold", "has_classifier", "decoder"),
        "facts",
    ),
    "head.json": (
        *("name", "config", "config.in_channels", "config.hidden_1d", "config.hidden_3d", "config.neighbours"),
        *("config.inner_bins", "config.map_kernel", "config.max_duration", "package"),
    ),
    "classifier.json": ("config", "config.channels", "config.classes", "config.hidden", "config.dropout", "facts"),
    "encoder.json": ("name", "config", "config.depth", "config.width", "config.stem", "config.shift", "facts"),
}
MISSING = object()
VALUES = {
    "missing": MISSING,
    "null": None,
    "object": {"a": 1},
    "list": [[]],
    "negative": -7,
    "huge": 10**12,
    "a million": 10**6,
    "NaN": float("nan"),
    "deep": json.loads("[" * 60 + "]" * 60),
    "long": "x" * 10**6,
    "escape": "../../../etc/passwd",
    "dotted": "os:abort",
    "unknown": "no_such_thing",
}
Change = Callable[[Path, Path], None]
"""What is done to a folder; the second path is the canary, a file outside."""


def base_folder(folder: Path) -> Path:
    """Return a copy of the shipped localiser, from which cases take their weights."""
    shutil.copytree(DEMO_LOCALIZER, folder)
    return folder


def make_folder(base: Path, folder: Path, *, encoder: bool) -> Path:
    """Return a valid model folder; without an encoder it loads in no time."""
    folder.mkdir(parents=True)
    for path in base.iterdir():
        if path.suffix == ".json":
            shutil.copy(path, folder)
        elif path.suffix == ".safetensors":
            os.link(path, folder / path.name)
    if not encoder:
        change_key(folder / "localizer.json", "has_encoder", False)
    return folder


def change_key(path: Path, key: str, value: object) -> None:
    """Set one value in a JSON file, or leave it out."""
    content = json.loads(path.read_text())
    *parents, last = (int(part) if part.isdigit() else part for part in key.split("."))
    target = content
    for part in parents:
        target = target[part]
    if value is MISSING:
        if isinstance(target, list):
            del target[last]
        else:
            target.pop(last, None)
    else:
        target[last] = copy.deepcopy(value)
    path.write_text(json.dumps(content))


def of_keys() -> Iterator[tuple[str, str, Change]]:
    """Yield name, file and change for every key and value."""
    for file, keys in KEYS.items():
        for key in keys:
            for name, value in VALUES.items():
                yield (
                    f"{file}: {key} {name}",
                    file,
                    lambda folder, _, f=file, k=key, v=value: change_key(folder / f, k, v),
                )


def replaced(make: Callable[[Path, bytes, Path], None]) -> Callable[[str], Change]:
    """Return a change that makes a file anew, given its content and the canary."""

    def of(file: str) -> Change:
        def change(folder: Path, canary: Path) -> None:
            path = folder / file
            data = path.read_bytes()
            path.unlink()
            make(path, data, canary)

        return change

    return of


def sparse(path: Path, data: bytes, canary: Path) -> None:
    path.write_bytes(data)
    os.truncate(path, 20 * 2**30)


def outside(path: Path, data: bytes, canary: Path) -> None:
    """A link to a whole and fitting file, which lies elsewhere."""
    canary.write_bytes(data)
    path.symlink_to(canary)


def of_torch(path: Path, data: bytes, canary: Path) -> None:
    torch.save({"a": torch.zeros(3)}, path)


FILES = {
    "missing": replaced(lambda path, data, canary: None),
    "empty": replaced(lambda path, data, canary: path.write_bytes(b"")),
    "folder": replaced(lambda path, data, canary: path.mkdir()),
    "pipe": replaced(lambda path, data, canary: os.mkfifo(path)),
    "device": replaced(lambda path, data, canary: path.symlink_to("/dev/zero")),
    "outside": replaced(outside),
    "circle": replaced(lambda path, data, canary: path.symlink_to(path)),
    "half": replaced(lambda path, data, canary: path.write_bytes(data[: len(data) // 2])),
    "header": replaced(lambda path, data, canary: path.write_bytes(struct.pack("<Q", 2**62) + data[8:])),
    "noise": replaced(lambda path, data, canary: path.write_bytes(bytes(range(256)) * 40)),
    "other": replaced(lambda path, data, canary: path.write_bytes(b'{"a": 1}')),
    "list": replaced(lambda path, data, canary: path.write_bytes(b"[1, 2]")),
    "nested": replaced(lambda path, data, canary: path.write_bytes(b"[" * 200_000)),
    "digits": replaced(lambda path, data, canary: path.write_bytes(b'{"format": ' + b"9" * 10_000 + b"}")),
    "sparse": replaced(sparse),
    "torch": replaced(of_torch),
}


def of_files() -> Iterator[tuple[str, str, Change]]:
    """Yield name, file and change for every file and what may lie in its place."""
    for part in ("localizer", "head", "classifier", "encoder"):
        for file in (f"{part}.json",) if part == "localizer" else (f"{part}.json", f"{part}.safetensors"):
            for name, change in FILES.items():
                yield f"{file} {name}", file, change(file)


def reweighed(change: Callable[[torch.Tensor], torch.Tensor], every: bool) -> Callable[[str], Change]:
    """Return a change of the first tensor of a weights file, or of all."""

    def of(file: str) -> Change:
        def apply(folder: Path, canary: Path) -> None:
            state = {key: value.clone() for key, value in load_file(folder / file).items()}
            for key in list(state) if every else sorted(state)[:1]:
                state[key] = change(state[key])
            (folder / file).unlink()
            save_file(state, folder / file)

        return apply

    return of


WEIGHTS = {
    "transposed": reweighed(lambda tensor: tensor.flatten()[: max(1, tensor.numel() // 2)].clone(), every=True),
    "one shape": reweighed(lambda tensor: torch.zeros(2, 3, 5), every=False),
    "whole numbers": reweighed(lambda tensor: tensor.to(torch.int32), every=True),
    "truth values": reweighed(lambda tensor: tensor.to(torch.bool), every=False),
    "empty": reweighed(lambda tensor: tensor.flatten()[:0].clone(), every=True),
}


def of_weights() -> Iterator[tuple[str, str, Change]]:
    """Yield name, file and change for every weights file and what its tensors may be instead."""
    for part in ("head", "classifier", "encoder"):
        for name, change in WEIGHTS.items():
            yield f"{part}.safetensors {name}", f"{part}.safetensors", change(f"{part}.safetensors")
