"""Figures of training: curves over the steps, the search for the head's learning rate, what each stage costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import NDArray

from lofi_tal.report.plot_style import NARROW, STYLE, WIDE, colour, legend_above, plain_log_ticks, shorten
from lofi_tal.report.theme import LIGHT, SERIES, duration, memory

Floats = NDArray[np.float64]
Records = Sequence[Mapping[str, Any]]

HELD_OUT_LOSS, HELD_OUT_MAP = "held_out/loss", "held_out/mAP"
MOST_POINTS = 400
MOST_PHASES = 40
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
    """Draw loss and its parts, accuracy and learning rate of a stage over its optimiser steps; and held-out videos.

    The thin line is each step, the thick one the mean of an epoch. The ground is shaded by fidelity; where it changes
    too often for that (short cycle), the loss has one line for each fidelity instead.

    Args:
        records: Lines of ``metrics.jsonl``; every key may be missing.
    """
    keys = {key for record in records for key, value in record.items() if _is_number(value)}
    parts = sorted(key for key in keys if key.startswith("loss/"))
    panels = [key for key in ("loss", "accuracy", HELD_OUT_MAP, "lr") if key in keys] or ["loss"]
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
        elif panel == HELD_OUT_MAP:
            _held_out(axis, records, panel, 100)
        elif panel == "loss" and labels and not shaded:
            for i, label in enumerate(labels):
                own = [record for record in records if _fidelity_label(record) == label]
                _curve(axis, own, "loss", colour(i), label)
        else:
            _curve(axis, records, panel, LIGHT["ink"], "loss" if panel == "loss" else "accuracy")
            for i, part in enumerate(parts if panel == "loss" else []):
                _curve(axis, records, part, colour(i), shorten(part.removeprefix("loss/")), thin=True)
        if panel == "loss" and HELD_OUT_LOSS in keys:
            _held_out(axis, records, HELD_OUT_LOSS, 1, "held-out videos")
        if shaded:
            _shade(axis, phases, labels)
        axis.set_ylabel({"lr": "learning rate", HELD_OUT_MAP: "held-out\nmAP (%)"}.get(panel, panel))
        axis.grid(False, axis="x")
        axis.margins(x=0.01)
        _log_where_wide(axis)
    figure.align_ylabels(axes)
    axes[-1].set_xlabel("step")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    legend_above(figure, axes[0], [_phase_patch(i, label) for i, label in enumerate(labels)] if shaded else [])
    return figure


@mpl.rc_context(STYLE)
def learning_rate_search(records: Records) -> Figure:
    """Draw the mAP on the selection videos over the head's candidate learning rates; the best is marked."""
    tried = sorted((float(r["candidate_lr"]), 100 * float(r["selection_mAP"])) for r in search_records(records))
    figure = Figure(figsize=(NARROW, 2.6))
    axis = figure.subplots()
    rates, scores = [rate for rate, _ in tried], [score for _, score in tried]
    axis.plot(rates, scores, color=colour(0), marker="o")
    best = max(range(len(tried)), key=lambda i: scores[i])
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


def _held_out(axis: Axes, records: Records, key: str, scale: float, label: str = "") -> None:
    """Draw a figure of the held-out videos, which only some steps have."""
    steps, values = _series(records, key)
    axis.plot(
        steps, scale * values, color=LIGHT["muted"], marker="D", markersize=3, linestyle="--", label=label or None
    )


def _means(steps: Floats, values: Floats, groups: Sequence[NDArray[Any]]) -> tuple[Floats, Floats]:
    return np.array([steps[g].mean() for g in groups]), np.array([values[g].mean() for g in groups])


def _shade(axis: Axes, phases: Sequence[Phase], labels: Sequence[str]) -> None:
    for i, phase in enumerate(phases):
        stop = phases[i + 1].start if i + 1 < len(phases) else phase.stop + 1
        hue = _phase_colour(labels.index(phase.label))
        axis.axvspan(phase.start - 0.5, stop - 0.5, color=hue, alpha=0.17, linewidth=0)


def _phase_patch(index: int, label: str) -> Patch:
    return Patch(color=_phase_colour(index), alpha=0.35, linewidth=0, label=label)


def _phase_colour(index: int) -> str:
    return LIGHT[PHASE_COLOURS[index % len(PHASE_COLOURS)]]


def _log_where_wide(axis: Axes) -> None:
    """Use a logarithmic axis if the values are positive and span more than a factor of 30."""
    data = np.concatenate([np.asarray(line.get_ydata(), np.float64) for line in axis.lines] or [np.zeros(1)])
    if data.min() > 0 and data.max() > 30 * data.min():
        axis.set_yscale("log")
        plain_log_ticks(axis.yaxis)
    else:
        axis.yaxis.set_major_locator(MaxNLocator(nbins=5, min_n_ticks=2, steps=[1, 2, 5, 10]))
