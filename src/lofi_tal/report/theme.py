"""How pages look: one palette for light and dark, one set of number formats, one template environment.

The hues are those of Okabe and Ito (*Color Universal Design*), which people with colour-blindness can tell apart, made
darker on white and lighter on black until each has a contrast of at least 3 : 1. Marks differ in shape or place too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from lofi_tal.files import write_text

LIGHT = {
    "page": "#f6f7f9",
    "card": "#ffffff",
    "ink": "#1b2026",
    "muted": "#59636e",
    "line": "#dce1e6",
    "c0": "#0072b2",
    "c1": "#d55e00",
    "c2": "#008f68",
    "c3": "#b0528a",
    "c4": "#8a6d00",
    "c5": "#3f51b5",
}
DARK = {
    "page": "#121518",
    "card": "#1a1e23",
    "ink": "#e7eaee",
    "muted": "#9ba5b0",
    "line": "#333a42",
    "c0": "#56b4e9",
    "c1": "#f29345",
    "c2": "#2fc496",
    "c3": "#e08fc0",
    "c4": "#e5cf4a",
    "c5": "#9aa7f5",
}
SERIES = ("c0", "c1", "c2", "c3", "c4", "c5")


@dataclass(frozen=True)
class Picture:
    """A figure on a page: caption, explanation and SVG."""

    caption: str
    detail: str
    svg: str


def series_colour(index: int) -> str:
    """Return the name of the colour of the arm or line number ``index``; they repeat after six."""
    return SERIES[index % len(SERIES)]


def percent(share: float | None) -> str:
    """Return a share as per cent with two digits, without the sign: ``34.49``."""
    return "–" if share is None or not math.isfinite(share) else f"{100 * share:.2f}"


def signed_percent(share: float | None) -> str:
    """Return a difference of shares in points: ``+1.20``, ``−0.35``."""
    if share is None or not math.isfinite(share):
        return "–"
    text = f"{100 * abs(share):.2f}"
    return text if text == "0.00" else f"{'+' if share > 0 else '−'}{text}"


def duration(seconds: float) -> str:
    """Return a time of work for people: ``4.2 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def memory(size: float) -> str:
    """Return a number of bytes for people: ``512 MiB``, ``11.38 GiB``; ``–`` where nothing was measured."""
    if size <= 0:
        return "–"
    return f"{size / 2**20:.0f} MiB" if size < 2**30 else f"{size / 2**30:.2f} GiB"


def marked(text: str) -> Markup:
    """Return text for a page in which what stands in backticks is code."""
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(part) if i % 2 else escape(part) for i, part in enumerate(text.split("`")))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lofi_tal.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(light=LIGHT, dark=DARK)
    environment.filters.update(
        marked=marked,
        percent=percent,
        signed_percent=signed_percent,
        duration=duration,
        memory=memory,
        series_colour=series_colour,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment


def fill_page(template: str, **values: Any) -> str:
    """Return ``template`` filled with values."""
    text = _environment().get_template(template).render(values)
    return text.encode("utf-8", "replace").decode("utf-8")  # file names may hold bytes that are no text


def write_page(path: Path, template: str, **values: Any) -> None:
    """Fill ``template`` and write the page in one atomic step."""
    write_text(path, fill_page(template, **values))
