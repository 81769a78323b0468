"""Bounds of what a file may say: it is data from anybody, and nothing in it may be endless, huge or a path.

Settings of recipes and descriptions in model folders are checked with the same few types.
"""

from __future__ import annotations

import math
import re
from datetime import date
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import AfterValidator

from lofi_tal.errors import quoted

MOST = 1_000_000
"""The largest size or count, where nothing smaller is said."""
_LARGEST = 2**63
LARGEST = {
    "seed": _LARGEST,
    "tracking": _LARGEST,
    "workers": 1000,
    "count": 10_000,
    "frames": 1000,
    "size": 4096,
    "batch": 100_000,
    "top_k": 100_000,
    "classes": 10_000,
    "hidden": 65_536,
}
"""The largest value of settings that decide how much memory is asked for, by key, where :data:`MOST` is too much."""
_TEXT = 10_000  # characters
_DEPTH = 16
_VALUES = 100_000
_PLAIN_NAME = re.compile(r"[^/\\\x00-\x1f\x7f]+")


def plain_name(name: str) -> str:
    """Return a name that can be that of a file, and reaches into no other folder.

    Raises:
        ValueError: If it cannot.
    """
    if not _PLAIN_NAME.fullmatch(name) or name in (".", "..") or len(name.encode(errors="surrogatepass")) > 200:
        raise ValueError(
            f"{quoted(name)} names a folder, so it must be a plain name: no / or \\, not .., at most 200 bytes"
        )
    return name


def plain_value(value: Any, *, largest: float = _LARGEST) -> Any:
    """Return a value of a file, once it is clear that it is plain and small.

    Args:
        value: Lists and dicts of texts, numbers, true, false and null.
        largest: The largest number.

    Raises:
        ValueError: If it is nested too deeply, holds too much, a number is not finite or too large, or a text too long.
    """
    waiting, seen = [(value, 0)], 0
    while waiting:
        one, depth = waiting.pop()
        seen += 1
        if depth > _DEPTH:
            raise ValueError(f"it is nested more than {_DEPTH} levels deep")
        if seen > _VALUES:
            raise ValueError(f"it holds more than {_VALUES:,} values")
        if isinstance(one, dict):
            waiting += [(part, depth + 1) for pair in one.items() for part in pair]
        elif isinstance(one, list | tuple):
            waiting += [(part, depth + 1) for part in one]
        else:
            _check_single(one, largest)
    return value


def _check_single(value: Any, largest: float) -> None:
    if isinstance(value, str | PurePath):
        value = str(value)
        if len(value) > _TEXT:
            raise ValueError(f"it holds a text of {len(value):,} characters; at most {_TEXT:,} are allowed")
    elif isinstance(value, bytes | date | set):
        raise ValueError(f"it holds a {type(value).__name__}, {quoted(str(value), 40)}: put texts into quotes")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"it holds {value}, which is no finite number")
    elif isinstance(value, int | float) and abs(value) > largest:
        raise ValueError(f"it holds {quoted(value, 40)}; at most {largest:,} is allowed")


PlainName = Annotated[str, AfterValidator(plain_name)]
PlainDict = Annotated[dict[str, Any], AfterValidator(plain_value)]
Options = Annotated[dict[str, Any], AfterValidator(lambda options: plain_value(options, largest=MOST))]
"""Arguments of a component: no number in them is above :data:`MOST`."""
