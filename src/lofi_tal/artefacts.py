"""What was written is what is read: records that hold sizes and hashes of files, and are themselves whole or refused.

A record (``stage.json`` of a stage, ``localizer.json`` of a model) is a JSON object. ``files`` gives ``bytes`` and
``xxh3`` of each file that was written with it, ``check`` a hash of the rest of the record. Records of earlier versions
have neither and are not checked.

The hashes find accidents: a flipped bit, a file that was cut, emptied, deleted or exchanged. They are no protection
against somebody who changes files on purpose, since he can write matching hashes too.
"""

from __future__ import annotations

import functools
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import xxhash

from lofi_tal.errors import DataError
from lofi_tal.files import hash_object, json_text, plain_file, read_json

RECORDS = ("stage.json", "localizer.json")
"""Files that hold the hashes of those beside them."""
MEND = "Copy the folder again, or repeat the `lofi` command of the run that it belongs to: it makes damaged files anew."
_CHECK = "check"
_BLOCK = 1 << 20  # bytes


def check_words(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return ``bytes`` and ``xxh3`` of files by name, relative to ``folder``."""
    words = {}
    for name in names:
        status = (folder / name).stat()
        words[name] = {"bytes": status.st_size, "xxh3": _hash_of(folder / name, status)}
    return words


def damage(folder: Path, files: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with each file that is not as it was when it was written.

    A file is hashed once in a process, unless it changes.

    Args:
        folder: What the names are relative to.
        files: What :func:`check_words` returned.
    """
    wrong = {}
    for name, words in files.items():
        reason = _difference(folder / name, words)
        if reason:
            wrong[os.path.normpath(folder / name)] = reason
    return wrong


def told(wrong: Mapping[str, str]) -> str:
    """Return in words what :func:`damage` found."""
    parts = [f"{path} {reason}" for path, reason in wrong.items()]
    return "; ".join(parts[:3]) + (f"; and {len(parts) - 3} more files" if len(parts) > 3 else "")


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a record with its hash, as it comes back from JSON."""
    plain = json.loads(json_text(content))
    return {**plain, _CHECK: hash_object(plain)}


def read_record(path: Path) -> dict[str, Any]:
    """Return the content of a record without its hash.

    Raises:
        DataError: If the file is missing, no JSON object, or not as it was written.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} is damaged: expected a JSON object, found {type(content).__name__}.")
    word = content.pop(_CHECK, None)
    if word is not None and word != hash_object(content):
        raise DataError(f"{path} is damaged: its content is not what was written.")
    return content


def check_files(folder: Path, *names: str) -> None:
    """Compare files of a folder with the records in it; without a record, or without hashes in it, nothing is checked.

    Raises:
        DataError: If one of the files is not as it was written; the message says what to do.
    """
    for record in RECORDS:
        if not (folder / record).exists():
            continue
        for path in (folder / name for name in (record, *names)):
            if os.path.lexists(path):
                plain_file(path, folder)
        try:
            files = read_record(folder / record).get("files")
        except DataError as error:
            raise DataError(f"{error} {MEND}") from error
        if not isinstance(files, dict):
            continue
        if wrong := damage(folder, {name: files.get(name) for name in names}):
            raise DataError(f"{told(wrong)}. {MEND}")


def _difference(path: Path, words: Any) -> str:
    """Return how a file differs from what was written; an empty string if it does not."""
    if not isinstance(words, dict) or not isinstance(words.get("bytes"), int):
        return "is not listed in the record beside it"
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return "is no file"
        if status.st_size != words["bytes"]:
            return f"is damaged ({status.st_size} bytes, {words['bytes']} were written)"
        return "" if _hash_of(path, status) == words.get("xxh3") else "is damaged (other content than was written)"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _hash_of(path: Path, status: os.stat_result) -> str:
    return _hash(str(path.absolute()), status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)


@functools.lru_cache(maxsize=1 << 14)
def _hash(path: str, *identity: int) -> str:
    """Return the XXH3 (64 bits) of a file, once for each ``identity``."""
    digest, block = xxhash.xxh3_64(), memoryview(bytearray(_BLOCK))
    with Path(path).open("rb", buffering=0) as handle:
        while count := handle.readinto(block):
            digest.update(block[:count])
    return digest.hexdigest()
