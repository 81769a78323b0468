"""Features that others published: reading their layouts, and resizing them to L snippets; and ours for others.

One file a video, named ``<id>`` or ``v_<id>``: ``.npy`` (OpenTAD, ActionFormer), ``.npz`` (ActionFormer, key
``feats``), ``.csv`` (BSN, BMN), ``.pt`` (tensors only), ``.safetensors`` (`lofi extract`); or HDF5, one file for all
videos or one a video (G-TAD). No pickle is read.

Shapes: C channels, T features of a video as published, L snippets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unicodedata import normalize

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import Tensor
from torch.nn import functional
from torchvision.ops import roi_align

from lofi_tal.annotations import Annotations
from lofi_tal.data import VideoFile
from lofi_tal.errors import DataError, LofiError, nearest_id
from lofi_tal.files import atomic_path, file_stamp, hash_object, is_companion

RESIZES = ("interpolate", "roi_align", "bmn")
"""How T features become L: as G-TAD's loader, OpenTAD and BMN's authors do it."""

Array = NDArray[Any]


def resize_features(features: Tensor, count: int, how: str = "interpolate") -> Tensor:
    """Bring the features of one video to a fixed number.

    Args:
        features: ``(C, T)`` over the whole video.
        count: L.
        how: ``interpolate``: linear, corners not aligned (gtad@anet, ``gtad_lib/dataset.py``; the features
            themselves if T = L). ``roi_align``: mean of bilinear samples in each of L equal parts (OpenTAD). ``bmn``:
            mean of three equispaced linear samples in each part, its ends included; parts beyond the first and the
            last feature are zero (BSN, ``data_process.py``).

    Returns:
        ``(C, L)``.

    Raises:
        LofiError: If ``how`` is unknown.
    """
    if how not in RESIZES:
        raise LofiError(f"features.resize {how!r} is unknown; allowed: {', '.join(RESIZES)}.")
    length = features.shape[1]
    if how == "interpolate":
        return functional.interpolate(features[None], size=count, mode="linear", align_corners=False)[0]
    if how == "roi_align":
        box = torch.tensor([[0.0, 0.0, 0.0, 1.0, float(length)]], dtype=features.dtype)
        pooled: Tensor = roi_align(features[None, :, :, None], box, (count, 1), aligned=True)
        return pooled[0, :, :, 0]
    return _three_points(features, count)


def export_npy(folder: Path, output: Path) -> tuple[int, list[str]]:
    """Write extracted features as OpenTAD and ActionFormer read them, ``<id>.npy`` of ``(L, C)`` float32.

    A file keeps its name; ids that are no plain file names are hashed there (:func:`lofi_tal.files.inside`).

    Args:
        folder: ``.safetensors`` files of one extraction, a video each.
        output: Folder of the ``.npy`` files.

    Returns:
        The number of files, and the reason for each that could not be read.

    Raises:
        DataError: If there are no features, the extraction has not ended, or the files are of several encoders.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files or not folder.with_suffix(".json").exists():
        raise DataError(f"{folder} holds no finished extraction; run `lofi extract` or `lofi run` first.")
    first: tuple[str, int] | None = None  # name and channels
    failed = []
    for file in files:
        try:
            array = _read_safetensors(file, "").astype(np.float32)
        except Exception as error:  # the library raises whatever a damaged file makes it
            failed.append(f"features {file} cannot be read: {' '.join(str(error).split())}.")
            continue
        first = first or (file.name, array.shape[-1])
        if array.shape[-1] != first[1]:
            raise DataError(
                f"features {file} have {array.shape[-1]} channels, {first[0]} has {first[1]}: they are of different "
                "encoders. Remove the folder and run `lofi extract` again."
            )
        with atomic_path(output / f"{file.stem}.npy") as temporary, temporary.open("wb") as handle:
            np.save(handle, array, allow_pickle=False)
    return len(files) - len(failed), failed


def _three_points(features: Tensor, count: int) -> Tensor:
    length = features.shape[1]
    if length == 1:
        return features.expand(-1, count).clone()
    edges = torch.arange(count + 1, dtype=torch.float64) * length / count - 0.5  # feature i lies at i
    first, last = 1e-4, length - 1 - 1e-4
    low, high = edges[:-1].clamp(min=first), edges[1:].clamp(max=last)
    places = torch.stack([low, (low + high) / 2, high], 1).clamp(first, last)
    whole = places.floor().long().clamp(max=length - 2)
    share = (places - whole).to(features.dtype)
    mean = torch.lerp(features[:, whole], features[:, whole + 1], share).mean(-1)
    return mean * (low <= high).to(features.dtype)


