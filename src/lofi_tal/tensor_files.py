"""Tensors from files that somebody else made, without running any code that they may carry.

A file is safetensors, or what ``torch.save`` writes, read with ``weights_only=True``. NumPy's numbers and arrays, which
many checkpoints keep beside their tensors, are rebuilt here from plain bytes; NumPy's own pickle functions are never
called. All other objects are refused, and the message names the entry that holds them.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lofi_tal.errors import DataError
from lofi_tal.files import utf8_path
from lofi_tal.pickles import find_global, holds_model, read_names

_STARTS = {
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself: run `git lfs pull` in its repository",
    b"\x89HDF": "is HDF5, such as Keras writes, not a file of torch",
    b"\x1f\x8b": "is compressed (gzip): unpack it first",
    b"7z\xbc\xaf": "is a 7z archive: unpack it first",
    b"Rar!": "is a RAR archive: unpack it first",
    b"\xfd7zXZ": "is compressed (xz): unpack it first",
    b"BZh": "is compressed (bzip2): unpack it first",
}
_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<body")
_SAVE = "In the program that wrote it, save the weights alone: torch.save(model.state_dict(), ...), or as safetensors."
_NESTED = ("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights")
"""Entries of checkpoints in which the weights are, the likeliest first."""


def read_state_dict(path: Path, *, first: Sequence[str] = ()) -> dict[str, Tensor]:
    """Read the weights of a checkpoint: names and tensors. What else it holds, such as an epoch, is passed over.

    Args:
        path: The file.
        first: Entries in which the weights are looked for before the usual ones.

    Raises:
        DataError: If the file is missing, damaged, or holds other things than tensors and plain data.
    """
    content = read_tensors(path)
    nested = (*first, *_NESTED)
    for _ in nested:
        key = next((key for key in nested if _is_dict(content) and _is_dict(content.get(key))), None)
        if key is None:
            break
        content = content[key]
    state = {str(key): _as_tensor(value) for key, value in content.items()} if _is_dict(content) else {}
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        found = f"the entries {', '.join(map(repr, [*state][:5]))}" if state else f"a {type(content).__name__}"
        raise DataError(f"{path} holds no state dict: expected names and tensors, found {found}. {_SAVE}")
    return tensors


def read_tensors(path: Path) -> Any:
    """Read a file of tensors and plain containers.

    Args:
        path: safetensors or a file of ``torch.save``; the content decides, not the suffix.

    Raises:
        DataError: If the file is missing, damaged, or holds other things than tensors and plain data.
    """
    if not path.is_file():
        raise DataError(f"Weights file {path} does not exist.")
    with path.open("rb") as handle:
        start = handle.read(512)
    if reason := _no_weights(path, start):
        raise DataError(f"{path} {reason}.")
    if path.suffix == ".safetensors" and not start.startswith(b"PK"):
        return _read_safetensors(path)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return _read_safetensors(path)
    try:
        with path.open("rb") as handle, warnings.catch_warnings(), torch.serialization.safe_globals(_NUMPY):
            warnings.simplefilter("ignore")  # torch's advice about the file is for whoever wrote it
            return _plain(torch.load(handle, map_location="cpu", weights_only=True))
    except DataError as error:
        raise DataError(f"{path} cannot be loaded safely: it holds {error}. {_SAVE}") from error
    except Exception as error:  # the library raises whatever a damaged file makes it
        raise DataError(f"{path} cannot be loaded safely: {_reason(path, error)}") from error


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights of which a number is NaN or infinite: everything that they touch would be.

    Raises:
        DataError: Naming the file, the first such tensor, and how many there are.
    """
    wrong = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if wrong:
        values = tensors[wrong[0]]
        count = int((~values.isfinite()).sum())
        raise DataError(
            f"{path} holds NaN or infinity: {count} of the {values.numel()} numbers of {wrong[0]!r}"
            f"{f', and some in {len(wrong) - 1} more tensors' if len(wrong) > 1 else ''}. The training that wrote it "
            "diverged, or the file is damaged: take an earlier checkpoint, or download it again."
        )


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; unlike the library, whatever bytes its path is made of.

    Raises:
        SafetensorError: If it is none, or damaged.
        OSError: If it cannot be read.
    """
    with utf8_path(path) as name:
        return dict(load_file(name))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_safetensors(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise DataError(f"{path} is not a complete safetensors file: {error}.") from error


def _no_weights(path: Path, start: bytes) -> str:
    """Return what a file is that holds no weights, or an empty string."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "is empty: the download or the copy failed"
    if text.startswith(_PAGES):
        return (
            "is a web page (HTML or XML), not weights: the download gave a page, such as a log-in or a warning, "
            "instead of the file. Download it again, in a browser if need be"
        )
    if text.startswith((b'{"', b"{\n", b"[")):
        return "is JSON text, not weights: it may be an error message or the description of a model"
    for magic, reason in _STARTS.items():
        if start.startswith(magic):
            return reason
    return _no_weights_in_zip(path) if start.startswith(b"PK") else ""


