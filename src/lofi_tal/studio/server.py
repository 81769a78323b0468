"""The server: one process that holds the labels, and what it says when it starts and ends."""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
import sys
import webbrowser
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn

from lofi_tal.errors import LofiError, counted
from lofi_tal.studio.application import create_app
from lofi_tal.studio.desk import Desk
from lofi_tal.studio.models import ModelSide
from lofi_tal.studio.place import Place
from lofi_tal.studio.security import Guard

_HEADERS = 32 * 1024  # bytes of the head of a request
_CONNECTIONS = 200
_PATIENCE = 3  # seconds that open connections have at the end
_TERMINATED = 128 + signal.SIGTERM
_OWN = ("127.0.0.1", "::1", "localhost")

Say = Callable[[str], None]


def serve(place: Place, *, host: str, port: int, browser: bool, say: Say, warn: Say) -> int:
    """Serve the studio until it is interrupted, or terminated.

    Args:
        place: Where it works.
        host: Address to listen at.
        port: Port; 0 takes a free one.
        browser: Open the page.
        say: Tells what goes on.
        warn: Tells what is dangerous.

    Returns:
        The exit status: 0 after Ctrl-C, 143 after SIGTERM.

    Raises:
        LofiError: If the folder or the labels cannot be read, or the port is taken.
    """
    with place.held() as desk, contextlib.closing(_listen(host, port)) as listening:
        port = listening.getsockname()[1]
        token = secrets.token_urlsafe(32)
        if host not in _OWN:
            warn(
                f"{host}: everybody who can reach this machine and knows the address can read the videos, change the "
                "labels and start trainings; nothing is encrypted. Leave out --host to keep it to this machine."
            )
        models = ModelSide(desk)
        app = create_app(desk, models, token=token, host=host, port=port)
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}/?token={token}"
        count = len(desk.video_ids())
        with _terminated_in_order() as asked:
            with contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises again after it has ended in order
                _print_address(address)
                say(
                    f"{counted(count, 'video')}; labels in {place.labels}. Ctrl-C ends it; everything is saved at once."
                )
                if browser:
                    webbrowser.open(address)
                _Server(_configuration(app), desk).run(sockets=[listening])
            _say_goodbye(desk, models, say, warn)
        return _TERMINATED if asked else 0


@contextlib.contextmanager
def _terminated_in_order() -> Iterator[list[int]]:
    """Let SIGTERM end the server as Ctrl-C does; yield a list that is empty until then."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if len(asked) == 1:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def _say_goodbye(desk: Desk, models: ModelSide, say: Say, warn: Say) -> None:
    if desk.problem:
        warn(f"{desk.problem} The next start goes on from the journal.")
    else:
        say("Everything is saved.")
    for job in models.running():
        say(f"Still running: {job.command}. The next start of lofi studio shows how it goes.")


def _configuration(app: Guard) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        h11_max_incomplete_event_size=_HEADERS,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_PATIENCE,
    )


class _Server(uvicorn.Server):
    """A server that ends the streams of events before it waits for open connections."""

    def __init__(self, config: uvicorn.Config, desk: Desk) -> None:
        super().__init__(config)
        self.desk = desk

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End in order."""
        self.desk.bell.close()
        await super().shutdown(sockets)


def _print_address(address: str) -> None:
    """Print the address at once: who started the command may be a program."""
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens: who opens the address as soon as it is printed is not refused."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_CONNECTIONS)
    except OSError as error:
        raise LofiError(f"{host}:{port} cannot be used: {error.strerror}. --port 0 takes a free port.") from error
    return listening
