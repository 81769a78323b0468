"""Arrays of features in the layouts that others publish: one file, one array. No pickle is read."""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lofi_tal.files import read_text, utf8_path
from lofi_tal.tensor_files import read_tensors

Array = NDArray[Any]

_MOST = 2**27
"""Numbers in an array, 512 MiB as float32: more than 65,000 features of 2,048 channels."""
_LEVELS = 8  # of groups in HDF5
_NAMES = ("feats", "features", "feature", "feat")
"""Names of the array in a file of several."""
_INDEX = ("", "unnamed: 0", "index", "frame", "frame_id", "time", "timestamp", "t", "second", "seconds", "snippet")
"""Headers of a first column that counts rows and is no feature."""


def read_array(path: Path, key: str = "") -> Array:
    """Return the array of a file.

    Args:
        path: ``.npy``, ``.npz``, ``.csv``, ``.pt``, ``.safetensors``, ``.h5`` or ``.hdf5``.
        key: Of the array in an HDF5 file.

    Raises:
        ValueError: If it is not clear which array is meant. Libraries raise more for damaged files.
    """
    return READERS[path.suffix.lower()](path, key)


def check_array(array: Any) -> Array:
    """Return an array, or what describes one, once it is clear that it holds real numbers, and not too many.

    Args:
        array: What has a shape and a dtype: nothing of it needs to be in memory.

    Raises:
        ValueError: If it does not.
    """
    kind, shape = np.dtype(array.dtype).kind, tuple(array.shape)
    if kind not in "biuf":
        raise ValueError(f"its values are {array.dtype}: expected real numbers")
    if math.prod(shape) > _MOST:
        raise ValueError(f"its shape {shape} is that of more than {_MOST:,} numbers")
    return cast(Array, array)


def array_shape(path: Path, key: str = "") -> tuple[int, ...]:
    """Return the shape of the array of a file, without reading all of it where the layout allows."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _mapped(path).shape
    if suffix == ".safetensors":
        with utf8_path(path) as file, safe_open(file, framework="numpy") as handle:
            names = list(handle.keys())
            return tuple(handle.get_slice(_one_name(names)).get_shape())
    if suffix in (".h5", ".hdf5"):
        with h5py.File(path, "r") as handle:
            shape: tuple[int, ...] = _dataset(handle, key).shape
            return shape
    return read_array(path, key).shape


def is_extracted(path: Path) -> bool:
    """Say whether ``lofi extract`` has written a file, whose array is (time steps, channels) then."""
    if path.suffix.lower() != ".safetensors":
        return False
    try:
        with utf8_path(path) as file, safe_open(file, framework="numpy") as handle:
            return "provenance" in (handle.metadata() or {})
    except (OSError, SafetensorError):
        return False  # said when it is read


def _one_name(names: list[str]) -> str:
    """Return the name that must be meant."""
    known = [name for name in _NAMES if name in names]
    if len(names) == 1:
        return names[0]
    if not known:
        raise ValueError(f"expected one array, or one of the name 'feats'; it holds {sorted(names)}")
    return known[0]


def _dataset(handle: h5py.File, key: str) -> Any:
    """Return the one data set that is meant; what leads to another file is refused."""
    item: Any = handle
    for level in range(_LEVELS):
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise ValueError("its values lie in other files: copy them into this one")
            return check_array(item)
        name = key if key and not level else _one_name(list(item))
        if not isinstance(item.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"its entry {name!r} is a link, perhaps into another file: copy the data into this one")
        item = item[name]
    raise ValueError(f"its groups are nested more than {_LEVELS} levels deep")


def _mapped(path: Path) -> Array:
    """Return a view of a .npy file, which asks for no memory, whatever its header says."""
    with np.errstate(over="ignore"):  # of a size that no file has; NumPy refuses it then
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError("it is a zip archive: name it .npz")
    return check_array(array)


def _read_npz(path: Path, _key: str) -> Array:
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > 8 * _MOST:
            raise ValueError("it holds more than it is packed into: unpack it first")
    with np.load(path, allow_pickle=False) as arrays:
        return check_array(arrays[_one_name(list(arrays))])


def _read_hdf5(path: Path, key: str) -> Array:
    with h5py.File(path, "r") as handle:
        array: Array = _dataset(handle, key)[()]
        return array


def _read_tensor(path: Path, _key: str) -> Array:
    content = read_tensors(path)
    if isinstance(content, Mapping):
        content = content[_one_name([str(name) for name in content])]
    if not isinstance(content, Tensor | np.ndarray):
        raise ValueError(f"expected a tensor, found {type(content).__name__}")
    if isinstance(content, Tensor):
        if content.is_complex() or content.numel() > _MOST:
            raise ValueError(
                f"it is {content.dtype} of shape {tuple(content.shape)}: expected real numbers, not so many"
            )
        content = content.float().numpy()
    return check_array(content)


def _read_safetensors(path: Path, _key: str) -> Array:
    with utf8_path(path) as file, safe_open(file, framework="numpy") as handle:
        return check_array(handle.get_tensor(_one_name(list(handle.keys()))))


def _read_csv(path: Path, _key: str) -> Array:
    """Read a table with or without a header; commas, semicolons, tabs or blanks between its columns.

    A first row that holds words, or the numbers of the columns (as pandas writes them), is a header. A first column
    that its header calls an index, and that only counts, is left out.
    """
    lines = [line for line in read_text(path, "CSV").lstrip("\ufeff").splitlines() if line.strip()]
    if not lines:
        raise ValueError("the table is empty")
    between = _between(lines[-1])
    first = [cell.strip().strip("\"'") for cell in lines[0].rstrip().rstrip(between or "").split(between)]
    header = not all(_is_number(cell) for cell in first) or _counts(first)
    body = "\n".join(line.strip().rstrip(between or "") for line in lines[header:])
    if between == ";" and "," in body:  # decimal commas
        body = body.replace(",", ".")
    if not body:
        raise ValueError("the table has a header and no rows")
    table: Array = np.loadtxt(io.StringIO(body), delimiter=between, ndmin=2)
    is_index = header and first[0].casefold() in _INDEX and table.shape[1] > 1 and (np.diff(table[:, 0]) > 0).all()
    return table[:, 1:] if is_index else table


def _between(line: str) -> str | None:
    """Return what separates the columns of a line; None for blanks."""
    return next((mark for mark in (";", "\t", ",") if mark in line), None)


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf(?:inity)?)", cell, re.I))


def _counts(cells: list[str]) -> bool:
    """Say whether a row only numbers its columns: 0, 1, 2, ... or 1, 2, 3, ..."""
    numbers = [cell for cell in cells if cell.isdigit()]
    wanted = [str(number) for number in range(len(cells) + 1)]
    return len(cells) > 2 and numbers == cells and cells in (wanted[:-1], wanted[1:])


READERS: dict[str, Callable[[Path, str], Array]] = {
    ".npy": lambda path, _key: np.array(_mapped(path)),
    ".npz": _read_npz,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".safetensors": _read_safetensors,
    ".pt": _read_tensor,
    ".pth": _read_tensor,
    ".csv": _read_csv,
}
"""By suffix."""
