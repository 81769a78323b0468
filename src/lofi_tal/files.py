"""Files that are either whole or not there: atomic writes, JSON that says where it is wrong, content hashes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lofi_tal.errors import DataError, DiskFullError, LofiError, RunError

_COMPANIONS = frozenset((
    *("__macosx", "thumbs.db", "desktop.ini", "@eadir", "#recycle", "$recycle.bin", "lost+found"),
    "system volume information",
))  # fmt: skip
_NOT_PLAIN = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNFINISHED = (".part", ".partial", ".crdownload", ".ytdl", ".tmp", ".!qb", "~", ".lrv", ".lrf", ".thm")


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
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix=".part", dir=path.parent)
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
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    return _NOT_PLAIN.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON in one atomic step; NaN and infinity are refused."""
    write_text(path, json_text(value))


def write_json_once(path: Path, value: Any) -> Any:
    """Write ``value`` unless the file is there, and return what is: of several processes, the first one decides."""
    if not path.exists():
        ours = path.with_name(f".{path.name}.{os.getpid()}")
        write_json(ours, value)
        with contextlib.suppress(FileExistsError):
            os.link(ours, path)
        ours.unlink()
    return read_json(path)


def append_line(path: Path, line: str) -> None:
    """Append a line to a text file, which several processes may do; its folder is made.

    A last line that was cut short, by a crash or a full disk, is ended first: it is lost, but not the new one.

    Raises:
        RunError: If the file cannot be written.
        DiskFullError: If the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, size - 1))
            whole = handle.read(1) in (b"", b"\n")
            handle.write((f"{line}\n" if whole else f"\n{line}\n").encode())
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


@contextlib.contextmanager
def locked(path: Path, refusal: str, *, wait: bool = False, shared: bool = False) -> Iterator[None]:
    """Hold a lock file, so that a second process stays out or waits; its folder is made.

    Args:
        path: The lock file, which stays.
        refusal: What to say if another process holds it.
        wait: Wait for it instead.
        shared: Hold it together with others that do so, and keep out those that do not.

    Raises:
        LofiError: If another process holds it and is not waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise LofiError(refusal) from error
        except OSError as error:
            raise LofiError(
                f"{path} cannot be locked: {error.strerror}. Choose a folder on another file system."
            ) from error
        yield


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
