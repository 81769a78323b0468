"""Who may ask: a token, the right host, and no page of another site.

A web page anywhere can make a browser send requests to this server. So each needs the token, in a cookie that no other
site's request carries; the name in ``Host`` is one under which the server was bound, or a site that points its own name
to this machine could read answers (DNS rebinding); and what changes something has a header that other sites may not
send.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from html import escape
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lofi_tal.studio.answers import UPLOAD_BYTES, Json

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_LOOKS_ONLY = ("GET", "HEAD")
_BODIES = ("application/json", "application/octet-stream")
_LOCAL = ("localhost", "127.0.0.1", "[::1]")


class Guard:
    """An ASGI application in front of another one.

    Args:
        app: What it protects.
        token: What a request must know.
        host: Where the server was bound.
        port: Where the server was bound.
    """

    def __init__(self, app: ASGIApp, *, token: str, host: str, port: int) -> None:
        self.app, self.token = app, token
        self.cookie = f"lofi-studio-{port}"
        name = f"[{host}]" if ":" in host else host
        names = () if host in ("0.0.0.0", "::", "") else (name.lower(),)  # noqa: S104 (named, not bound)
        self.anywhere = not names
        hosts = [*_LOCAL, *names]
        self.hosts = {f"{one}:{port}" for one in hosts} | ({*hosts} if port == 80 else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or say why it is not served."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = self._judge(scope, Headers(scope=scope))
        await (answer or self.app)(scope, receive, _with_headers(send))

    def _judge(self, scope: Scope, headers: Headers) -> Response | None:
        """Return what is answered at once; None if the request may be served."""
        if not self._knows_host(headers):
            return Json({"error": f"The name {headers.get('host', '')!r} is not that of this server."}, 403)
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for key, value in query if key == "token"]
        if given and scope["method"] in _LOOKS_ONLY and self._is_token(given[0]):
            return self._welcome(scope, [pair for pair in query if pair[0] != "token"])
        if not (self._has_cookie(headers) or self._has_header(headers)):
            return _refusal(scope, headers)
        if scope["method"] in _LOOKS_ONLY:
            return self._foreign_look(headers)
        return self._judge_change(headers)

    def _knows_host(self, headers: Headers) -> bool:
        named = headers.getlist("host")
        if len(named) != 1:
            return False
        return named[0].lower() in self.hosts or (self.anywhere and _is_address(named[0]))

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(errors="replace"), self.token.encode())

    def _has_cookie(self, headers: Headers) -> bool:
        try:
            jar = SimpleCookie("; ".join(headers.getlist("cookie")))
        except CookieError:
            return False
        return self.cookie in jar and self._is_token(jar[self.cookie].value)

    def _has_header(self, headers: Headers) -> bool:
        kind, _, text = headers.get("authorization", "").partition(" ")
        return kind.lower() == "token" and self._is_token(text.strip())

    def _welcome(self, scope: Scope, query: Iterable[tuple[str, str]]) -> Response:
        rest = urlencode(list(query))
        path = scope["path"].encode(errors="surrogateescape").decode("latin-1") or "/"
        path = "/" + path.lstrip("/\\")  # "//host" would lead away
        answer = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
        answer.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path="/")
        answer.headers["Cache-Control"] = "no-store"
        return answer

    def _foreign_look(self, headers: Headers) -> Response | None:
        """Refuse what a page of another site asks for; a link that somebody follows is none of those."""
        site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode", "navigate")
        if site in ("none", "same-origin") or mode == "navigate":
            return None
        return Json({"error": "This request comes from a page of another site."}, 403)

    def _judge_change(self, headers: Headers) -> Response | None:
        """Return why a request that changes something is not served."""
        origin, host = headers.get("origin"), headers.get("host", "").lower()
        if origin is not None and origin.lower() != f"http://{host}":
            return Json({"error": f"This request comes from another site, {origin!r}."}, 403)
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return Json({"error": "This request comes from a page of another site."}, 403)
        if headers.get("x-lofi-studio") != "1":
            return Json({"error": "A request that changes something needs the header X-Lofi-Studio: 1."}, 403)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in _BODIES:
            return Json({"error": f"Content-Type {kind!r}: expected {' or '.join(_BODIES)}."}, 415)
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length[:20]) > UPLOAD_BYTES:
            return Json({"error": f"The body has {length[:20]!r} bytes; at most {UPLOAD_BYTES} are allowed."}, 413)
        return None


def _is_address(host: str) -> bool:
    """Say whether a name is a plain address, which no site can point elsewhere."""
    name, _, port = host.rpartition(":")
    try:
        address = ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return port.isdigit() and name == (f"[{address}]" if address.version == 6 else str(address))


def _refusal(scope: Scope, headers: Headers) -> Response:
    words = (
        "This needs the token of the address that `lofi studio` has printed: open that address, or send the header "
        "Authorization: token TOKEN."
    )
    if "text/html" not in headers.get("accept", "") or scope["path"].startswith("/api/"):
        return Json({"error": words}, 403)
    page = f"<!doctype html><title>lofi studio</title><h1>lofi studio</h1><p>{escape(words)}</p>"
    return HTMLResponse(page, 403)


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sent
