"""Which file belongs to which video id."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from lofi_tal.errors import nearest_id
from lofi_tal.files import is_companion, with_home
from lofi_tal.video.container import VideoError, open_video

SUFFIXES = (
    *(".mp4", ".mkv", ".webm", ".mov", ".m4v", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".ts"),
    *(".flv", ".wmv", ".ogv", ".3gp", ".3g2", ".gif", ".vob", ".asf", ".mxf", ".f4v", ".qt", ".divx", ".ogm"),
    *(".m2v", ".m1v", ".mpv", ".mpe", ".m2t", ".mod", ".tod", ".trp", ".dv", ".rm", ".rmvb", ".wtv", ".nut"),
    *(".h264", ".264", ".h265", ".265", ".hevc", ".ivf", ".obu", ".y4m", ".mjpeg", ".mjpg", ".dav", ".insv"),
)
"""Usual suffixes of video files, most welcome first. Of files with any other suffix, or none, the content decides."""

EVERYWHERE = "**"
"""As the last part of a folder, such as ``videos/**``: all folders in it are searched, however deep."""

_RESOLUTION = re.compile(r"_(\d+p|HQ)$")
"""How SoccerNet's files end: ``1_224p.mkv``, ``1_720p.mkv``, ``1_HQ.mkv``."""
_Rank = tuple[bool, int, int, str]
_SUGGESTED = 50  # missing ids that are compared with all names, which takes a while for each


def known_as(video_id: str, known: Container[str]) -> str | None:
    """Return the name under which a video is known: its id, or the id with or without ActivityNet's ``v_``.

    >>> known_as("abc", {"v_abc": 1}), known_as("v_abc", {"abc": 1}), known_as("abc", {})
    ('v_abc', 'abc', None)
    """
    names = (video_id, f"v_{video_id}", video_id.removeprefix("v_"))
    return next((name for name in names if name in known), None)


class VideoIndex(Mapping[str, Path]):
    """Video files by id. The keys are file stems; looking up an id also tries it with and without ``v_``.

    ActivityNet and HACS name their files ``v_<id>``, and some annotation files carry that prefix in their ids. Names
    match in any Unicode form: macOS decomposes them. An id may also be the whole name of a file, or its place in the
    folder, as ``league/season/game/1`` for SoccerNet's ``league/season/game/1_224p.mkv``.

    Args:
        folder: Where the files were looked for, for error messages.
        files: All files of each stem with a usual suffix, the chosen one first.
        others: Files with other suffixes by stem: they count if FFmpeg can open them, which is tried when needed.
        deeper: There are folders that were not searched.
    """

    def __init__(
        self,
        folder: Path,
        files: Mapping[str, tuple[Path, ...]],
        others: Mapping[str, tuple[Path, ...]] | None = None,
        deeper: bool = False,
    ) -> None:
        self.folder, self.files, self.deeper = folder, files, deeper
        self._others = dict(others or {})
        self._opened: dict[str, Path | None] = {}
        self._hints: dict[str, str] = {}
        self._forms: dict[str, str] = {}
        self._names: dict[str, str] = {}
        for stem, paths in [*files.items(), *self._others.items()]:
            self._forms.setdefault(_compatible(stem), stem)
            self._names |= {_composed(path.name): stem for path in reversed(paths)}

    def __getitem__(self, video_id: str) -> Path:
        # "v_" + id first: a bare id that itself begins with "v_" is then still found where both exist
        names = (f"v_{video_id}", video_id, video_id.removeprefix("v_"))
        stems = [stem for name in names for stem in (_composed(name), self._forms.get(_compatible(name), ""))]
        for stem in stems:
            if stem in self.files:
                return self.files[stem][0]
        if "/" in video_id and (place := self._places.get(_composed(video_id))):
            return place
        whole = self._names.get(_composed(video_id), "")
        for path in self.files.get(whole, ()):
            if _composed(path.name) == _composed(video_id):
                return path
        for stem in (*stems, whole):
            if other := self._tried(stem):
                return other
        raise KeyError(video_id)

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def _places(self) -> dict[str, Path]:
        """Files by their place in the folder, as it is and without a resolution at its end; without the suffix."""
        paths = sorted(path for some in self.files.values() for path in some if path.is_relative_to(self.folder))
        named = [(_composed(path.relative_to(self.folder).with_suffix("").as_posix()), path) for path in paths]
        return {_RESOLUTION.sub("", name): path for name, path in reversed(named)} | dict(reversed(named))

    def _tried(self, stem: str) -> Path | None:
        """Return the first file of another suffix that FFmpeg can open; none is opened twice."""
        if stem not in self._opened:
            self._opened[stem] = next(filter(is_video, self._others.get(stem, ())), None)
        return self._opened[stem]

    def find_all(self, video_ids: Iterable[str]) -> tuple[dict[str, Path], dict[str, VideoError]]:
        """Return the files of many videos by id, and the error of each id that has none."""
        paths, missing = {}, {}
        for video_id in video_ids:
            try:
                paths[video_id] = self.find(video_id)
            except VideoError as error:
                missing[video_id] = error
        return paths, missing

    def find(self, video_id: str) -> Path:
        """Return the file of a video.

        Raises:
            VideoError: If there is none; the message names the id and the folder.
        """
        try:
            return self[video_id]
        except KeyError:
            if len(self._hints) < _SUGGESTED and video_id not in self._hints:
                self._hints[video_id] = nearest_id(video_id, self.files)
            hint = self._hints.get(video_id, "")
            deeper = " Deeper folders are searched with --recursive (in a recipe: videos/**)." if self.deeper else ""
            raise VideoError(
                f"No video file for id {video_id!r} in {self.folder}: expected v_{video_id}.mp4 or {video_id}.mp4 "
                f"(or another container) there or in a class folder.{deeper}{hint}"
            ) from None

    @property
    def ambiguous(self) -> dict[str, tuple[Path, ...]]:
        """Stems with several files: the first of them is the one in use."""
        return {stem: paths for stem, paths in self.files.items() if len(paths) > 1}


def find_videos(folder: Path | str) -> VideoIndex:
    """Index the video files of a folder and of the class folders in it; of ``folder/**``, of all folders in it.

    Of several files with one stem, the one in the folder itself is taken, then the one whose suffix comes first
    in :data:`SUFFIXES`, then the first by path. A link that leads nowhere, or to itself, is a file that cannot be read.
    Hidden files and other companions are passed over (:func:`~lofi_tal.files.is_companion`).

    Raises:
        VideoError: If ``folder`` is not a folder that can be read.
    """
    folder, depth = _asked(folder, 1)
    found = _entries(folder, depth)
    usual: list[tuple[_Rank, Path]] = []
    others: list[tuple[_Rank, Path]] = []
    deeper = False
    for level, entry in found:
        path = Path(entry.path)
        suffix = path.suffix.lower()
        if _is(entry.is_dir):
            deeper = deeper or level > depth
        elif _is(entry.is_file) or _leads_nowhere(entry):
            known = suffix in SUFFIXES
            rank = (_leads_nowhere(entry), level, SUFFIXES.index(suffix) if known else 0, str(path))
            (usual if known else others).append((rank, path))
    return VideoIndex(folder, _by_stem(usual), _by_stem(others), deeper)


def list_videos(folder: Path | str) -> list[Path]:
    """Return the video files of a folder, sorted: by suffix, or by content; of ``folder/**``, of all folders in it.

    Raises:
        VideoError: If ``folder`` is not a folder that can be read.
    """
    folder, depth = _asked(folder, 0)
    found = _entries(folder, depth)
    files = [Path(entry.path) for _, entry in found if not _is(entry.is_dir)]
    return sorted(path for path in files if path.suffix.lower() in SUFFIXES or is_video(path))


def is_video(path: Path) -> bool:
    """Say whether FFmpeg can open a file and finds moving pictures in it; nothing is decoded."""
    try:
        with open_video(path):
            return True
    except VideoError:
        return False


def everywhere(folder: Path, recursive: bool = True) -> Path:
    """Return ``folder/**``, which all that look for videos take for every folder in it, if that is asked for."""
    return folder / EVERYWHERE if recursive and folder.name != EVERYWHERE else folder


def _asked(folder: Path | str, depth: int) -> tuple[Path, float]:
    """Return the folder, and how many folders deep it is searched."""
    folder = with_home(folder)
    return (folder.parent, float("inf")) if folder.name == EVERYWHERE else (folder, depth)


def _entries(folder: Path, depth: float) -> list[tuple[int, os.DirEntry[str]]]:
    """Return what :func:`_walk` does; a folder that cannot be read is a :class:`VideoError`."""
    try:
        return _walk(folder, depth)
    except OSError as error:
        raise VideoError(f"The video folder {folder} cannot be read: {error.strerror}.") from error


def _walk(folder: Path, depth: float) -> list[tuple[int, os.DirEntry[str]]]:
    """Return how deep each entry lies, and the entry; folders are opened down to ``depth``, each once."""
    entries, opened = [], set()
    todo = [(0, folder)]
    while todo:
        level, inner = todo.pop()
        place = os.path.realpath(inner)
        if level and place in opened:  # a link back
            continue
        opened.add(place)
        with os.scandir(inner) as listed:
            visible = [entry for entry in listed if not is_companion(entry.name)]
        for entry in sorted(visible, key=lambda entry: entry.name):
            is_folder = _is(entry.is_dir)
            entries.append((level + is_folder, entry))
            if is_folder and level < depth:
                todo.append((level + 1, Path(entry.path)))
    return entries


def _by_stem(ranked: list[tuple[_Rank, Path]]) -> dict[str, tuple[Path, ...]]:
    files: dict[str, tuple[Path, ...]] = {}
    for _, path in sorted(ranked):
        stem = _composed(path.stem)
        files[stem] = (*files.get(stem, ()), path)
    return dict(sorted(files.items()))


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _compatible(name: str) -> str:
    return unicodedata.normalize("NFKC", name)


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not Path(entry.path).exists()


def _is(question: Callable[[], bool]) -> bool:
    """Answer a question about an entry; a link that leads nowhere, or to itself, is neither file nor folder."""
    try:
        return question()
    except OSError:
        return False
