"""Decoded frames kept on disk: from the second epoch on nothing is decoded.

One file for each (video, times, size), arrays one after another in NumPy's own format: the frames of the distinct
times, what is known of each, and a check word. The frames are mapped into memory, not copied.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import xxhash
from numpy.typing import ArrayLike, NDArray

from lofi_tal.errors import LofiError
from lofi_tal.files import atomic_path, file_stamp, hash_object
from lofi_tal.video.decode import DecodedFrames, View, check_decoder, decode_views

_LAYOUT = 4  # raise it when files or decoding change
_STALE = 7 * 86400.0  # seconds without use after which an entry gives way
_LISTING = 50  # times as long as listing the folder took, what was found is believed


class FrameCache:
    """Frames by file, times and size, from the disk where they have been decoded before.

    A full cache takes no more entries instead of dropping the oldest: training reads its videos in rounds, and
    dropping would throw each entry away just before its next use. Only what nobody has read for a week gives way.
    Several processes may share the folder; the limit can be passed by what they write in the same seconds.

    What the caches of other runs hold is taken from there: as a hard link where the file system and the limit allow it,
    which takes no room on the disk and outlives the other cache.

    Args:
        folder: Where the entries lie; None decodes every time.
        limit_bytes: Bytes that the folder may hold.
        others: Folders of other caches, which may vanish at any time; nothing is written there.
        decoder: One of :data:`~lofi_tal.video.decode.DECODERS`.

    Raises:
        LofiError: If the folder cannot be made, the limit is negative, or the decoder unknown.
    """

    def __init__(
        self, folder: Path | None, limit_bytes: int, *, others: Sequence[Path] = (), decoder: str = "pyav"
    ) -> None:
        check_decoder(decoder)
        if limit_bytes < 0:
            raise LofiError(f"limit_bytes={limit_bytes}: expected at least 0.")
        self.folder, self.limit_bytes, self.decoder = folder, limit_bytes, decoder
        self.others = tuple(others)
        self.hits = self.misses = 0
        self._checked: set[tuple[str, int, int]] = set()
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LofiError(f"The frame cache {folder} cannot be made: {error.strerror}.") from error
            self._room = _Room(folder, limit_bytes)

    def frames(
        self,
        path: Path,
        times: ArrayLike,
        *,
        short_side: int | None = None,
        size: tuple[int, int] | None = None,
        threads: int = 1,
        also: Iterable[View] = (),
    ) -> DecodedFrames:
        """Return what :func:`~lofi_tal.video.decode_frames` returns; the frames may be a read-only memory map.

        Args:
            path: Video file.
            times: As there.
            short_side: As there.
            size: As there.
            threads: Decoder threads.
            also: What else will be asked of this video: if it has to be decoded, these are kept in the same pass. They
                are looked at only then.

        Raises:
            VideoError: If the video cannot be decoded.
        """
        kept, rows = self.distinct(path, View(np.asarray(times, dtype=np.float64), short_side, size), threads, also)
        if np.array_equal(rows, np.arange(len(kept.frames))):
            return kept
        return DecodedFrames(kept.frames[rows], kept.times[rows], kept.replaced[rows])

    def distinct(
        self, path: Path, view: View, threads: int = 1, also: Iterable[View] = ()
    ) -> tuple[DecodedFrames, NDArray[np.intp]]:
        """Return the frames of the distinct times of a view, and for each of its times the row of its frame.

        As :meth:`frames`, but nothing is copied.
        """
        distinct, rows = np.unique(view.times, return_inverse=True)
        view = View(distinct, view.short_side, view.size)
        entry = self._entry(path, view)
        kept = None if entry is None else self._look(entry, len(distinct))
        if kept is not None:
            self.hits += 1
        else:
            self.misses += 1
            others = map(_distinct, also) if entry is not None else ()
            kept = self._decode(path, [view, *others], threads)
        return kept, rows

    def fill(self, path: Path, views: Sequence[View], *, threads: int = 1) -> bool:
        """Decode and keep what is not there yet of some views, in one pass over the file.

        Returns:
            Whether all of them are kept now; a full cache or disk takes no more.

        Raises:
            VideoError: If the video cannot be decoded.
        """
        missing = []
        for view in map(_distinct, views):
            entry = self._entry(path, view)
            if entry is None or self._look(entry, len(view.times)) is None:  # no entry: no file, as decoding will say
                missing.append(view)
        if missing:
            self._decode(path, missing, threads)
        return self.holds(path, missing)

    def holds(self, path: Path, views: Iterable[View]) -> bool:
        """Say whether there is an entry for each of some views; a look at names, not into files."""
        return all(map(self._exists, (self._entry(path, _distinct(view)) for view in views)))

    def _exists(self, entry: Path | None) -> bool:
        """Say whether there is a file of an entry, here or in another cache."""
        return entry is not None and (entry.exists() or any((other / entry.name).exists() for other in self.others))

    def _decode(self, path: Path, views: Sequence[View], threads: int) -> DecodedFrames:
        """Decode a view of distinct times, and those of the others that are not there yet; return the first."""
        first, *others = views
        entries = {view: self._entry(path, view) for view in others}
        missing = [view for view, entry in entries.items() if entry is not None and not self._exists(entry)]
        decoded = decode_views(path, [first, *missing], threads=threads, decoder=self.decoder)
        for view, frames in zip([first, *missing], decoded, strict=True):
            entry = self._entry(path, view)
            if entry is not None:
                self._store(entry, frames)
        return decoded[0]

    def _entry(self, path: Path, view: View) -> Path | None:
        """Return the file of a view, or None if there is no cache or no video file."""
        if self.folder is None:
            return None
        try:
            stamp = [str(path.resolve()), file_stamp(path)]
        except OSError:
            return None
        decoder = [self.decoder, _LAYOUT, av.library_versions.get("libavcodec"), av.library_versions.get("libswscale")]
        parts = [stamp, view.times.tolist(), view.short_side, view.size, decoder]
        return self.folder / f"{hash_object(parts)}.npy"

    def _look(self, entry: Path, count: int) -> DecodedFrames | None:
        """Map an entry of this cache or, if it has none, that of another one, which it then shares."""
        kept = self._read(entry, count)
        others = iter(self.others)
        while kept is None and (folder := next(others, None)) is not None:
            kept = self._read(folder / entry.name, count)
            if kept is not None:
                self._share(folder / entry.name, entry)
        return kept

    def _share(self, theirs: Path, entry: Path) -> None:
        """Link to an entry of another cache if there is room; where that is not possible, it is read there."""
        with contextlib.suppress(OSError):
            if self._room.take(theirs.stat().st_size):
                entry.unlink(missing_ok=True)  # damaged: a whole one would have been read
                os.link(theirs, entry)

    def _read(self, entry: Path, count: int) -> DecodedFrames | None:
        """Map an entry, or return None if it is not there or not whole; a read renews its time of last use.

        A file that was cut short is seen at once; the check word is compared once in each process.
        """
        try:
            frames = np.lib.format.open_memmap(entry, mode="r")
            with entry.open("rb") as handle:
                handle.seek(frames.offset + frames.nbytes)
                times, replaced, word = (np.load(handle, allow_pickle=False) for _ in range(3))
                status = os.fstat(handle.fileno())
            kinds = [array.dtype.name for array in (frames, times, replaced)]
            if kinds != ["uint8", "float64", "bool"] or frames.ndim != 4:
                return None
            if not len(frames) == len(times) == len(replaced) == count:
                return None
            identity = (entry.name, status.st_ino, status.st_size)
            if identity not in self._checked:
                if not np.array_equal(word, _check_word(frames, times, replaced)):
                    return None
                self._checked.add(identity)
        except Exception:  # NumPy raises whatever a damaged header makes it
            return None
        with contextlib.suppress(OSError):
            entry.touch()
        return DecodedFrames(frames, times, replaced)

    def _store(self, entry: Path, decoded: DecodedFrames) -> None:
        """Write an entry if there is room; a cache that cannot be written is no reason to stop."""
        with contextlib.suppress(OSError, LofiError):
            arrays = (decoded.frames, decoded.times, decoded.replaced)
            if self._room.take(sum(array.nbytes for array in arrays) + 1024):
                with atomic_path(entry) as temporary, temporary.open("wb") as handle:
                    for array in (*arrays, _check_word(*arrays)):
                        np.save(handle, array, allow_pickle=False)

    def held_bytes(self) -> int:
        """Return the bytes that the folder holds."""
        return 0 if self.folder is None else self._room.held_bytes()


class _Room:
    """What a folder holds of a limit, which is counted anew from time to time."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes
        self.bytes, self.known_until = 0, -math.inf  # as far as is known, and the time up to which it is believed

    def held_bytes(self) -> int:
        """Return the bytes that the folder holds."""
        return sum(size for _, size, _ in self._held())

    def take(self, needed: int) -> bool:
        """Say whether ``needed`` bytes fit, after entries that nobody uses any more have given way.

        Listing a large folder takes long, so it is listed anew only when that takes a small part of the time since.
        """
        began = time.monotonic()
        if began >= self.known_until:
            held = sorted(self._held())
            self.bytes = sum(size for _, size, _ in held)
            for used, size, path in held:
                if self.bytes + needed <= self.limit_bytes or time.time() - used < _STALE:
                    break
                path.unlink(missing_ok=True)
                self.bytes -= size
            self.known_until = time.monotonic() + _LISTING * (time.monotonic() - began)
        fits = self.bytes + needed <= self.limit_bytes
        self.bytes += needed if fits else 0
        return fits

    def _held(self) -> Iterator[tuple[float, int, Path]]:
        """Yield last use, size and path of everything in the folder, unfinished files too."""
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                status = path.stat()
                yield status.st_mtime, status.st_size, path


def entry_bytes(view: View, height: int, width: int) -> int:
    """Return the bytes of an entry for a view of a video of ``height × width`` pixels as displayed."""
    count = len(np.unique(view.times))
    rows, columns = view.scaled(height, width)
    headers = 4 * 128  # of NumPy's format
    return headers + count * (rows * columns * 3 + 8 + 1) + 8


def _distinct(view: View) -> View:
    return View(np.unique(view.times), view.short_side, view.size)


def _check_word(*arrays: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a hash of the arrays' bytes (XXH3, 64 bits: as fast as memory)."""
    digest = xxhash.xxh3_64()
    for array in arrays:
        digest.update(array.data.cast("B"))
    return np.array(digest.intdigest(), dtype=np.uint64)
