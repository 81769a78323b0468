"""Waiting for other threads and processes, however slow the machine is."""

import time
from collections.abc import Callable
from typing import Any


def until(
    true: Callable[[], Any], seconds: float = 120.0, told: Callable[[], Any] = lambda: "it did not come true"
) -> Any:
    """Wait until something is true, and return it; after so many seconds, fail with what ``told`` returns."""
    limit = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < limit, told()
        time.sleep(0.02)
    return found
