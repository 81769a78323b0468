"""Features that others published: reading their layouts, and resizing them to L snippets; and ours for others.

One file a video, named ``<id>`` or ``v_<id>``: ``.npy`` (OpenTAD, ActionFormer), ``.npz`` (ActionFormer, key
``feats``), ``.csv`` (BSN, BMN), ``.pt`` (tensors only), ``.safetensors`` (`lofi extract`); or HDF5, one file for all
videos or one a video (G-TAD). No pickle is read.

Shapes: C channels, T features of a video as published, L snippets.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from unicodedata import normalize

import h5py
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import roi_align

from lofi_tal.annotations import Annotations, VideoAnnotation
from lofi_tal.data import VideoFile
from lofi_tal.errors import DataError, LofiError, nearest_id
from lofi_tal.features.axes import Layout, Shape, decide_layout
from lofi_tal.features.grid import FeatureGrid
from lofi_tal.features.reading import READERS, Array, array_shape, is_extracted, read_array
from lofi_tal.files import atomic_path, file_stamp, hash_object, is_companion
from lofi_tal.video import known_as

RESIZES = ("interpolate", "roi_align", "bmn")
"""How T features become L: as G-TAD's loader, OpenTAD and BMN's authors do it."""

_SAMPLE = 500
"""Files of a source whose shapes are looked at."""


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
        The number of files, and the reason for each that could not be read or has other channels than most.

    Raises:
        DataError: If there are no features, or the extraction has not ended.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files or not folder.with_suffix(".json").exists():
        raise DataError(f"{folder} holds no finished extraction; run `lofi extract` or `lofi run` first.")
    channels = _commonest_channels(files)
    failed = []
    for file in files:
        try:
            array = read_array(file).astype(np.float32)
        except Exception as error:  # the library raises whatever a damaged file makes it
            failed.append(f"features {file} cannot be read: {' '.join(str(error).split())}.")
            continue
        if array.shape[-1] != channels:
            failed.append(
                f"features {file} have {array.shape[-1]} channels, most have {channels}: they are of another encoder. "
                "Run `lofi extract` again."
            )
            continue
        with atomic_path(output / f"{file.stem}.npy") as temporary, temporary.open("wb") as handle:
            np.save(handle, array, allow_pickle=False)
    return len(files) - len(failed), failed


def _commonest_channels(files: Sequence[Path]) -> int:
    """Return the number of channels of most files."""
    channels: Counter[int] = Counter()
    for file in files:
        with contextlib.suppress(Exception):  # said of each when it is read
            channels[array_shape(file)[-1]] += 1
    return channels.most_common(1)[0][0] if channels else 0


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
        axes: ``TC`` if the arrays are (time steps, channels), ``CT`` if they are (channels, time steps); None lets
            :meth:`settle` decide.
        grid: Where the features lie in time; None spreads them over the video.

    Raises:
        DataError: If a source does not exist or holds no features.
    """

    def __init__(
        self,
        sources: Sequence[Path],
        count: int,
        *,
        resize: str = "interpolate",
        axes: str | None = "TC",
        grid: FeatureGrid | None = None,
    ) -> None:
        self.sources = [_open_source(Path(path)) for path in sources]
        self.count, self.resize, self.axes, self.grid = count, resize, axes, grid
        self.layouts: list[Layout | None] = [None] * len(self.sources)
        self.turned: list[str] = []
        """Ids whose arrays lie the other way round than the others of their source, and were transposed."""

    @property
    def provenance(self) -> str:
        """A hash of what is done with the files, which have stamps of their own."""
        axes = [self.axes or (layout.axes if layout else "TC") for layout in self.layouts]
        grid = [] if self.grid is None else [vars(self.grid)]
        return hash_object([self.count, self.resize, axes[0] if len(set(axes)) == 1 else axes, *grid])

    def settle(self, durations: Mapping[str, float]) -> None:
        """Look at the shapes of the files: learn each source's channels, and which way its arrays lie.

        Args:
            durations: Seconds of the videos that will be read, by id.

        Raises:
            DataError: If arrays contradict ``axes``, or may lie either way.
        """
        ids = list(durations)[:: -(-len(durations) // _SAMPLE) or 1]
        self.layouts = [
            decide_layout(source.path, _shapes(source, ids), durations, self.axes or source.axes)
            for source in self.sources
        ]

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
            DataError: If a source lacks them, an array is not a matrix of finite numbers, or its channels are not those
                of the others.
        """
        pairs = zip(self.sources, self.layouts, strict=True)
        parts = [self._read(source, layout, video_id, count or self.count) for source, layout in pairs]
        if len({part.shape[1] for part in parts}) > 1:
            counts = ", ".join(
                f"{source.path} {part.shape[1]}" for source, part in zip(self.sources, parts, strict=True)
            )
            raise DataError(
                f"features of {video_id!r} have different numbers ({counts}): with resize: keep, none is resized."
            )
        return torch.cat(parts)

    def _read(self, source: _Source, layout: Layout | None, video_id: str, count: int) -> Tensor:
        pair = source.find(video_id)
        if pair is None:
            raise DataError(f"{source.path} has no features of video {video_id!r}.")
        path, key = pair
        array = _read_matrix(path, key)
        axes = self.axes or (layout.axes if layout else "TC")
        if layout is not None and layout.lies_other_way(array.shape):
            axes = "TC" if axes == "CT" else "CT"
            self.turned.append(video_id)
        if axes == "CT":
            array = array.T
        if layout is not None and array.shape[1] != layout.channels:
            raise DataError(
                f"features {path} have {array.shape[1]} channels, most of {source.path} have {layout.channels}."
            )
        features = torch.from_numpy(np.ascontiguousarray(array.T))
        return features if self.grid is not None and self.grid.keep else resize_features(features, count, self.resize)

    def counted(self, video_id: str) -> int:
        """Return T of a video: the longer side of its array that is no number of channels.

        Raises:
            DataError: If the file cannot be read.
        """
        source = self.sources[0]
        pair = source.find(video_id)
        assert pair is not None, video_id
        shape = _shapes(source, [video_id]).get(video_id)
        if shape is None:
            raise DataError(f"features {pair[0]} cannot be read, or are no matrix.")
        layout = self.layouts[0]
        axes = self.axes or (layout.axes if layout else "TC")
        if layout is not None and layout.lies_other_way(shape):
            axes = "TC" if axes == "CT" else "CT"
        return shape[axes.index("T")]


def _read_matrix(path: Path, key: str) -> Array:
    """Return the array of a file as finite float32; axes of length 1 beside two others are dropped."""
    try:
        array = np.asarray(read_array(path, key), dtype=np.float32)
    except Exception as error:  # the libraries raise whatever a damaged file makes them
        reason = " ".join(str(error).split()).removesuffix(".") or type(error).__name__
        raise DataError(f"features {path} cannot be read: {reason}.") from error
    if array.ndim > 2 and array.squeeze().ndim == 2:
        array = array.squeeze()
    if array.ndim != 2 or not array.size:
        raise DataError(f"features {path} have shape {array.shape}; expected a matrix of features and channels.")
    if not np.isfinite(array).all():
        raise DataError(f"features {path} hold numbers that are not finite.")
    return array


def _shapes(source: _Source, ids: Sequence[str]) -> dict[str, Shape]:
    """Return the shapes of the matrices that can be read."""
    shapes = {}
    for video_id in ids:
        if (pair := source.find(video_id)) is not None:
            with contextlib.suppress(Exception):  # said of each when it is read
                shape = array_shape(*pair)
                shape = tuple(size for size in shape if size != 1) if len(shape) > 2 else shape
                if len(shape) == 2:
                    shapes[video_id] = (int(shape[0]), int(shape[1]))
    return shapes


class _Source:
    """Where each video's features are: a file, and a key in it for HDF5 with many videos."""

    def __init__(self, path: Path, places: Mapping[str, tuple[Path, str]]) -> None:
        self.path = path
        self.places = {normalize("NFC", name): place for name, place in places.items()}

    @property
    def axes(self) -> str | None:
        """Which way the arrays lie, if who wrote them is known."""
        path, _ = next(iter(self.places.values()))
        return "TC" if is_extracted(path) else None

    def find(self, video_id: str) -> tuple[Path, str] | None:
        name = known_as(normalize("NFC", video_id), self.places)
        return None if name is None else self.places[name]


def _open_source(path: Path) -> _Source:
    if path.is_dir():
        listed = (file for file in path.rglob("*") if file.suffix.lower() in READERS and file.is_file())
        files = sorted(file for file in listed if not any(map(is_companion, file.relative_to(path).parts)))
        places = {file.stem: (file, "") for file in reversed(files)}
    elif path.suffix.lower() in (".h5", ".hdf5"):
        try:
            with h5py.File(path, "r") as handle:
                places = {key: (path, key) for key in handle}
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(f"features {path} cannot be read as HDF5: {error}.") from error
    else:
        raise DataError(f"features {path} is neither a folder nor an HDF5 file (.h5, .hdf5), or does not exist.")
    if not places:
        raise DataError(f"features {path} holds no file of a known kind: {', '.join(READERS)}.")
    return _Source(path, places)


def find_features(annotations: Annotations, features: PublishedFeatures) -> tuple[dict[str, VideoFile], dict[str, str]]:
    """Return the feature files of one subset in the place of its videos, and the reason for each other video."""
    if features.grid is not None:
        known = {video.video_id: video.duration for video in annotations if video.duration is not None}
        features.settle({name: seconds for name, seconds in known.items() if not isinstance(features.place(name), str)})
    files: dict[str, VideoFile] = {}
    failed: dict[str, str] = {}
    for video_id, video in annotations.videos.items():
        location = features.place(video_id)
        if isinstance(location, str):
            failed[video_id] = location
        elif video.duration is None:
            failed[video_id] = "has features, but no duration in the annotations to place them in time"
        elif features.grid is None:
            files[video_id] = VideoFile(location[0], location[1], video.duration, 0)
        else:
            try:
                files[video_id] = _on_grid(location, video, features, features.grid)
            except DataError as error:
                failed[video_id] = str(error)
    return files, failed


def _on_grid(
    location: tuple[Path, str], video: VideoAnnotation, features: PublishedFeatures, grid: FeatureGrid
) -> VideoFile:
    """Return the feature file of a video with the clock of its grid."""
    if grid.fps is None and video.fps is None:
        raise DataError("has features at a stride of frames, but no fps in the annotations: set features.fps")
    count = features.counted(video.video_id)
    clock = grid.clock(count, video.fps)
    return VideoFile(*location, clock.duration, 0, clock.start, count if grid.keep else None)
