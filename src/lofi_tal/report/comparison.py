"""Figures that compare systems: dots with intervals, differences, and what the systems cost."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from lofi_tal.report.plots import MARKERS, STYLE, WIDE, colour, shorten
from lofi_tal.report.theme import LIGHT, duration, memory


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
def rows_with_intervals(rows: Sequence[Dots], label: str) -> Figure:
    """Draw one line a system: its figure with the interval, and beside it the difference.

    Args:
        rows: From top to bottom.
        label: Of the figure's axis.
    """
    figure = Figure(figsize=(1.6 * WIDE, 0.9 + 0.3 * len(rows)))
    left, right = figure.subplots(1, 2, sharey=True)
    for place, row in enumerate(rows):
        _dot(left, row.value, row.half, place, 0)
        if row.difference is not None:
            _dot(right, row.difference, row.difference_half, place, 1)
    right.axvline(0, color=LIGHT["muted"], linewidth=1.0)
    left.set_xlabel(label)
    right.set_xlabel("paired difference (points)")
    left.set_yticks(range(len(rows)), [shorten(row.title, 34) for row in rows])
    left.set_ylim(len(rows) - 0.4, -0.6)
    for axis in (left, right):
        axis.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
        axis.grid(False, axis="y")
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
    for axis, costs, text, title in (
        (axes[0], seconds, duration, "time of stage 2"),
        (axes[1], sizes, lambda size: memory(size) if size > 0 else "0", "peak memory of stage 2"),
    ):
        for place, (row, cost) in enumerate(zip(rows, costs, strict=True)):
            marker = MARKERS[(place + place // len(MARKERS)) % len(MARKERS)]  # no two of colour and marker are the same
            axis.errorbar(
                cost, row.value, yerr=row.half, fmt=marker, color=colour(place), capsize=2, label=shorten(row.title, 34)
            )
        axis.set_xlim(-0.05 * max([*costs, 1.0]), 1.05 * max([*costs, 1.0]))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _, text=text: text(max(0.0, value))))
        axis.locator_params(axis="x", nbins=5)
        axis.set_xlabel(title)
    axes[0].set_ylabel(label)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def file_bytes(figure: Figure, kind: str) -> bytes:
    """Return a figure as the bytes of an ``svg`` or ``png`` file, the same every time."""
    text = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with warnings.catch_warnings(), mpl.rc_context({**STYLE, "svg.hashsalt": "lofi-tal"}):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(text, format=kind, dpi=150, metadata=metadata)
    return text.getvalue()


def _dot(axis: Axes, value: float, half: float | None, place: int, hue: int) -> None:
    axis.errorbar(value, place, xerr=half, fmt="o", color=colour(hue), capsize=2.5, markersize=5)
    axis.annotate(f"{value:.2f}", (value, place), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=7.5)
