"""Files that are either whole or not there: atomic writes, JSON that says where it is wrong, content hashes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import stat
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lofi_tal.errors import DataError, DiskFullError, RunError
from lofi_tal.processes import is_tag_of_ended, tag

_COMPANIONS = frozenset((
    *("__macosx", "thumbs.db", "desktop.ini", "@eadir", "#recycle", "$recycle.bin", "lost+found"),
    "system volume information",
))  # fmt: skip
_PART = ".part"
_DAY = 86400.0
_UNFINISHED = (_PART, ".partial", ".crdownload", ".ytdl", ".tmp", ".!qb", "~", ".lrv", ".lrf", ".thm")
_LINE = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_NOT_PLAIN = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it over ``path`` if the block succeeds.

    The temporary file is flushed to disk before the rename, so a crash leaves the old file or the new one.

    Raises:
        RunError: If the folder cannot be written.
        DiskFullError: If the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=_part_prefix(path), suffix=_PART, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise _not_written(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if is_disk_full(error):
            raise _not_written(path, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _part_prefix(path: Path) -> str:
    return f".{path.name[:30]}.{tag()}."


def sweep(folder: Path) -> int:
    """Delete what processes that were killed have left half written in a folder and those in it; return how many files.

    Files of a process that lives stay. Those of other machines, of which nobody here knows, go after a day.
    """
    swept = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.startswith(".") and name.endswith(_PART):
                with contextlib.suppress(OSError):  # another process sweeps too
                    path = Path(parent) / name
                    ended = is_tag_of_ended(name.removesuffix(_PART).rpartition(".")[0].rpartition(".")[2])
                    if ended or (ended is None and time.time() - path.stat().st_mtime > _DAY):
                        path.unlink()
                        swept += 1
    return swept


def is_disk_full(error: OSError) -> bool:
    """Say whether an error means that the disk is full, or the user's share of it."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _not_written(path: Path, error: OSError) -> RunError:
    if is_disk_full(error):
        return DiskFullError(str(path))
    return RunError(f"Cannot write {path}: {error.strerror or error}.")


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write ``data`` in one atomic step."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 in one atomic step; bytes of a name that are no UTF-8 are written as escapes."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def json_text(value: Any) -> str:
    """Return ``value`` as indented JSON; NaN and infinity are refused.

    What steers a terminal, and bytes of a name that are no UTF-8, are escaped: reading gives them back.
    """
    return escaped(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)) + "\n"


def json_line(value: Any) -> str:
    """Return ``value`` as JSON on one line, without an end; what :func:`json_text` escapes is escaped here too."""
    return escaped(_LINE.encode(value))


def escaped(text: str) -> str:
    """Return JSON in which what steers a terminal, and bytes of a name that are no UTF-8, are escapes."""
    return _NOT_PLAIN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON in one atomic step; NaN and infinity are refused."""
    write_text(path, json_text(value))


def write_json_once(path: Path, value: Any) -> Any:
    """Write ``value`` unless the file is there, and return what is: of several processes, the first one decides."""
    if not path.exists():
        ours = path.with_name(f"{_part_prefix(path)}{_PART}")
        write_json(ours, value)
        with contextlib.suppress(FileExistsError):
            os.link(ours, path)
        ours.unlink()
    return read_json(path)


def append_line(path: Path, line: str, *, sync: bool = False) -> None:
    """Append a line to a text file, which several processes may do; its folder is made.

    A last line that was cut short, by a crash or a full disk, is ended first: it is lost, but not the new one.

    Args:
        path: The file.
        line: Without its end.
        sync: Return when it is on the disk.

    Raises:
        RunError: If the file cannot be written.
        DiskFullError: If the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as handle:
            with contextlib.suppress(OSError):  # a file system without locks, where lines of several may be mixed up
                fcntl.flock(handle, fcntl.LOCK_EX)
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, size - 1))
            whole = handle.read(1) in (b"", b"\n")
            handle.write((f"{line}\n" if whole else f"\n{line}\n").encode())
            if sync:
                handle.flush()
                os.fsync(handle.fileno())
    except OSError as error:
        raise _not_written(path, error) from error


