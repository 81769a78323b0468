"""Values as annotation files hold them, checked one by one; every message begins with where it stands."""

from __future__ import annotations

import math
import reprlib
from typing import Any

from lofi_tal.errors import DataError

LONGEST = 1e8
"""Seconds (three years): a time beyond it is a mistake, such as a date or nanoseconds."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def read_seconds(value: Any, where: str) -> float:
    """Return a time, which may be written as a string.

    Raises:
        DataError: If it is not a finite number of at most :data:`LONGEST` seconds.
    """
    number = read_number(value, where, "a number of seconds")
    if abs(number) > LONGEST:
        raise DataError(f"{where}: {number:g} s is no time in a video; the limit is {LONGEST:g} s.")
    return number


def read_duration(value: Any, where: str) -> float:
    """Return the length of a video in seconds.

    Raises:
        DataError: If it is not a number of seconds above 0.
    """
    duration = read_seconds(value, where)
    if duration <= 0:
        raise DataError(f"{where}: is {duration:g}; expected seconds above 0.")
    return duration


def read_number(value: Any, where: str, what: str = "a number") -> float:
    """Return a finite number that may be written as a string; ``what`` says in messages what it stands for."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        if isinstance(value, str) and "_" in value:  # Python's own notation, nobody else's
            raise ValueError
        number = float(value)
    except (ValueError, OverflowError):
        raise DataError(f"{where}: expected {what}, found {shown(value)}.") from None
    if not math.isfinite(number):
        raise DataError(f"{where}: {number} is not a finite number{what.removeprefix('a number')}.")
    return number


def read_text(value: Any, where: str) -> str:
    """Return a name.

    Raises:
        DataError: If it is no text, empty, or cannot be written as UTF-8.
    """
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: expected a name, found {shown(value)}.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: {value!r} holds half a character (a lone surrogate).") from None
    return value


def shown(value: Any) -> str:
    """Return a value for a message, cut to a readable length and depth."""
    return _SHORT.repr(value)
