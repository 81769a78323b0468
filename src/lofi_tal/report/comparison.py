"""Figures that compare systems: dots with intervals, differences, and what the systems cost."""

from __future__ import annotations

import io
import statistics
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lofi_tal.report.plot_style import MARKERS, STYLE, WIDE, colour, shorten
from lofi_tal.report.theme import LIGHT


@dataclass(frozen=True)
class Dots:
    """One system.

    Args:
        title: Its name.
        value: Figure.
        half: Half-width of its interval.
        difference: To the system that it is compared with.
        difference_half: Half-width of that.
    """

    title: str
    value: float
    half: float | None
    difference: float | None = None
    difference_half: float | None = None


@mpl.rc_context(STYLE)
def rows_with_intervals(
    rows: Sequence[Dots], label: str, difference_label: str, differences: Sequence[Dots] = ()
) -> Figure:
    """Draw one line a system: its figure with the interval, and beside it the difference.

    Args:
        rows: From top to bottom.
        label: Of the figure's axis.
        difference_label: Of the differences' axis.
        differences: Further ones, between any two systems, below.
    """
    heights = [0.7 + 0.3 * len(rows), *([0.7 + 0.42 * len(differences)] if differences else [])]
    figure = Figure(figsize=(1.6 * WIDE, sum(heights)))
    axes = figure.subplot_mosaic("lr\nbb" if differences else "lr", height_ratios=heights)
    left, right = axes["l"], axes["r"]
    for line, row in enumerate(rows):
        _dot(left, row.value, row.half, line, 0, f"{row.value:.2f}")
    compared = [(line, row.difference, row.difference_half) for line, row in enumerate(rows)]
    _differences(right, [(line, value, half) for line, value, half in compared if value is not None])
    left.set_xlabel(label)
    right.set_xlabel(difference_label)
    _name_lines(left, [row.title for row in rows])
    _name_lines(right, [""] * len(rows))
    if differences:
        below = axes["b"]
        _differences(below, [(line, row.value, row.half) for line, row in enumerate(differences)])
        below.set_xlabel("paired difference (points)")
        _name_lines(below, [textwrap.fill(row.title, 46) for row in differences])
    return figure


@mpl.rc_context(STYLE)
def cost_scatter(rows: Sequence[Dots], seconds: Sequence[float], sizes: Sequence[float], label: str) -> Figure:
    """Draw each system's figure over the time and the peak memory that it took.

    Args:
        rows: The systems.
        seconds: Of each.
        sizes: Bytes of each.
        label: Of the figure's axis.
    """
    figure = Figure(figsize=(1.9 * WIDE, 3.2))
    axes = figure.subplots(1, 2, sharey=True)
    for axis, costs, title in (
        (axes[0], [value / 60 for value in seconds], "time of stage 2 (minutes)"),
        (axes[1], [value / 2**30 for value in sizes], "peak memory of stage 2 (GiB)"),
    ):
        for index, (row, cost) in enumerate(zip(rows, costs, strict=True)):
            marker = MARKERS[(index + index // len(MARKERS)) % len(MARKERS)]  # no two of colour and marker are the same
            axis.errorbar(
                cost, row.value, yerr=row.half, fmt=marker, color=colour(index), capsize=2, label=shorten(row.title, 34)
            )
        most = max([*costs, 0.01])
        axis.set_xlim(-0.05 * most, 1.05 * most)
        axis.locator_params(axis="x", nbins=6)
        axis.set_xlabel(title)
    axes[0].set_ylabel(label)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def file_bytes(figure: Figure, format_name: str) -> bytes:
    """Return a figure as the bytes of an ``svg`` or ``png`` file, the same every time."""
    text = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if format_name == "svg" else {"Software": None}
    with warnings.catch_warnings(), mpl.rc_context({**STYLE, "svg.hashsalt": "lofi-tal"}):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(text, format=format_name, dpi=150, metadata=metadata)
    return text.getvalue()


def _differences(axis: Axes, values: Sequence[tuple[int, float, float | None]]) -> None:
    """Draw differences, each on its line; one that would press all others together is an arrow at the edge."""
    reach = statistics.median([abs(value) + (half or 0.0) for _, value, half in values] or [0.0])
    for line, value, half in values:
        text = f"{value:+.2f}".replace("-", "−")
        if abs(value) <= 2 * reach:
            _dot(axis, value, half, line, 1, text)
            continue
        side, align, text = (0.01, "left", f"← {text}") if value < 0 else (0.99, "right", f"{text} →")
        where = ("axes fraction", "data")
        ground = {"facecolor": LIGHT["card"], "edgecolor": "none", "pad": 1.5}
        axis.annotate(
            text, (side, line), xycoords=where, ha=align, va="center", fontsize=7.5, color=colour(1), bbox=ground
        )
    axis.axvline(0, color=LIGHT["muted"], linewidth=1.0)


def _dot(axis: Axes, value: float, half: float | None, line: int, hue: int, text: str) -> None:
    axis.errorbar(value, line, xerr=half, fmt="o", color=colour(hue), capsize=2.5, markersize=5)
    axis.annotate(text, (value, line), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=7.5)


def _name_lines(axis: Axes, names: Sequence[str]) -> None:
    """Put a name at each line, the first on top."""
    axis.margins(x=0.1)  # room for the numbers
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
    axis.grid(False, axis="y")
