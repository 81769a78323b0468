"""Values as annotation files hold them, checked one by one; every message begins with where it stands."""

from __future__ import annotations

import math
import re
import reprlib
import unicodedata
from typing import Any

from lofi_tal.errors import DataError

LONGEST = 1e8
"""Seconds (three years): a time beyond it is a mistake, such as a date or nanoseconds."""

_CLOCK = re.compile(r"(?:(\d{1,9}):)?(\d{1,9}):(\d{1,2})(?:[.,](\d*))?(?:([:;])(\d{1,3}))?", re.ASCII)
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


def read_time(value: Any, where: str, rate: float | None = None) -> float:
    """Return seconds of a time as tools and spreadsheets write it.

    Args:
        value: ``83.5``, ``83,5``, ``1:23.5``, ``00:01:23.500``, ``00:01:23,500``, or, with a rate, ``00:01:23:12``.
        where: For messages.
        rate: Frames a second; plain numbers then count frames, from 0.

    Raises:
        DataError: If it is no such time, or a plain number is no frame where a rate is given.
    """
    text = value.strip() if isinstance(value, str) else ""
    clock = _CLOCK.fullmatch(text)
    if clock:
        return _clock_seconds(clock, where, rate)
    if text.count(",") == 1 and "." not in text:
        value = text.replace(",", ".")
    if rate is None:
        return read_seconds(value, where)
    frame = read_number(value, where, "a number of a frame")
    if frame != int(frame):
        raise DataError(f"{where}: {shown(value)} is no number of a frame; with --fps, plain numbers count frames.")
    return read_seconds(frame / rate, where)


def _clock_seconds(clock: re.Match[str], where: str, rate: float | None) -> float:
    """Return the seconds of ``[h:]m:s[.ms]`` or ``h:m:s:frames``."""
    hours, minutes, seconds, part, sign, frames = clock.groups()
    if int(seconds) >= 60 or (hours is not None and int(minutes) >= 60):
        raise DataError(f"{where}: {shown(clock[0])} is no time of a clock: minutes and seconds end at 59.")
    total = 3600 * int(hours or 0) + 60 * int(minutes) + int(seconds) + float(f"0.{part or 0}")
    if frames is not None:
        if hours is None or part is not None or sign == ";" or rate is None or int(frames) >= math.ceil(rate):
            raise DataError(
                f"{where}: {shown(clock[0])} looks like hours, minutes, seconds and frames: hh:mm:ss:ff is read, with "
                "--fps, where ff is below it; drop-frame times (;) are not."
            )
        total += int(frames) / rate
    return read_seconds(total, where)


def read_duration(value: Any, where: str) -> float:
    """Return the length of a video in seconds.

    Raises:
        DataError: If it is not a number of seconds above 0.
    """
    duration = read_seconds(value, where)
    if duration <= 0:
        raise DataError(f"{where}: is {duration:g}; expected seconds above 0.")
    return duration


def read_rate(value: Any) -> float | None:
    """Return a frame rate; None where there is none that could be one, as most readers have no use for it."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and math.isfinite(value) and value > 0 else None


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


def plain_label(text: str) -> str:
    """Return a label on one line, its blanks single, in Unicode's composed form: one class, one spelling."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def shown(value: Any) -> str:
    """Return a value for a message, cut to a readable length and depth."""
    return _SHORT.repr(value)
