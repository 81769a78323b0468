"""Figures of a run, each a matplotlib Figure of its own: nothing here touches pyplot or stays open.

They are drawn in the light palette; :func:`to_svg` exchanges its colours for CSS variables, so that a page can show
them in light and dark.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from lofi_tal.report.theme import LIGHT, SERIES, duration, memory, series_colour

Floats = NDArray[np.float64]
Records = Sequence[Mapping[str, Any]]

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
MOST_POINTS = 400
MOST_PHASES = 40
WIDE, NARROW = 5.0, 3.8
"""Inches. A page shows two or three in a row, so that their letters come out at one size."""
PHASE_COLOURS = (*SERIES[3:], *SERIES[:3])
"""Not those of the lines, as long as there are three of each."""


@dataclass(frozen=True)
class Phase:
    """Neighbouring steps of one fidelity.

    Args:
        start: First step.
        stop: Last step.
        label: Name and L × size, such as ``"T 25×224"``.
    """

    start: float
    stop: float
    label: str


def colour(index: int) -> str:
    """Return the colour of the arm or line number ``index``."""
    return LIGHT[series_colour(index)]


def shorten(label: str, most: int = 28) -> str:
    """Return ``label`` on one line of at most ``most`` letters."""
    line = " ".join(label.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def fidelity_phases(records: Records) -> list[Phase]:
    """Return runs of steps that share a fidelity; records without one belong to no phase."""
    phases: list[Phase] = []
    before = ""
    for record, step in zip(records, _steps(records), strict=True):
        label = _fidelity_label(record)
        if label and label == before:
            phases[-1] = Phase(phases[-1].start, float(step), label)
        elif label:
            phases.append(Phase(float(step), float(step), label))
        before = label
    return phases


@mpl.rc_context(STYLE)
def training_curves(records: Records) -> Figure:
    """Draw loss and its parts, accuracy and learning rate of a stage over its optimiser steps.

    The thin line is each step, the thick one the mean of an epoch. The ground is shaded by fidelity; where it changes
    too often for that (short cycle), the loss has one line for each fidelity instead.

    Args:
        records: Lines of ``metrics.jsonl``; every key may be missing.
    """
    keys = {key for record in records for key, value in record.items() if _is_number(value)}
    parts = sorted(key for key in keys if key.startswith("loss/"))
    panels = [key for key in ("loss", "accuracy", "lr") if key in keys] or ["loss"]
    ratios = [3.0 if panel == "loss" else 1.2 for panel in panels]
    figure = Figure(figsize=(NARROW, 0.8 + 0.65 * sum(ratios)))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    phases = fidelity_phases(records)
    labels = list(dict.fromkeys(phase.label for phase in phases))
    shaded = 0 < len(phases) <= MOST_PHASES
    for axis, panel in zip(axes, panels, strict=True):
        if panel == "lr":
            steps, values = _series(records, "lr")
            axis.plot(steps, values, color=LIGHT["muted"], drawstyle="steps-post")
        elif panel == "loss" and labels and not shaded:
            for i, label in enumerate(labels):
                own = [record for record in records if _fidelity_label(record) == label]
                _curve(axis, own, "loss", colour(i), label)
        else:
            _curve(axis, records, panel, LIGHT["ink"], "loss" if panel == "loss" else "accuracy")
            for i, part in enumerate(parts if panel == "loss" else []):
                _curve(axis, records, part, colour(i), shorten(part.removeprefix("loss/")), thin=True)
        if shaded:
            _shade(axis, phases, labels)
        axis.set_ylabel({"lr": "learning rate"}.get(panel, panel))
        axis.grid(False, axis="x")
        axis.margins(x=0.01)
        _log_where_wide(axis)
    figure.align_ylabels(axes)
    axes[-1].set_xlabel("step")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    _legend_above(figure, axes[0], labels if shaded else [])
    return figure


@mpl.rc_context(STYLE)
def learning_rate_search(records: Records) -> Figure:
    """Draw the mAP on the selection videos over the head's candidate learning rates; the best is marked."""
    found = sorted((float(r["candidate_lr"]), 100 * float(r["selection_mAP"])) for r in search_records(records))
    figure = Figure(figsize=(NARROW, 2.6))
    axis = figure.subplots()
    rates, scores = [rate for rate, _ in found], [score for _, score in found]
    axis.plot(rates, scores, color=colour(0), marker="o")
    best = max(range(len(found)), key=lambda i: scores[i])
    axis.plot(rates[best], scores[best], "o", markersize=11, markerfacecolor="none", color=LIGHT["ink"])
    axis.annotate(
        f"{rates[best]:g}", (rates[best], scores[best]), xytext=(0, -16), textcoords="offset points", ha="center"
    )
    if min(rates) > 0 and max(rates) > min(rates):
        axis.set_xscale("log")
        axis.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.margins(y=0.25)
    axis.set_xlabel("learning rate")
    axis.set_ylabel("mAP (%), selection")
    return figure


