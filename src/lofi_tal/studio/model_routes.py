"""The model side over HTTP: jobs, drafts, runs, and the order of the videos.

Handlers find a :class:`~lofi_tal.studio.models.ModelSide` as ``app.state.models``. Who may ask is not decided here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lofi_tal.errors import LofiError, one_line
from lofi_tal.studio.answers import Json, read_body, status_of
from lofi_tal.studio.comparisons import MOST_COMPARED, page_of
from lofi_tal.studio.jobs import listed
from lofi_tal.studio.models import ModelSide
from lofi_tal.studio.serving import send_file

_PAGE = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Policy of a page that a command has written: it has an origin of its own, and may ask this server for nothing."""


def _answering(handle: Callable[..., Any], *, takes_body: bool = False) -> Callable[[Request], Awaitable[Response]]:
    """Return a request handler around a function of the model side and the request, and of the body where it has one.

    The function runs in a thread, since all of them read files; what it returns becomes JSON.
    """

    async def answer(request: Request) -> Response:
        try:
            extra = (await read_body(request),) if takes_body else ()
            return Json(await run_in_threadpool(handle, request.app.state.models, request, *extra))
        except LofiError as error:
            return Json({"error": one_line(str(error))}, status_of(error))

    return answer


def _order(models: ModelSide, request: Request) -> dict[str, Any]:
    return models.order(request.query_params.get("by"))


def _drafts(models: ModelSide, request: Request, body: dict[str, Any]) -> dict[str, Any]:
    return models.draft(body)


def _split(models: ModelSide, request: Request, body: dict[str, Any]) -> dict[str, Any]:
    return models.split(body)


def _jobs(models: ModelSide, request: Request) -> list[dict[str, Any]]:
    return listed(models.jobs.all())


def _start(models: ModelSide, request: Request, body: dict[str, Any]) -> dict[str, Any]:
    if body.get("kind") == "detect":
        return models.draft(body)
    if body.get("kind") == "compare":
        return models.start_comparison(body)
    if body.get("kind") != "train":
        raise LofiError(f"kind: {body.get('kind')!r} is unknown; allowed: train, detect, compare.")
    return models.train(body)


def _job(models: ModelSide, request: Request) -> dict[str, Any]:
    return models.jobs.get(request.path_params["id"]).to_json()


def _log(models: ModelSide, request: Request) -> dict[str, Any]:
    start = request.query_params.get("from", "0")
    if not (start.isascii() and start.isdigit() and len(start) < 16):
        raise LofiError(f"from={start!r} is no byte of a log: give the 'next' of the answer before.")
    text, after = models.jobs.log(request.path_params["id"], int(start))
    return {"text": text, "next": after}


def _stop(models: ModelSide, request: Request) -> dict[str, Any]:
    return models.jobs.stop(request.path_params["id"]).to_json()


def _models(models: ModelSide, request: Request) -> list[str]:
    return list(models.models())


def _runs(models: ModelSide, request: Request) -> list[dict[str, Any]]:
    return [run.to_json() for run in models.runs().values()]


def _mistakes(models: ModelSide, request: Request) -> dict[str, Any]:
    return models.mistakes(request.path_params["name"], request.query_params.get("arm"))


def _compare(models: ModelSide, request: Request) -> dict[str, Any]:
    names = [name for name in request.query_params.get("runs", "").split(",") if name]
    if not 1 <= len(names) <= MOST_COMPARED:
        raise LofiError(f"runs: {len(names)} names; give 1 to {MOST_COMPARED}, separated by commas.")
    return models.compare(names)


async def _page(request: Request) -> Response:
    """Answer with the page of a comparison."""
    models: ModelSide = request.app.state.models
    job = await run_in_threadpool(models.jobs.get, request.path_params["id"])
    answer = await send_file(request, page_of(models.desk.work, job), "text/html; charset=utf-8")
    answer.headers["Content-Security-Policy"] = _PAGE
    return answer


ROUTES = [
    Route("/api/order", _answering(_order)),
    Route("/api/drafts", _answering(_drafts, takes_body=True), methods=["POST"]),
    Route("/api/split", _answering(_split, takes_body=True), methods=["POST"]),
    Route("/api/jobs", _answering(_jobs), methods=["GET"]),
    Route("/api/jobs", _answering(_start, takes_body=True), methods=["POST"]),
    Route("/api/jobs/{id}", _answering(_job)),
    Route("/api/jobs/{id}/log", _answering(_log)),
    Route("/api/jobs/{id}/page", _page),
    Route("/api/jobs/{id}/stop", _answering(_stop), methods=["POST"]),
    Route("/api/models", _answering(_models)),
    Route("/api/runs", _answering(_runs)),
    Route("/api/runs/{name:path}/mistakes", _answering(_mistakes)),
    Route("/api/compare", _answering(_compare)),
]
"""To be mounted by the application."""