class PublishedFeatures:
    """Features in folders or HDF5 files, resized to L; several sources are concatenated on the channels.

    Args:
        sources: Folders or HDF5 files.
        count: L.
        resize: One of :data:`RESIZES`.
        axes: ``TC`` if the arrays are (features, channels), ``CT`` if they are (channels, features).

    Raises:
        DataError: If a source does not exist or holds no features.
    """

    def __init__(self, sources: Sequence[Path], count: int, *, resize: str = "interpolate", axes: str = "TC") -> None:
        self.sources = [_open_source(Path(path)) for path in sources]
        self.count, self.resize, self.axes = count, resize, axes
        self.provenance = hash_object([count, resize, axes])  # the files have stamps of their own

    def place(self, video_id: str) -> tuple[Path, str] | str:
        """Return the first source's file of a video and a stamp of all its files, or the reason why there is none."""
        pairs = [source.find(video_id) for source in self.sources]
        if not all(pairs):
            lacking = self.sources[pairs.index(None)]
            return f"no features of this id in {lacking.path}{nearest_id(video_id, lacking.places)}"
        files = [path for path, _ in (item for item in pairs if item is not None)]
        return files[0], hash_object([file_stamp(path) for path in files])

    def read(self, video_id: str, count: int | None = None) -> Tensor:
        """Return the features ``(C, L)`` of a video as float32.

        Args:
            video_id: Its id.
            count: L for this video, where it is another.

        Raises:
            DataError: If a source lacks them, or an array is not a matrix of finite numbers.
        """
        return torch.cat([self._read(source, video_id, count or self.count) for source in self.sources])

    def _read(self, source: _Source, video_id: str, count: int) -> Tensor:
        pair = source.find(video_id)
        if pair is None:
            raise DataError(f"{source.path} has no features of video {video_id!r}.")
        path, key = pair
        try:
            array = np.asarray(_READERS[path.suffix.lower()](path, key), dtype=np.float32)
        except Exception as error:  # the libraries raise whatever a damaged file makes them
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"features {path} cannot be read: {reason}.") from error
        if self.axes == "CT" and array.ndim == 2:
            array = array.T
        if array.ndim != 2 or not array.size:
            raise DataError(f"features {path} have shape {array.shape}; expected a matrix, {self.axes}.")
        if not np.isfinite(array).all():
            raise DataError(f"features {path} hold numbers that are not finite.")
        return resize_features(torch.from_numpy(np.ascontiguousarray(array.T)), count, self.resize)


class _Source:
    """Where each video's features are: a file, and a key in it for HDF5 with many videos."""

    def __init__(self, path: Path, places: Mapping[str, tuple[Path, str]]) -> None:
        self.path = path
        self.places = {normalize("NFC", name): place for name, place in places.items()}

    def find(self, video_id: str) -> tuple[Path, str] | None:
        plain = normalize("NFC", video_id)
        names = (plain, f"v_{plain}", plain.removeprefix("v_"))
        return next((self.places[name] for name in names if name in self.places), None)


def _open_source(path: Path) -> _Source:
    if path.is_dir():
        listed = (file for file in path.rglob("*") if file.suffix.lower() in _READERS and file.is_file())
        files = sorted(file for file in listed if not any(map(is_companion, file.relative_to(path).parts)))
        places = {file.stem: (file, "") for file in reversed(files)}
    elif path.suffix.lower() in (".h5", ".hdf5"):
        try:
            with h5py.File(path, "r") as handle:
                places = {key: (path, key) for key in handle}
        except OSError as error:
            raise DataError(f"features {path} cannot be read as HDF5: {error}.") from error
    else:
        raise DataError(f"features {path} is neither a folder nor an HDF5 file (.h5, .hdf5), or does not exist.")
    if not places:
        raise DataError(f"features {path} holds no file of a known kind: {', '.join(_READERS)}.")
    return _Source(path, places)


def _read_npz(path: Path, _key: str) -> Array:
    with np.load(path, allow_pickle=False) as arrays:
        names = list(arrays)
        if "feats" not in names and len(names) != 1:
            raise ValueError(f"expected an array 'feats', or one array; it holds {names}")
        array: Array = arrays["feats" if "feats" in names else names[0]]
        return array


def _read_hdf5(path: Path, key: str) -> Array:
    with h5py.File(path, "r") as handle:
        item = handle[key] if key else handle
        while not isinstance(item, h5py.Dataset):
            names = list(item)
            if len(names) != 1:
                raise ValueError(f"expected one array a video; {item.name} holds {names}")
            item = item[names[0]]
        array: Array = item[()]
        return array


def _read_tensor(path: Path, _key: str) -> Array:
    content = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(content, Mapping) and len(content) == 1:
        content = next(iter(content.values()))
    if not isinstance(content, Tensor):
        raise ValueError(f"expected a tensor, found {type(content).__name__}")
    array: Array = content.float().numpy()
    return array


def _read_safetensors(path: Path, _key: str) -> Array:
    arrays = load_file(path)
    if len(arrays) != 1:
        raise ValueError(f"expected one array, it holds {sorted(arrays)}")
    array: Array = next(iter(arrays.values()))
    return array


_READERS: dict[str, Callable[[Path, str], Array]] = {
    ".npy": lambda path, _key: np.load(path, allow_pickle=False),
    ".npz": _read_npz,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".safetensors": _read_safetensors,
    ".pt": _read_tensor,
    ".csv": lambda path, _key: np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2),
}


def find_features(annotations: Annotations, features: PublishedFeatures) -> tuple[dict[str, VideoFile], dict[str, str]]:
    """Return the feature files of one subset in the place of its videos, and the reason for each other video."""
    files: dict[str, VideoFile] = {}
    failed: dict[str, str] = {}
    for video_id, video in annotations.videos.items():
        location = features.place(video_id)
        if isinstance(location, str):
            failed[video_id] = location
        elif video.duration is None:
            failed[video_id] = "has features, but no duration in the annotations to place them in time"
        else:
            files[video_id] = VideoFile(location[0], location[1], video.duration, 0)
    return files, failed
