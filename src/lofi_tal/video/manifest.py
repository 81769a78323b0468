"""What is known of many video files: examined once, in parallel, written down line by line, and never examined again.

A manifest is a text file with one JSON object a line, appended as files are examined, so that an interruption loses
nothing; of several lines about a path the last one counts, and a changed file is examined again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from lofi_tal.errors import LofiError
from lofi_tal.files import append_line, file_stamp, hash_object
from lofi_tal.leases import Leases
from lofi_tal.video import watch
from lofi_tal.video.clock import Clock
from lofi_tal.video.container import VideoError
from lofi_tal.video.decode import decode_frames
from lofi_tal.video.frame_times import probe_video
from lofi_tal.video.limits import MAX_MEMORY
from lofi_tal.video.readers import read_in_processes

_LEASED = 32  # files that a process takes for itself where several share them
_BLOCK = 65536  # bytes
_RECORD = b'{"path"'  # how a line begins, in every layout
_LAYOUT = 2  # of a line; raise it when files are read differently, so that they are examined again
_CHECK = ', "check": "'
_MOST = 1e10  # seconds, frames or pixels of a video
_PLACES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])


@dataclass(frozen=True)
class VideoRecord:
    """What is known of one video file.

    Args:
        path: The file.
        stamp: Its name, size and time of change, hashed; another stamp is another file.
        duration: Seconds from the first frame to the end of the last.
        frames: F.
        width: Pixels as displayed.
        height: Pixels as displayed.
        codec: FFmpeg's name of the codec.
        decodable: First and last second at which a frame could be decoded, and None if nobody has tried.
        damaged: Seconds near which no frame could be decoded.
        content: Hash of the size and of three parts of the file, which tells copies; empty if nobody has looked.
        error: Why the file cannot be used, or an empty string.
        start: Seconds on the player's clock at which the first frame appears; see :class:`Clock`.
        mirrored: Its display matrix mirrors the picture.
        notes: What is odd about its time stamps, a sentence each.
        layout: What read the file: a record of another version is not believed.
    """

    path: str
    stamp: str
    duration: float = 0.0
    frames: int = 0
    width: int = 0
    height: int = 0
    codec: str = ""
    decodable: tuple[float, float] | None = None
    damaged: tuple[float, ...] = field(default=())
    content: str = ""
    error: str = ""
    start: float = 0.0
    mirrored: bool = False
    notes: tuple[str, ...] = field(default=())
    layout: int = _LAYOUT

    @classmethod
    def from_json(cls, value: Any) -> VideoRecord:
        """Return the record of a line.

        Raises:
            ValueError: If it is not one.
            TypeError: If it has other fields, or values of other kinds.
        """
        if not isinstance(value, dict):
            raise ValueError(f"expected an object, found {value!r}")
        pair, damaged = value.get("decodable"), value.get("damaged", ())
        if value.get("layout") != _LAYOUT:
            raise ValueError(f"expected a record of layout {_LAYOUT}, found {value!r}")
        times = tuple(map(_number, damaged)), None if pair is None else (_number(pair[0]), _number(pair[1]))
        record = cls(**{**value, "damaged": times[0], "decodable": times[1], "notes": tuple(value.get("notes", ()))})
        names = (record.path, record.stamp, record.codec, record.content, record.error, *record.notes)
        counts = (record.frames, record.width, record.height)
        if not all(isinstance(name, str) for name in names) or not all(type(count) is int for count in counts):
            raise TypeError(f"expected texts and whole numbers, found {value!r}")
        if not isinstance(record.mirrored, bool) or not math.isfinite(_number(record.start)):
            raise TypeError(f"expected a number and true or false, found {value!r}")
        if max(_number(record.duration), *counts) > _MOST or abs(record.start) > _MOST:
            raise ValueError(f"expected seconds and counts of a video, found {value!r}")
        if not record.error and not (_number(record.duration) > 0 and min(counts) > 0):
            raise ValueError(f"expected a video with frames, found {value!r}")
        return record

    @property
    def clock(self) -> Clock:
        """The player's clock of the video."""
        return Clock(self.start, self.duration)

    @property
    def identity(self) -> str:
        """The stamp, which also changes with how an odd file is read: what is made of its frames depends on it."""
        return hash_object([self.stamp, self.mirrored, self.notes]) if self.mirrored or self.notes else self.stamp

    @property
    def tried(self) -> bool:
        """Whether frames have been decoded, not only the packets read."""
        return self.decodable is not None or bool(self.error)


