"""A contact sheet of a training batch: its pixels in the order of time, with the labels drawn in.

Shapes: N pictures of S × S pixels, uint8 RGB.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from lofi_tal.progress import clock_text
from lofi_tal.report.theme import series_colour, write_page

Pictures = NDArray[np.uint8]
MOST_ITEMS = 16
"""Clips that a sheet shows; of videos, which have more pictures each, a quarter."""
MOST_PICTURES = 24
"""Pictures of an item; of more, as many are shown, evenly in time."""
IN_A_ROW = 12
LARGEST = 112  # pixels of a picture on the sheet; larger ones are averaged


@dataclass(frozen=True)
class SheetAction:
    """A labelled stretch of an item: shares of what its pictures show, the label, and its class id."""

    start: float
    end: float
    label: str
    index: int


@dataclass(frozen=True, eq=False)
class SheetItem:
    """A clip or a video.

    Args:
        title: Its name.
        pictures: ``(N, S, S, 3)``, evenly in time.
        label: Class of the whole.
        actions: What is labelled in it; None where only the whole has a label.
        start: Seconds at which the pictures begin.
        seconds: That they show; 0 if unknown.
    """

    title: str
    pictures: Pictures
    label: str = ""
    actions: list[SheetAction] | None = field(default=None)
    start: float = 0.0
    seconds: float = 0.0


def write_contact_sheet(path: Path, items: Sequence[SheetItem], *, title: str, detail: str) -> None:
    """Write the sheet of a batch as one page.

    Args:
        path: The page.
        items: The batch; the first :data:`MOST_ITEMS` clips or a quarter as many videos are shown.
        title: Heading.
        detail: One line below it.
    """
    compact = all(item.actions is None for item in items)
    shown = items[: MOST_ITEMS if compact else MOST_ITEMS // 4]
    footer = f"{len(shown)} of {len(items)} items of the batch." if len(shown) < len(items) else ""
    rows = [{"title": item.title, "label": item.label, "rows": _rows(item)} for item in shown]
    write_page(path, "contact_sheet.html", title=title, detail=detail, items=rows, compact=compact, footer=footer)


def _rows(item: SheetItem) -> list[dict[str, Any]]:
    """Return the rows of pictures of an item, each with the actions above it."""
    count = min(len(item.pictures), MOST_PICTURES)
    chosen = item.pictures[((np.arange(count) + 0.5) * len(item.pictures) / count).astype(int)]
    lanes = _lanes(item.actions or [])
    rows = []
    for first in range(0, count, IN_A_ROW):
        part = chosen[first : first + IN_A_ROW]
        low, high = first / count, (first + len(part)) / count
        bars = [
            _bar(action, lane, low, high)
            for action, lane in zip(item.actions or [], lanes, strict=True)
            if action.start < high and action.end > low
        ]
        rows.append(
            {
                "width": 100 * len(part) / min(count, IN_A_ROW),
                "count": len(part),
                "lanes": 0 if item.actions is None else max(lanes, default=0) + 1,
                "bars": bars,
                "png": base64.b64encode(png(np.concatenate(list(map(_shrunk, part)), axis=1))).decode("ascii"),
                "alt": f"pictures {first + 1} to {first + len(part)} of {item.title}",
                "times": [clock_text(item.start + share * item.seconds, 1) for share in (low, high)]
                if item.seconds
                else [],
            }
        )
    return rows


def _bar(action: SheetAction, lane: int, low: float, high: float) -> dict[str, Any]:
    """Return an action in a row that shows the shares from ``low`` to ``high``; per cent of the row."""
    start, end = max(action.start, low), min(action.end, high)
    return {
        "left": round(100 * (start - low) / (high - low), 3),
        "width": round(100 * (end - start) / (high - low), 3),
        "lane": lane,
        "label": action.label,
        "title": action.label,
        "colour": series_colour(action.index),
    }


def _lanes(actions: Sequence[SheetAction]) -> list[int]:
    """Return the line of each action, so that none covers another."""
    ends: list[float] = []
    lanes = [0] * len(actions)
    for number in sorted(range(len(actions)), key=lambda i: actions[i].start):
        action = actions[number]
        free = next((lane for lane, end in enumerate(ends) if end <= action.start), len(ends))
        ends[free : free + 1] = [action.end]
        lanes[number] = free
    return lanes


def _shrunk(picture: Pictures) -> Pictures:
    """Return a picture of at most :data:`LARGEST` pixels, by the mean of squares of pixels."""
    factor = -(-picture.shape[0] // LARGEST)
    if factor == 1:
        return picture
    side = picture.shape[0] // factor
    cut = picture[: side * factor, : side * factor].reshape(side, factor, side, factor, 3)
    small: Pictures = cut.mean(axis=(1, 3)).round().astype(np.uint8)
    return small


def png(picture: Pictures) -> bytes:
    """Return a picture ``(H, W, 3)`` as PNG, which keeps every pixel."""
    codec = av.CodecContext.create("png", "w")
    codec.height, codec.width = picture.shape[:2]
    codec.pix_fmt, codec.time_base = "rgb24", Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    frame.pts = 0
    packets = [*codec.encode(frame), *codec.encode(None)]
    return b"".join(map(bytes, packets))