def search_records(records: Records) -> list[Mapping[str, Any]]:
    """Return the records of a learning-rate search: those with ``candidate_lr`` and ``selection_mAP``."""
    return [r for r in records if _is_number(r.get("candidate_lr")) and _is_number(r.get("selection_mAP"))]


@mpl.rc_context(STYLE)
def map_against_tiou(
    arms: Mapping[str, tuple[Sequence[float], Sequence[float]]], highest: float | None = None
) -> Figure:
    """Draw mAP over the tIoU threshold.

    Args:
        arms: ``(thresholds, mAP)`` by arm, shares in [0, 1].
        highest: The mAP that the axis must reach, so that several figures have one scale.
    """
    figure = Figure(figsize=(NARROW, 2.8))
    axis = figure.subplots()
    for i, (name, (thresholds, values)) in enumerate(arms.items()):
        marker = MARKERS[i % len(MARKERS)]
        percents = [100 * value for value in values]
        axis.plot(thresholds, percents, color=colour(i), marker=marker, markersize=4.5, label=shorten(name))
    axis.set_xlabel("tIoU threshold")
    axis.set_ylabel("mAP (%)")
    values = [value for _, series in arms.values() for value in series]
    axis.set_ylim(0, max(1.0, 105 * max([*values, highest or 0.0])))
    if arms:
        axis.legend()
    return figure


@mpl.rc_context(STYLE)
def class_ap_bars(arms: Mapping[str, Mapping[str, float]], labels: Sequence[str]) -> Figure:
    """Draw the average precision of each class, one bar for each arm.

    Args:
        arms: Average AP in [0, 1] by label, by arm; a class that an arm lacks has no bar.
        labels: Classes from top to bottom.
    """
    figure = Figure(figsize=(WIDE, 0.9 + len(labels) * (0.12 + 0.13 * max(1, len(arms)))))
    axis = figure.subplots()
    height = 0.8 / max(1, len(arms))
    for i, (name, values) in enumerate(arms.items()):
        places = [(row, 100 * values[label]) for row, label in enumerate(labels) if label in values]
        rows = [row + (i - (len(arms) - 1) / 2) * height for row, _ in places]
        axis.barh(rows, [value for _, value in places], height * 0.9, color=colour(i), label=shorten(name))
    axis.set_yticks(range(len(labels)), [shorten(label) for label in labels])
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
    axis.set_xlim(0, max(1.0, axis.get_xlim()[1]))
    axis.set_xlabel("average AP (%)")
    axis.grid(False, axis="y")
    if len(arms) > 1:
        _legend_above(figure, axis, [])
    return figure


