"""Addresses for videos and labels: lists, entries, changes, classes, subsets, events."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from lofi_tal.errors import LofiError
from lofi_tal.studio.answers import UPLOAD_BYTES, Json, desk_of, read_body, text_of
from lofi_tal.studio.classes import change_classes
from lofi_tal.studio.events import MOST_WINDOWS
from lofi_tal.studio.exchange import export_labels, import_labels
from lofi_tal.studio.listing import list_videos, state_of


async def get_state(request: Request) -> Response:
    """Answer with what a page needs to begin."""
    return Json(await run_in_threadpool(state_of, desk_of(request)))


async def get_videos(request: Request) -> Response:
    """Answer with the list of videos."""
    return Json(await run_in_threadpool(list_videos, desk_of(request)))


async def get_entry(request: Request) -> Response:
    """Answer with what is said of a video."""
    return Json(await run_in_threadpool(desk_of(request).entry, request.path_params["id"]))


async def put_entry(request: Request) -> Response:
    """Replace what is said of a video."""
    body = await read_body(request)
    did = text_of(body, "did", "Change")
    call = desk_of(request).change
    return Json(await run_in_threadpool(call, request.path_params["id"], body.get("revision"), body, did))


async def post_undo(request: Request) -> Response:
    """Take back the last change of a video."""
    body = await read_body(request)
    return Json(await run_in_threadpool(desk_of(request).undo, request.path_params["id"], body.get("revision")))


async def post_redo(request: Request) -> Response:
    """Do again what was undone last."""
    body = await read_body(request)
    return Json(await run_in_threadpool(desk_of(request).redo, request.path_params["id"], body.get("revision")))


async def get_events(request: Request) -> Response:
    """Answer with events for as long as the page is open."""
    bell = desk_of(request).bell
    if bell.windows >= MOST_WINDOWS:
        raise LofiError(f"{MOST_WINDOWS} windows are open, which is the limit: close one.")
    return StreamingResponse(bell.listen(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def post_classes(request: Request) -> Response:
    """Change the class list."""
    desk, body = desk_of(request), await read_body(request)
    await run_in_threadpool(change_classes, desk, body)
    return await get_state(request)


async def get_export(request: Request) -> Response:
    """Answer with all labels in a format, as a download."""
    file = await run_in_threadpool(export_labels, desk_of(request), request.path_params["format"])
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.name, safe='', errors='replace')}"}
    return Response(file.data, media_type=file.kind, headers=headers)


async def post_import(request: Request) -> Response:
    """Take labels or drafts from a file."""
    desk, body = desk_of(request), await read_body(request, UPLOAD_BYTES)
    return Json(await run_in_threadpool(import_labels, desk, body))


def _on_video(what: str, handler: Any, methods: list[str]) -> Route:
    return Route(f"/api/videos/{{id:video}}/{what}", handler, methods=methods)


ROUTES = [
    Route("/api/state", get_state),
    Route("/api/videos", get_videos),
    Route("/api/events", get_events),
    Route("/api/classes", post_classes, methods=["POST"]),
    Route("/api/export/{format}", get_export),
    Route("/api/import", post_import, methods=["POST"]),
    _on_video("entry", get_entry, ["GET"]),
    _on_video("entry", put_entry, ["PUT"]),
    _on_video("undo", post_undo, ["POST"]),
    _on_video("redo", post_redo, ["POST"]),
]
