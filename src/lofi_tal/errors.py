"""What can go wrong through no fault of the program: one small family of errors, each with its exit status."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LofiError(ValueError):
    """A mistake that the user can mend: the message names the value, what is allowed and what to do."""

    exit_status = 2


class DataError(LofiError):
    """Annotations, videos, features or weights that cannot be used as they are."""

    exit_status = 3


class RunError(LofiError):
    """A run that had to stop: disk full, loss no longer finite, too many videos lost."""

    exit_status = 1


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
