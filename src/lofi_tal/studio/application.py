"""The web application: which address does what, and what it needs to start and to end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lofi_tal.errors import LofiError
from lofi_tal.report.theme import fill_page
from lofi_tal.studio.answers import say_error, say_http_error
from lofi_tal.studio.desk import Desk
from lofi_tal.studio.media_routes import ROUTES as MEDIA_ROUTES
from lofi_tal.studio.model_routes import ROUTES as MODEL_ROUTES
from lofi_tal.studio.models import ModelSide
from lofi_tal.studio.refusals import MissingError
from lofi_tal.studio.security import Guard
from lofi_tal.studio.serving import send_file
from lofi_tal.studio.video_routes import ROUTES as VIDEO_ROUTES

STATIC = Path(__file__).parent / "static"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
}

_SHARED = ("look.css", "shared.js")
"""Of the report pages: their look, and small functions of their timelines."""


async def static_file(request: Request) -> Response:
    """Answer with a file of the page: one of those that the package has."""
    name = request.path_params.get("name") or "index.html"
    if name in _SHARED:
        text = await run_in_threadpool(fill_page, name)
        return Response(text, headers={"Cache-Control": "no-cache"}, media_type=_KINDS[Path(name).suffix])
    path = STATIC / name
    if "/" in name or "\\" in name or name.startswith(".") or path.suffix not in _KINDS or not path.is_file():
        raise MissingError(f"There is no page {name!r}.")
    return await send_file(request, path, _KINDS[path.suffix])


def create_app(desk: Desk, models: ModelSide | None = None, *, token: str, host: str, port: int) -> Guard:
    """Return the application.

    Args:
        desk: Videos and labels.
        models: What models do with them.
        token: What each request must know.
        host: Where the server is bound.
        port: Where the server is bound.
    """
    pages = [Route("/static/{name}", static_file), Route("/", static_file)]

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await run_in_threadpool(desk.start)
        await run_in_threadpool(app.state.models.start)
        try:
            yield
        finally:
            await run_in_threadpool(app.state.models.close)
            await run_in_threadpool(desk.close)

    app = Starlette(
        routes=[*VIDEO_ROUTES, *MEDIA_ROUTES, *MODEL_ROUTES, *pages],
        lifespan=lifespan,
        exception_handlers={LofiError: say_error, HTTPException: say_http_error},
    )
    app.state.desk, app.state.models = desk, models or ModelSide(desk)
    return Guard(app, token=token, host=host, port=port)
