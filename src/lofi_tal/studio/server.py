"""The server: one process that holds the labels, and what it says when it starts and ends."""

from __future__ import annotations

import secrets
import socket
import webbrowser
from collections.abc import Callable
from pathlib import Path

import uvicorn

from lofi_tal.errors import LofiError
from lofi_tal.locks import locked
from lofi_tal.studio.application import create_app
from lofi_tal.studio.desk import Desk, work_folder

_HEADERS = 32 * 1024  # bytes of the head of a request
_CONNECTIONS = 200
_PATIENCE = 3  # seconds that open connections have at the end

Say = Callable[[str], None]


def serve(
    folder: Path,
    labels: Path,
    *,
    model: Path | None,
    device: str,
    recursive: bool,
    host: str,
    port: int,
    browser: bool,
    say: Say,
    warn: Say,
) -> None:
    """Serve the studio until it is interrupted.

    Args:
        folder: Of the videos.
        labels: The labels file.
        model: Run or model folder that suggests drafts.
        device: Where it runs.
        recursive: Search all folders in ``folder``.
        host: Address to listen at.
        port: Port; 0 takes a free one.
        browser: Open the page.
        say: Tells what goes on.
        warn: Tells what is dangerous.

    Raises:
        LofiError: If the folder or the labels cannot be read, or the port is taken.
    """
    if not folder.is_dir():
        raise LofiError(f"{folder} is no folder: give the folder of the videos.")
    work = work_folder(labels.resolve())
    with locked(work / "lock", f"Another lofi studio has {labels} open."):
        desk = Desk(folder, labels, model=model, device=device, recursive=recursive)
        listening = _listen(host, port)
        port = listening.getsockname()[1]
        token = secrets.token_urlsafe(32)
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{port}/?token={token}"
        if host not in ("127.0.0.1", "::1", "localhost"):
            warn(
                f"{host}: everybody who can reach this machine and knows the address can read the videos and change "
                "the labels; nothing is encrypted. Leave out --host to keep it to this machine."
            )
        app = create_app(desk, token=token, host=host, port=port)
        config = uvicorn.Config(
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
        print_address(address)
        say(f"{len(desk.video_ids())} videos; labels in {labels}. Ctrl-C ends it; everything is saved at once.")
        if browser:
            webbrowser.open(address)
        server = _Server(config, desk)
        server.run(sockets=[listening])
        say("Everything is saved.")


class _Server(uvicorn.Server):
    """A server that ends the streams of events before it waits for open connections."""

    def __init__(self, config: uvicorn.Config, desk: Desk) -> None:
        super().__init__(config)
        self.desk = desk

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End in order."""
        self.desk.bell.close()
        await super().shutdown(sockets)


def print_address(address: str) -> None:
    """Print the address at once: who started the command may be a program."""
    import sys

    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family[0], socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(family[4])
        listening.listen(_CONNECTIONS)  # who opens the address as soon as it is printed is not refused
    except OSError as error:
        raise LofiError(f"{host}:{port} cannot be used: {error.strerror}. --port 0 takes a free port.") from error
    listening.set_inheritable(False)
    return listening
