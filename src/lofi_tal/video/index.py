"""Which file belongs to which video id."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from lofi_tal.errors import nearest
from lofi_tal.video.container import VideoError

SUFFIXES = (
    *(".mp4", ".mkv", ".webm", ".mov", ".m4v", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".ts"),
    *(".flv", ".wmv", ".ogv", ".3gp", ".3g2", ".gif"),
)
"""Suffixes of video files, most welcome first."""


class VideoIndex(Mapping[str, Path]):
    """Video files by id. The keys are file stems; looking up an id also tries it with and without ``v_``.

    ActivityNet and HACS name their files ``v_<id>``, and some annotation files carry that prefix in their ids.

    Args:
        folder: Where the files were looked for, for error messages.
        files: All files of each stem, the chosen one first.
    """

    def __init__(self, folder: Path, files: Mapping[str, tuple[Path, ...]]) -> None:
        self.folder, self.files = folder, files

    def __getitem__(self, video_id: str) -> Path:
        # "v_" + id first: a bare id that itself begins with "v_" is then still found where both exist
        for stem in (f"v_{video_id}", video_id, video_id.removeprefix("v_")):
            if stem in self.files:
                return self.files[stem][0]
        raise KeyError(video_id)

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def find(self, video_id: str) -> Path:
        """Return the file of a video.

        Raises:
            VideoError: If there is none; the message names the id and the folder.
        """
        try:
            return self[video_id]
        except KeyError:
            raise VideoError(
                f"No video file for id {video_id!r} in {self.folder}: expected v_{video_id}.mp4 or {video_id}.mp4 "
                f"(or another container) there or in a class folder.{nearest(video_id, self.files)}"
            ) from None

    @property
    def ambiguous(self) -> dict[str, tuple[Path, ...]]:
        """Stems with several files: the first of them is the one in use."""
        return {stem: paths for stem, paths in self.files.items() if len(paths) > 1}


def find_videos(folder: Path | str) -> VideoIndex:
    """Index the video files of a folder and of the class folders in it.

    Of several files with one stem, the one in the folder itself is taken, then the one whose suffix comes first
    in :data:`SUFFIXES`, then the first by path. A link that leads nowhere, or to itself, is a file that cannot be read.

    Raises:
        VideoError: If ``folder`` is not a folder that can be read.
    """
    folder = Path(folder)
    try:
        entries = sorted(_visible(folder), key=lambda entry: entry.name)
        inner = [_visible(Path(entry.path)) for entry in entries if _is(entry.is_dir)]
    except OSError as error:
        raise VideoError(f"The video folder {folder} cannot be read: {error.strerror}.") from error
    ranked = []
    for entry in chain(entries, *inner):
        path = Path(entry.path)
        if path.suffix.lower() in SUFFIXES and (_is(entry.is_file) or _leads_nowhere(entry)):
            rank = (_leads_nowhere(entry), path.parent != folder, SUFFIXES.index(path.suffix.lower()), str(path))
            ranked.append((rank, path))
    files: dict[str, tuple[Path, ...]] = {}
    for _, path in sorted(ranked):
        files[path.stem] = (*files.get(path.stem, ()), path)
    return VideoIndex(folder, dict(sorted(files.items())))


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not Path(entry.path).exists()


def _is(question: Callable[[], bool]) -> bool:
    """Answer a question about an entry; a link that leads nowhere, or to itself, is neither file nor folder."""
    try:
        return question()
    except OSError:
        return False
