"""Folders that are replaced as a whole: a reader sees the old one or the new one, never files of both.

A new folder is filled beside the old one, as ``.<name>.<random>.part``, and the two are exchanged in one step where
the system can do that (Linux). Elsewhere the old one is renamed to ``.<name>.previous`` first; if the process dies
between the two renames, readers take that one, and the next writer puts it back. A folder that cannot be renamed, such
as a mount point, is replaced file by file, its record first and last: the hashes in the record refuse a mixture.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

from lofi_tal.errors import DataError, DiskFullError, RunError
from lofi_tal.files import hash_object, is_disk_full, write_bytes

Result = TypeVar("Result")
_ABANDONED = 3600.0  # seconds after which an unfinished folder is nobody's
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
_TRIES = 10


@contextlib.contextmanager
def replaced(folder: Path, own: Collection[str], record: str) -> Iterator[Path]:
    """Yield a new folder, and put it in the place of ``folder`` if the block succeeds.

    Args:
        folder: What is replaced; it need not be there, and a link to a folder stays one.
        own: Names of the files that are replaced. All else that is in the old folder is kept.
        record: That of them without which the folder is nothing.

    Raises:
        RunError: If nothing can be written there.
    """
    folder = folder.resolve()
    if folder.exists() and not folder.is_dir():
        raise RunError(f"Cannot write {folder}: it is no folder.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        new = _new_beside(folder)
    except OSError as error:
        if is_disk_full(error):
            raise DiskFullError(str(folder)) from error
        raise RunError(f"Cannot write {folder}: {error.strerror or error}.") from error
    try:
        yield new
        new.chmod(folder.stat().st_mode & 0o7777 if folder.exists() else 0o755)
        _put(new, folder, own, record)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def settled(folder: Path) -> Path:
    """Return where the content of a folder is: the folder itself, or the one before it if a replacement was cut off."""
    if folder.exists() or not (previous := _previous(folder.resolve())).exists():
        return folder
    return previous


def read_whole(folder: Path, record: str, read: Callable[[Path], Result]) -> Result:
    """Return what ``read`` makes of a folder, all of it of one writing: it is repeated if the folder was replaced.

    Args:
        folder: What :func:`replaced` writes.
        record: Name of the file in it that every writing makes anew.
        read: Is given the folder to read from.

    Raises:
        DataError: If ``read`` does, or the folder is replaced again and again.
    """
    missing: Exception | None = None
    for _ in range(_TRIES):
        before = place, there, written = _state(folder, record)
        try:
            result = read(place)
        except (DataError, FileNotFoundError) as error:
            if there and _state(folder, record) == before:
                raise
            missing = None if there else error
        else:
            if _identity(place / record) == written:
                return result
    if missing is not None:  # at every look: it may be between two renames, but not for so long
        raise missing
    raise DataError(f"{folder} is being replaced again and again; read it when that has ended.")


def _new_beside(folder: Path) -> Path:
    prefix, suffix = _prefix(folder), ".part"
    try:
        return Path(tempfile.mkdtemp(suffix, prefix, folder.parent))
    except OSError:
        if not folder.is_dir():
            raise
        return Path(tempfile.mkdtemp(suffix, prefix, folder))


def _put(new: Path, folder: Path, own: Collection[str], record: str) -> None:
    """Give ``folder`` the content of ``new``; what is left in ``new`` is no longer needed."""
    _flush(new)
    if not folder.exists():
        new.rename(folder)
    elif new.parent != folder.parent:
        _one_by_one(new, folder, own, record)
    elif _exchanged(new, folder):
        _keep_others(new, folder, own)
    else:
        previous = _previous(folder)
        try:
            folder.rename(previous)
        except OSError:  # it is a mount point
            _one_by_one(new, folder, own, record)
            return
        new.rename(folder)
        _keep_others(previous, folder, own)
        shutil.rmtree(previous, ignore_errors=True)
    _flush(folder.parent)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; say whether the system could."""
    try:
        exchange = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return bool(exchange(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _one_by_one(new: Path, folder: Path, own: Collection[str], record: str) -> None:
    (folder / record).unlink(missing_ok=True)
    for name in own:
        (folder / name).unlink(missing_ok=True)
    names = sorted((path.name for path in new.iterdir()), key=lambda name: name == record)
    for name in names:
        write_bytes(folder / name, (new / name).read_bytes())


def _keep_others(old: Path, folder: Path, own: Collection[str]) -> None:
    """Move what belongs to somebody else from the old folder to the new one."""
    for path in old.iterdir():
        if path.name not in own and not (folder / path.name).exists():
            path.rename(folder / path.name)


def _sweep(folder: Path) -> None:
    """Put back what a process that died had put aside, and delete what it had not finished."""
    previous = _previous(folder)
    if previous.exists() and not folder.exists():
        previous.rename(folder)
    shutil.rmtree(previous, ignore_errors=True)
    for path in folder.parent.iterdir():
        if path.name.startswith(_prefix(folder)) and path.name.endswith(".part"):
            with contextlib.suppress(OSError):
                if path.is_dir() and time.time() - path.stat().st_mtime > _ABANDONED:
                    shutil.rmtree(path)


def _previous(folder: Path) -> Path:
    return folder.with_name(f"{_prefix(folder)}previous")


def _prefix(folder: Path) -> str:
    name = folder.name
    return f".{name if len(os.fsencode(name)) <= 200 else hash_object(name)}."


def _state(folder: Path, record: str) -> tuple[Path, tuple[int, ...], tuple[int, ...]]:
    """Return where the content of a folder is, and what changes there when it is replaced."""
    place = settled(folder)
    return place, _identity(place), _identity(place / record)


def _identity(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is written anew; nothing if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _flush(folder: Path) -> None:
    """Flush the names in a folder to disk, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
