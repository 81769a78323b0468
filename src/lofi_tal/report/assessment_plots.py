"""Figures of an assessment: reliability of scores, precision and recall of each class."""

from __future__ import annotations

import math

import matplotlib as mpl
from matplotlib.figure import Figure

from lofi_tal.evaluation import Assessment, Reliability
from lofi_tal.report.plot_style import NARROW, STYLE, colour, legend_above, plain_log_ticks, shorten
from lofi_tal.report.theme import LIGHT

MOST_CURVES = 16
"""Classes of which a curve is drawn."""


@mpl.rc_context(STYLE)
def reliability_diagram(assessment: Assessment) -> Figure:
    """Draw the share of detections that is right over their score; on the diagonal, a score is a probability."""
    figure = Figure(figsize=(NARROW, 3.2))
    axis, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    axis.plot([0, 100], [0, 100], color=LIGHT["muted"], linewidth=1.0, linestyle="--")
    series: list[tuple[str, Reliability | None]] = [("raw", assessment.raw), ("calibrated", assessment.calibrated)]
    for i, (name, one) in enumerate(series):
        if one is None:
            continue
        places = [k for k, count in enumerate(one.count) if count]
        hue = colour(1 - i)
        axis.plot(
            [100 * one.score[k] for k in places], [100 * one.right[k] for k in places], color=hue, marker="os"[i],
            markersize=4, label=name,
        )  # fmt: skip
        middle = [50 * (low + high) + (i - 0.5) * 3.4 for low, high in zip(one.edges, one.edges[1:], strict=False)]
        below.bar(middle, one.count, 3.2, color=hue)
    axis.set_ylabel("right (%)")
    axis.set_ylim(0, 102)
    legend_above(figure, axis)
    below.set_yscale("log")
    below.set_ylim(0.7, 1.5 * max(1, *assessment.raw.count))
    plain_log_ticks(below.yaxis, decades=True)
    below.set_ylabel("number")
    below.set_xlabel("score (%)")
    below.set_xlim(0, 100)
    return figure


@mpl.rc_context(STYLE)
def precision_recall_curves(assessment: Assessment) -> Figure:
    """Draw precision over recall for each class, with the place of its threshold."""
    ranked = sorted(assessment.curves, key=lambda label: -assessment.classes[label].value)
    half = MOST_CURVES // 2
    names = ranked if len(ranked) <= MOST_CURVES else ranked[:half] + ranked[-half:]
    columns = min(4, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(0.6 + 2.1 * columns, 0.4 + 1.5 * rows))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).reshape(-1)
    for axis, label in zip(axes, names, strict=False):
        recall, precision = assessment.curves[label]
        axis.plot([100 * r for r in recall], [100 * p for p in precision], color=colour(0), linewidth=1.4)
        if not len(recall):
            axis.text(
                0.5, 0.5, "none is right", transform=axis.transAxes, ha="center", color=LIGHT["muted"], fontsize=8
            )
        rates = assessment.point.classes[label]
        if rates.shown:
            axis.plot([100 * rates.recall.value], [100 * rates.precision.value], "o", color=colour(1), markersize=4.5)
        axis.set_title(shorten(label, 22), fontsize=8.5, color=LIGHT["ink"])
        axis.set_xlim(0, 103)
        axis.set_ylim(0, 105)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    for axis in axes[max(0, len(names) - columns) : len(names)]:  # the last of each column
        axis.tick_params(labelbottom=True)
    figure.supxlabel("recall (%)", fontsize=9, color=LIGHT["muted"])
    figure.supylabel("precision (%)", fontsize=9, color=LIGHT["muted"])
    return figure