@mpl.rc_context(STYLE)
def stage_costs(names: Sequence[str], seconds: Sequence[float], peak_memory_bytes: Sequence[float]) -> Figure:
    """Draw time and peak memory of each stage."""
    figure = Figure(figsize=(WIDE, 0.8 + 0.3 * len(names)))
    left, right = figure.subplots(1, 2, sharey=True)
    panels: list[tuple[Axes, Sequence[float], str, Callable[[float], str], str]] = [
        (left, seconds, "time", duration, colour(0)),
        (right, peak_memory_bytes, "peak memory", memory, colour(2)),
    ]
    for axis, values, title, text, hue in panels:
        axis.barh(range(len(names)), values, 0.62, color=hue)
        for row, value in enumerate(values):
            axis.annotate(
                text(value), (value, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5
            )
        axis.set_xlim(0, 1.75 * max([*values, 1e-9]))  # room for the figures behind the bars
        axis.set_xticks([])
        axis.set_xlabel(title)
        axis.grid(False)
        axis.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
        axis.spines["bottom"].set_visible(False)
    left.set_yticks(range(len(names)), [shorten(name, 24) for name in names])
    left.set_ylim(len(names) - 0.5, -0.5)
    return figure


@mpl.rc_context(STYLE)
def length_histogram(groups: Mapping[str, Sequence[float]], bins: int = 24) -> Figure:
    """Draw how long segments are, as a share of each group, on a logarithmic axis where they differ widely.

    Args:
        groups: Lengths in seconds by the name of the group; lengths that are not positive are left out.
        bins: Number of bins.
    """
    figure = Figure(figsize=(WIDE, 2.9))
    axis = figure.subplots()
    kept = {name: np.asarray([x for x in values if x > 0], np.float64) for name, values in groups.items()}
    kept = {name: values for name, values in kept.items() if len(values)}
    if kept:
        low, high = min(v.min() for v in kept.values()), max(v.max() for v in kept.values())
        wide = high > 10 * low
        high = max(high, low * 1.01)
        edges = np.geomspace(low, high, bins + 1) if wide else np.linspace(low, high, bins + 1)
        for i, (name, values) in enumerate(kept.items()):
            share = 100 * np.histogram(values, edges)[0] / len(values)
            label = f"{shorten(name)} ({len(values)})"
            axis.stairs(share, edges, color=colour(i), linewidth=1.7, label=label)
            axis.stairs(share, edges, color=colour(i), fill=True, alpha=0.12)
        if wide:
            axis.set_xscale("log")
            _plain_log_ticks(axis.xaxis)
        axis.legend()
    axis.set_xlabel("length (s)")
    axis.set_ylabel("segments (%)")
    axis.set_ylim(bottom=0)
    return figure


def to_svg(figure: Figure, name: str) -> str:
    """Return the figure as an SVG element for an HTML page, in CSS variables of :mod:`lofi_tal.report.theme`.

    Args:
        figure: Any figure of this module.
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


def _steps(records: Records) -> Floats:
    given = [record.get("step") for record in records]
    return np.array([s if _is_number(s) else i + 1 for i, s in enumerate(given)], dtype=np.float64)


def _fidelity_label(record: Mapping[str, Any]) -> str:
    name, snippets, size = (record.get(key) for key in ("fidelity", "snippets", "size"))
    shape = f"{snippets}×{size}" if snippets is not None and size is not None else ""
    return f"{name or ''} {shape}".strip()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _series(records: Records, key: str) -> tuple[Floats, Floats]:
    """Return steps and values of the records that have ``key``."""
    chosen = [
        (s, record[key]) for s, record in zip(_steps(records), records, strict=True) if _is_number(record.get(key))
    ]
    return np.array([s for s, _ in chosen], np.float64), np.array([v for _, v in chosen], np.float64)


def _curve(axis: Axes, records: Records, key: str, hue: str, label: str, *, thin: bool = False) -> None:
    """Draw each step faintly (not for the parts of the loss) and the mean of each epoch."""
    steps, values = _series(records, key)
    if not len(steps):
        return
    if not thin:
        blocks = np.array_split(np.arange(len(steps)), min(len(steps), MOST_POINTS))
        axis.plot(*_means(steps, values, blocks), color=hue, linewidth=0.8, alpha=0.35)
    epochs = np.array([r.get("epoch", -1) for r in records if _is_number(r.get(key))])
    groups = [np.flatnonzero(epochs == epoch) for epoch in np.unique(epochs)]
    if len(groups) < 3:
        groups = np.array_split(np.arange(len(steps)), min(len(steps), 20))
    marker = "o" if len(groups) <= 30 and not thin else None
    width = 1.2 if thin else 1.9
    axis.plot(*_means(steps, values, groups), color=hue, linewidth=width, marker=marker, markersize=3, label=label)


def _means(steps: Floats, values: Floats, groups: Sequence[NDArray[Any]]) -> tuple[Floats, Floats]:
    return np.array([steps[g].mean() for g in groups]), np.array([values[g].mean() for g in groups])


def _shade(axis: Axes, phases: Sequence[Phase], labels: Sequence[str]) -> None:
    for i, phase in enumerate(phases):
        stop = phases[i + 1].start if i + 1 < len(phases) else phase.stop + 1
        hue = _phase_colour(labels.index(phase.label))
        axis.axvspan(phase.start - 0.5, stop - 0.5, color=hue, alpha=0.17, linewidth=0)


def _phase_colour(index: int) -> str:
    return LIGHT[PHASE_COLOURS[index % len(PHASE_COLOURS)]]


def _legend_above(figure: Figure, axis: Axes, shades: Sequence[str]) -> None:
    """Put the legend of ``axis``, and in rows of its own that of the shaded fidelities, above the figure."""
    lines: list[Artist] = list(axis.get_legend_handles_labels()[0])
    patches: list[Artist] = [
        Patch(color=_phase_colour(i), alpha=0.35, linewidth=0, label=label) for i, label in enumerate(shades)
    ]
    if len(lines) + len(patches) < 2:
        return
    columns = min(3, max(len(lines), len(patches)))
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


def _log_where_wide(axis: Axes) -> None:
    """Use a logarithmic axis if the values are positive and span more than a factor of 30."""
    data = np.concatenate([np.asarray(line.get_ydata(), np.float64) for line in axis.lines] or [np.zeros(1)])
    if data.min() > 0 and data.max() > 30 * data.min():
        axis.set_yscale("log")
        _plain_log_ticks(axis.yaxis)
    else:
        axis.yaxis.set_major_locator(MaxNLocator(nbins=5, min_n_ticks=2, steps=[1, 2, 5, 10]))


def _plain_log_ticks(axis: Any) -> None:
    axis.set_major_locator(LogLocator(subs=(1.0, 3.0) if axis.axis_name == "y" else (1.0, 2.0, 5.0), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
