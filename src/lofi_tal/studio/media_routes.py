"""Addresses for what the page plays and shows of videos."""

from __future__ import annotations

import math

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lofi_tal.annotations.values import shown
from lofi_tal.errors import LofiError
from lofi_tal.studio.answers import Json, desk_of, read_body
from lofi_tal.studio.pictures import MOST_PICTURES
from lofi_tal.studio.serving import send_file

_KINDS = {".webm": "video/webm", ".ogv": "video/ogg", ".mkv": "video/x-matroska", ".gif": "image/gif"}


async def get_media(request: Request) -> Response:
    """Answer with what the page is to play; a video that browsers cannot play gets a proxy."""
    return Json(await run_in_threadpool(desk_of(request).media.describe, request.path_params["id"]))


async def post_media(request: Request) -> Response:
    """Make a proxy of a video that the browser plays badly, or try again."""
    await read_body(request)
    call = desk_of(request).media.describe
    return Json(await run_in_threadpool(lambda: call(request.path_params["id"], proxy=True)))


async def get_frames(request: Request) -> Response:
    """Answer with the times of all frames."""
    data = await run_in_threadpool(desk_of(request).media.frames, request.path_params["id"])
    return Response(data, media_type="application/octet-stream")


async def get_file(request: Request) -> Response:
    """Answer with a video file as it is."""
    path = await run_in_threadpool(desk_of(request).shelf.open_path, request.path_params["id"])
    return await send_file(request, path, _KINDS.get(path.suffix.lower(), "video/mp4"))


async def get_proxy(request: Request) -> Response:
    """Answer with the proxy of a video."""
    path = await run_in_threadpool(desk_of(request).media.proxy_path, request.path_params["id"])
    return await send_file(request, path, "video/mp4")


async def get_thumbnail(request: Request) -> Response:
    """Answer with a small picture of a video."""
    path = await run_in_threadpool(desk_of(request).media.thumbnail_path, request.path_params["id"])
    return await send_file(request, path, "image/jpeg")


async def get_strip(request: Request) -> Response:
    """Answer with frames side by side."""
    first, last = _seconds(request, "from"), _seconds(request, "to")
    count = request.query_params.get("count", "10")
    if not (count.isascii() and count.isdigit() and 1 <= int(count[:9]) <= MOST_PICTURES):
        raise LofiError(f"count={shown(count)}: expected a whole number from 1 to {MOST_PICTURES}.")
    if not first < last:
        raise LofiError(f"from={first:g}, to={last:g}: expected a time before another one.")
    call = desk_of(request).media.strip
    data = await run_in_threadpool(call, request.path_params["id"], first, last, int(count))
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": "max-age=600"})


def _seconds(request: Request, name: str) -> float:
    text = request.query_params.get(name, "")
    try:
        value = float(text[:40])
    except ValueError:
        value = math.nan
    if not abs(value) <= 1e8:
        raise LofiError(f"{name}={shown(text)}: expected seconds.")
    return value


ROUTES = [
    Route("/api/videos/{id:video}/media", get_media, methods=["GET"]),
    Route("/api/videos/{id:video}/media", post_media, methods=["POST"]),
    Route("/api/videos/{id:video}/frames", get_frames),
    Route("/media/{id:video}", get_file),
    Route("/proxy/{id:video}", get_proxy),
    Route("/thumb/{id:video}", get_thumbnail),
    Route("/strip/{id:video}", get_strip),
]
