"""A file as a browser plays it: any part of it, right to the last byte."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from lofi_tal.studio.refusals import MissingError

_CHUNK = 256 * 1024
_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """Bytes of a file: the first, and the one after the last."""

    first: int
    end: int


def read_range(header: str, size: int) -> Part | None:
    """Return the part that a ``Range`` header asks for; None for the whole file (RFC 9110, section 14).

    A header that asks for several parts, or for something else than bytes, is passed over, which the standard allows.

    Raises:
        ValueError: If the file has no such part.
    """
    match = _RANGE.fullmatch(header)
    if match is None or match[1] == match[2] == "":
        return None
    if not match[1]:
        last = int(match[2])
        if not last or not size:
            raise ValueError
        return Part(max(0, size - last), size)
    first, end = int(match[1]), int(match[2]) + 1 if match[2] else size
    if match[2] and end <= first:
        return None  # no range at all
    if first >= size:
        raise ValueError
    return Part(first, min(end, size))


async def send_file(request: Request, path: Path, kind: str) -> Response:
    """Answer a request for a file, or a part of it.

    Args:
        request: GET or HEAD.
        path: The file, without any link in its last part.
        kind: Content type.

    Raises:
        MissingError: If there is no such plain file.
    """
    handle = await run_in_threadpool(_open, path)
    try:
        status = os.fstat(handle)
        etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"'
        changed = formatdate(status.st_mtime, usegmt=True)
        headers = {"Accept-Ranges": "bytes", "ETag": etag, "Last-Modified": changed, "Cache-Control": "no-cache"}
        wanted = request.headers.get("range", "")
        condition = request.headers.get("if-range", "").strip()
        try:
            part = read_range(wanted, status.st_size) if condition in ("", etag, changed) else None
        except ValueError:
            os.close(handle)
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{status.st_size}"})
        if part is None and request.headers.get("if-none-match") == etag:
            os.close(handle)
            return Response(status_code=304, headers=headers)
    except BaseException:
        os.close(handle)
        raise
    return _answer(request, handle, status.st_size, part, headers, kind)


def _answer(
    request: Request, handle: int, size: int, part: Part | None, headers: dict[str, str], kind: str
) -> Response:
    first, end = (0, size) if part is None else (part.first, part.end)
    headers["Content-Length"] = str(end - first)
    if part is not None:
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
    status = 200 if part is None else 206
    if request.method == "HEAD":
        os.close(handle)
        return Response(status_code=status, headers=headers, media_type=kind)
    return StreamingResponse(iterate_in_threadpool(_Chunks(handle, first, end)), status, headers, kind)


class _Chunks(Iterator[bytes]):
    """Bytes of an open file, which is closed at the end, or when nobody wants them any more."""

    def __init__(self, handle: int, first: int, end: int) -> None:
        self.file = os.fdopen(handle, "rb", closefd=True)
        self.first, self.end = first, end

    def __next__(self) -> bytes:
        if self.first >= self.end:
            self.file.close()
            raise StopIteration
        data = os.pread(self.file.fileno(), min(_CHUNK, self.end - self.first), self.first)
        if not data:  # it was cut short meanwhile
            self.file.close()
            raise OSError("the file was cut short while it was sent")
        self.first += len(data)
        return data


def _open(path: Path) -> int:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise MissingError(f"{path.name} cannot be read: {error.strerror}.") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise MissingError(f"{path.name} is no plain file.")
    return handle