def _no_weights_in_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names, packed = archive.namelist(), sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError):
        return "is cut off or damaged: copy or download it again"
    if packed > 2 * path.stat().st_size + 2**20:
        return f"is packed: it would hold {packed:,} bytes, and torch.save packs nothing. Unpack it first"
    last = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in last and "data.pkl" in last:
        return f"is a TorchScript program, not weights. {_SAVE.removesuffix('.')}"
    if "data.pkl" not in last:
        return (
            f"is a zip archive that torch.save did not write (it holds {', '.join(sorted(names)[:3])}): unpack it first"
        )
    return ""


def _reason(path: Path, error: Exception) -> str:
    """Return why a file was refused, from what the library said of it and what its pickle names."""
    text = " ".join(str(error).split())
    found = re.search(r"\bGLOBAL '?([A-Za-z_][\w.]*\w)", text) or re.search(r"'([a-z_]\w*(?:\.\w+)+)'", text)
    name = found.group(1) if found else ""
    roots = read_names(path) if name else []
    entry = find_global(roots, name) if name else None
    if name and not name.startswith("numpy") and holds_model(roots):
        where = f" in its entry {entry!r}" if entry else ""
        return f"it holds a whole pickled model ({name}){where}, which is code and not only weights. {_SAVE}"
    if entry:
        return f"its entry {entry!r} holds {name}, an object of a program that is not run here. {_SAVE}"
    if name:
        return f"it is or holds {name}, an object of a program that is not run here. {_SAVE}"
    return f"it is damaged, or no file of tensors ({type(error).__name__}). {_SAVE}"


def _is_dict(value: Any) -> bool:
    return isinstance(value, Mapping)


def _as_tensor(value: Any) -> Any:
    """Return an array as a tensor; all else as it is."""
    return torch.from_numpy(value) if isinstance(value, np.ndarray) and value.ndim else value


def _plain(value: Any) -> Any:
    """Return content with NumPy's arrays in the place of what they were rebuilt by."""
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        items = [_plain(one) for one in value]
        return items if isinstance(value, list) else tuple(items)
    return value


class _DType:
    """A numeric type of NumPy, from its code."""

    def __init__(self, code: str, *_: Any) -> None:
        if not re.fullmatch(r"\?|[bhilqBHILQefdgFDG]|[biufc]\d{1,2}", str(code)):
            raise DataError(f"NumPy data of type {code!r}, which are no numbers")
        self.code, self.order = str(code), "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1] if state[1] in ("<", ">", "=") else "="

    def values(self, data: Any) -> NDArray[Any]:
        """Return the numbers that some bytes are."""
        raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
        return np.frombuffer(raw, np.dtype(self.order + self.code)).copy()


def _scalar(dtype: _DType, data: Any) -> Any:
    return dtype.values(data)[0].item()


class _Array:
    """An array of NumPy, from its shape and bytes."""

    def __init__(self, *_: Any) -> None:
        self.array: NDArray[Any] = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        native = dtype.values(data)
        native = native.astype(native.dtype.newbyteorder("="))
        self.array = np.ascontiguousarray(native.reshape(shape, order="F" if fortran else "C"))


_NUMPY: list[Any] = [(_DType, "numpy.dtype"), (_Array, "numpy.ndarray")]
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # before and since NumPy 2
    _NUMPY += [(_scalar, f"{_module}.scalar"), (_Array, f"{_module}._reconstruct")]
