"""Figures of an evaluation: mAP and classes, recall of proposals, false positives, character of instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from lofi_tal.evaluation import KINDS, Bin, Diagnosis, ProposalResult
from lofi_tal.report.plot_style import MARKERS, NARROW, STYLE, WIDE, colour, legend_above, shorten
from lofi_tal.report.theme import LIGHT

_KIND_COLOURS = (2, 5, 4, 0, 3, 1)
"""Place in the palette of each of :data:`lofi_tal.evaluation.KINDS`: green is right, orange is background."""
_CHARACTERS = {
    "coverage": "share of the video",
    "length": "length",
    "instances": "instances of the class in the video",
}
_UNITS = {"coverage": "", "length": " s", "instances": ""}


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
        bars = [(row, 100 * values[label]) for row, label in enumerate(labels) if label in values]
        rows = [row + (i - (len(arms) - 1) / 2) * height for row, _ in bars]
        axis.barh(rows, [value for _, value in bars], height * 0.9, color=colour(i), label=shorten(name))
    axis.set_yticks(range(len(labels)), [shorten(label) for label in labels])
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
    axis.set_xlim(0, max(1.0, axis.get_xlim()[1]))
    axis.set_xlabel("average AP (%)")
    axis.grid(False, axis="y")
    if len(arms) > 1:
        legend_above(figure, axis)
    return figure


@mpl.rc_context(STYLE)
def recall_curve(result: ProposalResult) -> Figure:
    """Draw the average recall over the average number of proposals a video; the shaded area is the AUC."""
    figure = Figure(figsize=(NARROW, 2.8))
    axis = figure.subplots()
    percents = [100 * value for value in result.average_recall]
    axis.plot(result.average_number, percents, color=colour(0))
    axis.fill_between(result.average_number, percents, color=colour(0), alpha=0.12)
    axis.set_xlabel("average number of proposals a video")
    axis.set_ylabel("average recall (%)")
    axis.set_xlim(0, max(result.average_number))
    axis.set_ylim(0, 100)
    return figure


@mpl.rc_context(STYLE)
def false_positive_profile(diagnosis: Diagnosis, index: int) -> Figure:
    """Draw what the best 1·G, 2·G ... detections of every class are, G being its number of instances.

    Args:
        diagnosis: The diagnosis.
        index: Which of its thresholds.
    """
    rows = diagnosis.profile[index]
    figure = Figure(figsize=(NARROW, 3.4))
    axis = figure.subplots()
    ground = [0.0] * len(rows)
    for kind, hue in zip(KINDS, _KIND_COLOURS, strict=True):
        values = [100 * row[kind] for row in rows]
        axis.bar(range(1, len(rows) + 1), values, 0.8, bottom=ground, color=colour(hue), label=kind)
        ground = [low + value for low, value in zip(ground, values, strict=True)]
    axis.set_xticks(range(1, len(rows) + 1), [f"{multiple}G" for multiple in range(1, len(rows) + 1)])
    axis.set_xlabel("best detections of every class (G: its instances)")
    axis.set_ylabel("share (%)")
    axis.set_ylim(0, 100)
    axis.grid(False, axis="x")
    figure.legend(loc="outside upper left", ncols=2, frameon=False)
    return figure


@mpl.rc_context(STYLE)
def gains(diagnosis: Diagnosis) -> Figure:
    """Draw what the normalised average mAP would gain without each kind of false positive."""
    figure = Figure(figsize=(NARROW, 2.4))
    axis = figure.subplots()
    for row, (kind, gain) in enumerate(diagnosis.gain.items()):
        axis.barh(row, 100 * gain, 0.62, color=colour(_KIND_COLOURS[KINDS.index(kind)]))
        axis.annotate(
            f"{100 * gain:+.1f}", (max(0.0, 100 * gain), row), xytext=(4, 0), textcoords="offset points", va="center"
        )
    axis.set_yticks(range(len(diagnosis.gain)), list(diagnosis.gain))
    axis.set_ylim(len(diagnosis.gain) - 0.5, -0.5)
    axis.set_xlim(0, 1.25 * max([*(100 * gain for gain in diagnosis.gain.values()), 1.0]))
    axis.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
    axis.grid(False, axis="y")
    axis.set_xlabel("gain in average mAP_N (points)")
    return figure


@mpl.rc_context(STYLE)
def sensitivity(diagnosis: Diagnosis, character: str, index: int) -> Figure:
    """Draw the normalised average mAP of instances by character, and the share of them that is missed.

    Args:
        diagnosis: The diagnosis.
        character: ``coverage``, ``length`` or ``instances``.
        index: Which threshold decides that instances count as missed.
    """
    bins = diagnosis.sensitivity[character]
    figure = Figure(figsize=(NARROW, 3.0))
    axis = figure.subplots()
    full = [i for i, one in enumerate(bins) if one.instances]
    axis.bar([i - 0.2 for i in full], [100 * bins[i].average_mAP_N for i in full], 0.38, color=colour(0), label="mAP_N")
    missed = [100 * bins[i].missed[index] for i in full]
    threshold = diagnosis.tiou_thresholds[index]
    axis.bar([i + 0.2 for i in full], missed, 0.38, color=colour(1), label=f"missed at tIoU {threshold:g}")
    axis.axhline(100 * diagnosis.average_mAP_N, color=colour(0), linewidth=1.0, linestyle="--")
    axis.set_xticks(range(len(bins)), [_bin_label(one, _UNITS[character]) for one in bins], fontsize=7.5)
    axis.set_xlim(-0.6, len(bins) - 0.4)
    axis.set_xlabel(_CHARACTERS[character])
    axis.set_ylabel("share (%)")
    axis.set_ylim(0, 100)
    axis.grid(False, axis="x")
    figure.legend(loc="outside upper left", ncols=2, frameon=False)
    return figure


def _bin_label(one: Bin, unit: str) -> str:
    span = f"> {one.above:g}{unit}" if one.up_to == float("inf") else f"≤ {one.up_to:g}{unit}"
    return f"{one.name}\n{span}\n({one.instances})"