class VideoManifest:
    """Video files and what is known of them.

    Args:
        path: The file that keeps it; None keeps it in memory alone.
        workers: Processes that examine files; at least one does, so that a file that hangs or crashes can be given up.
        patience: Of :meth:`examine`, where it is not given there.
    """

    def __init__(self, path: Path | None, *, workers: int = 2, patience: float | None = None) -> None:
        self.path, self.workers, self.patience = path, workers, patience
        self.known: dict[str, VideoRecord] = {}
        self._bytes = 0  # of the file, that are known
        self._refresh()

    def examine(
        self,
        paths: Iterable[Path],
        *,
        decode: bool = False,
        seen: Callable[[Path, VideoRecord], None] = lambda path, record: None,
        patience: float | None = None,
    ) -> dict[Path, VideoRecord]:
        """Return what is known of each file, after examining those that are new, have changed, or could not be used.

        Args:
            paths: Files, there or not.
            decode: Also decode frames at five places and hash parts of the file; otherwise only its packets are read.
            seen: Called after each file.
            patience: Share the files with processes, on any machine, that do the same with the same manifest; one that
                shows no sign of life for so many seconds is taken for dead. It ends when all files are examined.

        Raises:
            LofiError: If work is to be shared and nothing keeps the manifest.
            RunError: If the manifest cannot be written.
        """
        patience = self.patience if patience is None else patience
        if patience is not None and self.path is None:
            raise LofiError(
                "Processes share the examination of videos through a manifest that all of them see: give one."
            )
        every = list(dict.fromkeys(paths))
        records = {path: record for path in every if (record := self._usable(path, decode))}
        for path, record in records.items():
            seen(path, record)
        todo = [path for path in every if path not in records]
        results = self._examine(todo, decode) if patience is None else self._shared(every, decode, patience)
        for path, record in results:
            if path not in records:
                records[path] = record
                seen(path, record)
        return {path: records[path] for path in every}

    def _usable(self, path: Path, decode: bool) -> VideoRecord | None:
        """Return the record of a file that is as it was, unless it could not be used, or more is asked for."""
        record = self.known.get(str(path.absolute()))
        if record and not record.error and record.stamp == _stamp(path) and (record.tried or not decode):
            return record
        return None

    def _examine(self, todo: Sequence[Path], decode: bool) -> Iterator[tuple[Path, VideoRecord]]:
        """Examine files, and write down what is new."""
        for path, record in _examined(todo, decode, self.workers):
            if record != self.known.get(record.path):
                self.known[record.path] = record
                if self.path is not None:
                    append_line(self.path, _line(record))
            yield path, record

    def _shared(self, paths: Sequence[Path], decode: bool, patience: float) -> Iterator[tuple[Path, VideoRecord]]:
        """Examine what no other process does, block by block, and yield what all of them found.

        The blocks are those of all files, whatever is known of them, so that they are the same in every process. A file
        that could not be used is tried again by each process that begins, once.
        """
        assert self.path is not None
        blocks = {str(block[0].absolute()): block for block in _blocks(paths, _LEASED)}
        before = dict(self.known)

        def is_open(path: Path) -> bool:
            name = str(path.absolute())
            return self.known.get(name) is before.get(name) and not self._usable(path, decode)

        def is_done(key: str) -> bool:
            self._refresh()
            return not any(map(is_open, blocks[key]))

        with Leases(self.path.with_name(f"{self.path.name}.leases"), patience) as leases:
            for chosen in leases.rounds(blocks, key=str, done=is_done):
                for key in chosen:
                    for path, record in self._examine(list(filter(is_open, blocks[key])), decode):
                        before.pop(record.path, None)
                        yield path, record
                    leases.release(key)
        for path in paths:
            yield path, self.known[str(path.absolute())]

    def _refresh(self) -> None:
        """Read what has been added to the file; its last line is read again if it had no end yet."""
        if self.path is None or not self.path.exists():
            return
        if not self.path.is_file():
            raise LofiError(f"The manifest {self.path} cannot be read: it is no plain file. Name a file, new or old.")
        try:
            with self.path.open("rb") as file:
                file.seek(self._bytes)
                new = file.read()
        except OSError as error:
            raise LofiError(f"The manifest {self.path} cannot be read: {error.strerror}.") from error
        if not self._bytes and new.strip() and not any(line.startswith(_RECORD) for line in new.splitlines()):
            raise LofiError(f"{self.path} is no manifest, and lines would be added to it: name another file.")
        self._bytes += new.rfind(b"\n") + 1
        for record in _records(new):
            self.known[record.path] = record