def read_text(path: Path, format_name: str = "text") -> str:
    """Read a text file, with or without a byte order mark.

    Args:
        path: The file.
        format_name: What it should be saved as, for the message.

    Raises:
        DataError: If it cannot be read or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error, format_name) from error


def _not_utf8(path: Path, error: UnicodeDecodeError, format_name: str) -> DataError:
    return DataError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8 {format_name}.")


@contextlib.contextmanager
def utf8_path(path: Path) -> Iterator[str]:
    """Yield a name by which a library can read a file that takes UTF-8 alone; it holds within the block.

    Raises:
        OSError: If the file cannot be read.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as handle:
            yield f"/dev/fd/{handle.fileno()}"
        return
    yield str(path)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: If the file is missing, empty, not UTF-8 or not JSON, or an object has a key twice, of which JSON
            would keep the last in silence; the message gives the place.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    if not data.strip():
        raise DataError(f"{path} is empty: expected a JSON document.")
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error, "JSON") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}.") from error
    except RecursionError as error:
        raise DataError(f"{path} nests its values too deeply to be an annotation or result file.") from error
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{path} is not usable JSON: {error}.") from error


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def plain_file(path: Path, folder: Path) -> os.stat_result:
    """Return the status of a file in a folder that may come from a stranger.

    Opening a named pipe waits for ever, a device has no end, and a link may lead to a file of the reader's own.

    Raises:
        DataError: If it does not exist, leads out of the folder, or is no plain file.
    """
    try:
        real, status = path.resolve(strict=True), path.stat()
        out = not real.is_relative_to(folder.resolve())
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle; a name that no file can have
        raise DataError(f"{path} cannot be read: {error}.") from error
    if out:
        raise DataError(f"{path} is a link that leads out of {folder}, to {real}: put the file itself there.")
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no plain file")
        raise DataError(f"{path} is {kind}: expected a plain file.")
    return status


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise DataError(f"the key {twice!r} stands twice in one object.")
    return unique


def hash_object(value: Any) -> str:
    """Return a short, stable hash of a JSON-like value (key order does not matter)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def hash_file(path: Path) -> str:
    """Return a short hash of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]


def file_stamp(path: Path) -> str:
    """Return a cheap identity of a large file (name, size, modification time): a change of any of them is seen."""
    status = path.stat()
    return hash_object([path.name, status.st_size, status.st_mtime_ns])


def with_home(path: Path | str) -> Path:
    """Return a path with ``~/`` expanded, as a shell does it; ``~name`` is the name of a file."""
    text = str(path)
    return Path(text).expanduser() if text == "~" or text.startswith("~/") else Path(path)


def is_companion(name: str) -> bool:
    """Say whether a file or folder lies beside others without being one of the user's: it is passed over everywhere.

    Hidden names, among them macOS' ``._name.mp4``; thumbnails and indexes of systems, cameras and file servers; and
    what is still being downloaded.
    """
    return name.startswith(".") or name.lower() in _COMPANIONS or name.lower().endswith(_UNFINISHED)


def inside(folder: Path, name: str, suffix: str = "") -> Path:
    """Return ``folder / name + suffix`` for a video id, so that no id can reach outside ``folder``.

    Ids that are plain file names stay readable; any other id (with ``/``, a leading dot, control
    characters or more than 150 bytes) becomes a readable stem plus a hash of the whole id.
    """
    plain = name and not name.startswith(".") and len(name.encode(errors="surrogatepass")) <= 150
    if not (plain and all(letter.isalnum() or letter in "-_.+ @=," for letter in name)):
        stem = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)[:60]
        name = f"{stem}~{hash_object(name)}"
    return folder / f"{name}{suffix}"
