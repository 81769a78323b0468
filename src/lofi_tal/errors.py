"""What can go wrong through no fault of the program: one small family of errors, each with its exit status.

And how messages are written: on one line, with the name that was meant.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

_AFFIXES = re.compile(r"^v_|[._-](rgb|flow|i3d|c3d|tsn|tsp|slowfast|feats?|features?)$")
_UNSEEN = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of others, and separators of lines and paragraphs
_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # change the direction of what follows


_MOST_SHOWN = 800


class LofiError(ValueError):
    """A mistake that the user can mend: the message names the value, what is allowed and what to do."""

    exit_status = 2

    def __str__(self) -> str:
        return shortened(super().__str__())


class DataError(LofiError):
    """Annotations, videos, features or weights that cannot be used as they are."""

    exit_status = 3


class RunError(LofiError):
    """A run that had to stop: disk full, loss no longer finite, too many videos lost."""

    exit_status = 1


class DivergedError(RunError):
    """The loss of a training is no longer a finite number."""


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


def shortened(text: str, most: int = _MOST_SHOWN) -> str:
    """Return a message without its middle if it is long: what it quotes may come from anybody."""
    if len(text) <= most:
        return text
    first, last = 2 * most // 3, most // 3
    return f"{text[:first]} [... {len(text) - first - last} characters ...] {text[-last:]}"


def counted(count: int, unit: str) -> str:
    """Return a number with its unit as a message shows it.

    >>> counted(1, "video"), counted(12, "class")
    ('1 video', '12 classes')
    """
    return f"{count} {unit}{'' if count == 1 else 'es' if unit.endswith('s') else 's'}"


def quoted(value: object, most: int = 120) -> str:
    """Return a value as a message shows it: what ``repr`` says of it, shortened."""
    try:
        return shortened(repr(value), most)
    except (ValueError, RecursionError):  # a number of thousands of digits; lists inside lists without end
        return f"a {type(value).__name__} that cannot be shown"


def one_line(text: str) -> str:
    """Return a message as it is shown: a name in it may hold line breaks, or characters that steer a terminal."""
    return "".join(
        letter.encode("unicode_escape").decode()
        if letter in _TURNING or unicodedata.category(letter) in _UNSEEN
        else letter
        for letter in shortened(text)
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def nearest_id(video_id: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the file or video that an id seems to mean, or an empty string.

    Case, Unicode form, a prefix ``v_`` and suffixes such as ``_rgb`` do not count. Names with other numbers in them are
    never suggested: next to a missing ``video_12``, ``video_13`` is another video.
    """
    wanted = _core(video_id)
    numbers = _numbers(wanted)
    cores = {name: _core(name) for name in known}
    alike = [name for name, core in cores.items() if core == wanted]
    if not alike and wanted:
        token = re.compile(rf"(?<![^\W_]){re.escape(wanted)}(?![^\W_])")
        alike = sorted((name for name, core in cores.items() if token.search(core)), key=len)
    if not alike:
        rest = {core: name for name, core in cores.items() if _numbers(core) == numbers}
        alike = [rest[core] for core in difflib.get_close_matches(wanted, rest, n=1, cutoff=0.75)]
    return f" Did you mean {alike[0]!r}?" if alike else ""


def _core(name: str) -> str:
    """Return what of a name tells videos apart."""
    return _AFFIXES.sub("", unicodedata.normalize("NFKC", name).casefold())


def _numbers(core: str) -> list[str]:
    return [digits.lstrip("0") for digits in re.findall(r"\d+", core)]
