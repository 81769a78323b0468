"""Figures of a data set: lengths, what a grid of snippets resolves, classes, segments a video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from lofi_tal.annotations import Statistics
from lofi_tal.annotations.statistics import ClassStatistics
from lofi_tal.report.plot_style import STYLE, WIDE, colour, plain_log_ticks, shorten
from lofi_tal.report.theme import LIGHT

_MOST_SEGMENTS = 10  # a video; more of them share one bar


def lengths(figures: Statistics) -> Figure:
    """Draw how long segments, gaps between them and videos are; what is shorter than 0.1 s counts as that long."""
    groups = {"segments": figures.seconds, "gaps": figures.gaps, "videos": figures.durations}
    figure = length_histogram({name: np.maximum(values, 0.1).tolist() for name, values in groups.items()})
    figure.axes[0].set_ylabel("share (%)")
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
            plain_log_ticks(axis.xaxis)
        axis.legend()
    axis.set_xlabel("length (s)")
    axis.set_ylabel("segments (%)")
    axis.set_ylim(bottom=0)
    return figure


@mpl.rc_context(STYLE)
def resolution(figures: Statistics) -> Figure:
    """Draw the share of segments up to each length as a share of the video; steps of L snippets are marked."""
    figure = Figure(figsize=(WIDE, 2.9))
    axis = figure.subplots()
    share = np.sort(figures.share)
    indices = np.unique(np.linspace(0, len(share) - 1, min(len(share), 500)).astype(int))
    axis.plot(share[indices], 100 * (indices + 1) / max(1, len(share)), color=colour(0))
    for number, (count, below) in enumerate(figures.below_step.items()):
        hue = colour(number + 1)
        axis.axvline(1 / count, color=hue, linewidth=1.1, linestyle="--", label=f"L={count}: {100 * below:.1f} % below")
    axis.set_xscale("log")
    axis.set_xlim(0.003, 1)
    ticks = (0.01, 0.02, 0.04, 0.1, 0.3, 1)
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    axis.minorticks_off()
    axis.set_ylim(0, 100)
    axis.set_xlabel("length of the segment / length of the video")
    axis.set_ylabel("segments up to it (%)")
    figure.legend(loc="outside upper left", ncols=len(figures.below_step), columnspacing=1.2, handlelength=1.4)
    return figure


@mpl.rc_context(STYLE)
def profile(figures: Statistics) -> Figure:
    """Draw how many videos show an action at each part of their length."""
    figure = Figure(figsize=(WIDE, 2.9))
    axis = figure.subplots()
    edges = np.linspace(0, 1, len(figures.profile) + 1)
    axis.stairs(100 * figures.profile, edges, color=colour(0), linewidth=1.7)
    axis.stairs(100 * figures.profile, edges, color=colour(0), fill=True, alpha=0.12)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 100)
    axis.set_xlabel("time / length of the video")
    axis.set_ylabel("videos with an action (%)")
    return figure


@mpl.rc_context(STYLE)
def class_counts(rows: Sequence[ClassStatistics]) -> Figure:
    """Draw the number of instances of some classes, one bar each, from top to bottom."""
    figure = Figure(figsize=(WIDE, 0.9 + 0.25 * len(rows)))
    axis = figure.subplots()
    axis.barh(range(len(rows)), [row.instances for row in rows], 0.72, color=colour(0))
    axis.set_yticks(range(len(rows)), [shorten(row.label) for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
    axis.set_xlabel("instances")
    axis.grid(False, axis="y")
    return figure


@mpl.rc_context(STYLE)
def segments_per_video(figures: Statistics) -> Figure:
    """Draw how many segments the videos that have any have."""
    figure = Figure(figsize=(WIDE, 2.9))
    axis = figure.subplots()
    counts = np.minimum(figures.instances_per_video, _MOST_SEGMENTS).astype(int)
    numbers = np.bincount(counts, minlength=_MOST_SEGMENTS + 1)[1:]
    axis.bar(range(1, _MOST_SEGMENTS + 1), numbers, 0.72, color=colour(0))
    names = [*map(str, range(1, _MOST_SEGMENTS)), f"{_MOST_SEGMENTS}+"]
    axis.set_xticks(range(1, _MOST_SEGMENTS + 1), names)
    axis.set_xlabel("segments in a video")
    axis.set_ylabel("videos")
    axis.grid(False, axis="x")
    return figure