def _blocks(paths: Sequence[Path], size: int) -> list[Sequence[Path]]:
    return [paths[first : first + size] for first in range(0, len(paths), size)]


def _examined(todo: Sequence[Path], decode: bool, workers: int) -> Iterator[tuple[Path, VideoRecord]]:
    """Yield what there is to say of each file, as it comes; one that ends its processes costs itself alone."""
    processes = max(1, min(workers, len(todo)))
    read, begin = functools.partial(_examine_watched, decode=decode), functools.partial(watch.limit_memory, MAX_MEMORY)
    return read_in_processes(read, todo, processes, in_order=False, begin=begin)


def examine(path: Path, decode: bool) -> VideoRecord:
    """Return what one file holds; why it cannot be used stands in the record."""
    name, stamp = str(path.absolute()), _stamp(path)
    try:
        info = probe_video(path)
        shape = (info.duration, info.frames, info.width, info.height, info.codec)
        record = VideoRecord(name, stamp, *shape, content=_content(path))
        record = replace(record, start=info.start, mirrored=info.mirrored, notes=info.notes)
        if not decode:
            return record
        # the last one lies within the last frame, not at its end
        seconds = _PLACES * (info.duration - 0.5 / info.fps)
        decoded = decode_frames(path, seconds, short_side=32)
        times = decoded.times.tolist()
        return replace(
            record,
            decodable=(min(times), max(times)),
            damaged=tuple(round(float(second), 3) for second in seconds[decoded.replaced]),
        )
    except (VideoError, OSError, LofiError) as error:
        return VideoRecord(name, stamp, error=str(error))


def _examine_watched(path: Path, decode: bool) -> tuple[Path, VideoRecord]:
    if reason := watch.given_up(path):
        return path, VideoRecord(str(path.absolute()), "", error=reason)
    with watch.reading(path):
        return path, examine(path, decode)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"expected a number, found {value!r}")
    return float(value)


def _stamp(path: Path) -> str:
    try:
        return file_stamp(path)
    except OSError:
        return ""


def _content(path: Path) -> str:
    """Return a hash of the size and of the first, middle and last 64 KiB."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as handle:
        for offset in (0, max(0, size // 2 - _BLOCK // 2), max(0, size - _BLOCK)):
            handle.seek(offset, os.SEEK_SET)
            digest.update(handle.read(_BLOCK))
    return digest.hexdigest()[:16]


def _line(record: VideoRecord) -> str:
    """Return the line of a record, with a check word of all before it."""
    text = json.dumps(asdict(record), allow_nan=False)
    return f'{text[:-1]}{_CHECK}{_check_word(text)}"}}'


def _check_word(text: str) -> str:
    return xxhash.xxh3_64_hexdigest(text.encode())


def _record(line: str) -> VideoRecord:
    """Return the record of a line; lines of earlier versions have no check word.

    Raises:
        ValueError: If it is not what was written, or of another layout.
        TypeError: If it has other fields, or values of other kinds.
    """
    text, found, rest = line.rpartition(_CHECK)
    if found and rest != f'{_check_word(text + "}")}"}}':
        raise ValueError("another line was written")
    return VideoRecord.from_json(json.loads(text + "}" if found else line))


def _records(lines: bytes) -> Iterator[VideoRecord]:
    """Yield the records of some lines; one that was cut short, by a crash, is as if it were not there."""
    for line in lines.decode(errors="replace").splitlines():
        try:
            yield _record(line)
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
            continue
