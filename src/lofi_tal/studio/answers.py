"""What requests hold and what is answered: JSON that is safe for any text, bodies of limited size, one error form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from lofi_tal.annotations.values import shown
from lofi_tal.errors import LofiError, RunError
from lofi_tal.files import json_line
from lofi_tal.studio.desk import Desk
from lofi_tal.studio.refusals import ConflictError, MissingError, TooLargeError

CHANGE_BYTES = 2**20
"""Largest body of a change."""
UPLOAD_BYTES = 16 * 2**20
"""Largest body at all."""


class _VideoId(Convertor[str]):
    """Any text in an address: names of files may hold slashes, and even line breaks."""

    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("video", _VideoId())


class Json(Response):
    """A JSON answer; half characters in names, which UTF-8 does not have, are escaped."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the bytes of a value."""
        return json_line(content).encode()


def desk_of(request: Request) -> Desk:
    """Return what the application works at."""
    desk: Desk = request.app.state.desk
    return desk


async def read_body(request: Request, most: int = CHANGE_BYTES) -> dict[str, Any]:
    """Return the JSON object that a request holds.

    Raises:
        TooLargeError: If it has more than ``most`` bytes.
        LofiError: If it is no JSON object.
    """
    data = await read_bytes(request, most)
    try:
        value = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise LofiError(f"The body is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise LofiError(f"The body is {shown(value)}: expected a JSON object.")
    return value


async def read_bytes(request: Request, most: int) -> bytes:
    """Return the body of a request.

    Raises:
        TooLargeError: If it has more than ``most`` bytes.
    """
    data = bytearray()
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > most:
                raise TooLargeError(f"The body has more than {most} bytes, which is the limit.")
    except ClientDisconnect as error:
        raise LofiError("The connection was closed before the whole body had come.") from error
    return bytes(data)


def text_of(body: Mapping[str, Any], key: str, default: str | None = None, most: int = 200) -> str:
    """Return a text of a body.

    Raises:
        LofiError: If it is none, is empty or too long, or is missing without a default.
    """
    value = body.get(key, default)
    if not isinstance(value, str) or not value.strip() or len(value) > most:
        raise LofiError(f"{key}: expected a text of 1 to {most} characters, found {shown(value)}.")
    return value


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


async def say_error(request: Request, error: Exception) -> Json:
    """Answer an error of this package."""
    extra: dict[str, Any] = {}
    if isinstance(error, ConflictError) and "id" in request.path_params:
        extra = {"entry": desk_of(request).entry(request.path_params["id"])}
    return Json({"error": str(error), **extra}, status_of(error))


def status_of(error: Exception) -> int:
    """Return the status with which an error is answered."""
    kinds = {ConflictError: 409, MissingError: 404, TooLargeError: 413, RunError: 507}
    return next((status for kind, status in kinds.items() if isinstance(error, kind)), 400)


async def say_http_error(request: Request, error: Exception) -> Json:
    """Answer what no route serves."""
    status = getattr(error, "status_code", 400)
    words = {404: f"There is nothing at {shown(request.url.path)}.", 405: f"{request.method} is not allowed here."}
    return Json({"error": words.get(status, str(getattr(error, "detail", error)))}, status)
