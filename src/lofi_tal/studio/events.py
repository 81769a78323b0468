"""What windows are told: each open page has a queue of events, which any thread may fill."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from lofi_tal.files import json_line

MOST_WINDOWS = 64
_LONGEST = 1000  # events that wait for a page; one that does not fetch them reads everything again
_ALIVE = 15.0  # seconds after which a quiet connection is tried
_AGAIN = {"kind": "labels"}


class Bell:
    """Events for all open pages."""

    def __init__(self) -> None:
        self._queues: dict[asyncio.Queue[str | None], asyncio.AbstractEventLoop] = {}
        self.closed = False

    @property
    def windows(self) -> int:
        """How many pages listen."""
        return len(self._queues)

    def tell(self, event: Mapping[str, Any]) -> None:
        """Tell all pages; from any thread."""
        text = json_line(event)
        for queue, loop in list(self._queues.items()):
            with contextlib.suppress(RuntimeError):  # its loop has ended
                loop.call_soon_threadsafe(_put, queue, text)

    def close(self) -> None:
        """End all streams, so that the server can end."""
        self.closed = True
        for queue, loop in list(self._queues.items()):
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_put, queue, None)

    async def listen(self) -> AsyncIterator[str]:
        """Yield events as a page's ``EventSource`` reads them, until it goes away."""
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._queues[queue] = asyncio.get_running_loop()
        try:
            yield "retry: 1000\n\n"
            while not self.closed:
                try:
                    text = await asyncio.wait_for(queue.get(), _ALIVE)
                except TimeoutError:
                    yield ": alive\n\n"
                    continue
                if text is None:
                    return
                yield f"data: {text}\n\n"
        finally:
            self._queues.pop(queue, None)


def _put(queue: asyncio.Queue[str | None], text: str | None) -> None:
    if text is not None and queue.qsize() >= _LONGEST:
        while not queue.empty():
            queue.get_nowait()
        text = json_line(_AGAIN)
    queue.put_nowait(text)
