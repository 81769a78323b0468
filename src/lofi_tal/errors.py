"""What can go wrong through no fault of the program: one small family of errors, each with its exit status.

And how messages are written: on one line, with the name that was meant.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

_UNSEEN = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of others, and separators of lines and paragraphs


class LofiError(ValueError):
    """A mistake that the user can mend: the message names the value, what is allowed and what to do."""

    exit_status = 2


class DataError(LofiError):
    """Annotations, videos, features or weights that cannot be used as they are."""

    exit_status = 3


class RunError(LofiError):
    """A run that had to stop: disk full, loss no longer finite, too many videos lost."""

    exit_status = 1


class DiskFullError(RunError):
    """The disk is full.

    Args:
        what: What was not written.
        again: What the same command needs to go on.
    """

    def __init__(self, what: str, again: str = "") -> None:
        super().__init__(what, again)
        self.what, self.again = what, again

    def __str__(self) -> str:
        return (
            f"The disk is full: {self.what} was not written, and what was there before is untouched. "
            f"Free some space and run the same command again{self.again}."
        )


def one_line(text: str) -> str:
    """Return a message as it is shown: a name in it may hold line breaks, or characters that steer a terminal."""
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in _UNSEEN else letter
        for letter in text
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
