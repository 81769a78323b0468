"""What all figures share: style, colours, legends, and the way into a page.

Each figure is a matplotlib Figure of its own: nothing touches pyplot or stays open. They are drawn in the light
palette; :func:`to_svg` exchanges its colours for CSS variables, so that a page can show them in light and dark.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lofi_tal.report.theme import LIGHT, series_colour

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "text.color": LIGHT["ink"],
    "axes.edgecolor": LIGHT["line"],
    "axes.labelcolor": LIGHT["muted"],
    "xtick.color": LIGHT["line"],
    "ytick.color": LIGHT["line"],
    "xtick.labelcolor": LIGHT["muted"],
    "ytick.labelcolor": LIGHT["muted"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.7,
    "figure.constrained_layout.use": True,
    "text.usetex": False,
    "text.parse_math": False,  # a label may hold a dollar sign
    "svg.fonttype": "none",  # text stays text: it is found, copied and set in the reader's fonts
}
MARKERS = "osD^vP"
_LETTERS = 14  # letters of a legend in an inch
WIDE, NARROW = 5.0, 3.8
"""Inches. A page shows two or three in a row, so that their letters come out at one size."""


def colour(index: int) -> str:
    """Return the colour of the arm or line number ``index``."""
    return LIGHT[series_colour(index)]


def shorten(label: str, most: int = 28) -> str:
    """Return ``label`` on one line of at most ``most`` letters."""
    line = " ".join(label.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def legend_above(figure: Figure, axis: Axes, patches: Sequence[Artist] = ()) -> None:
    """Put the legend of ``axis``, and in rows of its own that of the ``patches``, above the figure."""
    lines: list[Artist] = list(axis.get_legend_handles_labels()[0])
    if len(lines) + len(patches) < 2:
        return
    longest = max(len(str(handle.get_label())) for handle in (*lines, *patches))
    room = int(_LETTERS * figure.get_figwidth()) // (longest + 5)  # letters of a name and of its handle
    columns = max(1, min(3, room, max(len(lines), len(patches))))
    blank = Patch(alpha=0, label="")
    rows = [[*some[i : i + columns]] for some in (lines, patches) for i in range(0, len(some), columns)]
    rows = [row + [blank] * (columns - len(row)) for row in rows]
    handles = [row[column] for column in range(columns) for row in rows]  # a legend is filled column by column
    figure.legend(
        handles,
        [str(handle.get_label()) for handle in handles],
        loc="outside upper left",
        ncols=columns,
        columnspacing=1.2,
        handlelength=1.4,
    )


def plain_log_ticks(axis: Any, *, decades: bool = False) -> None:
    """Label a logarithmic x or y axis with plain numbers at few places; of a low one, a few powers of ten alone."""
    between = (1.0, 3.0) if axis.axis_name == "y" else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(numticks=4) if decades else LogLocator(subs=between, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def to_svg(figure: Figure, name: str) -> str:
    """Return the figure as an SVG element for an HTML page, in CSS variables of :mod:`lofi_tal.report.theme`.

    Args:
        figure: Any figure of this package.
        name: Unique in the page: the ids of clip paths and markers are derived from it.
    """
    text = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with warnings.catch_warnings(), mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the browser has more fonts
        figure.savefig(text, format="svg", transparent=True, metadata=metadata)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    head, body = svg.split(">", 1)
    view = re.search(r'viewBox="[^"]+"', head)
    assert view is not None
    for name, value in LIGHT.items():
        body = body.replace(value, f"var(--{name})")
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)  # its selector would reach the whole page
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", body)
    return f'<svg {view[0]} stroke-linejoin="round" stroke-linecap="butt">{body}'
