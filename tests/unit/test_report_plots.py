"""Figures of a run: what is drawn, for whole and for odd records, without a trace of pyplot."""

import re
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest

from lofi_tal.report import dataset_plots, evaluation_plots, training_plots
from lofi_tal.report.comparison import Dots, rows_with_intervals
from lofi_tal.report.plot_style import to_svg
from lofi_tal.report.theme import DARK, LIGHT, duration, memory, percent, signed_percent

FIDELITIES = [("S", 48, 32), ("ST", 24, 45), ("T", 12, 64)]


def records(epochs=6, steps=5, *, cycle="long", parts=("boundary", "regression")):
    lines = []
    for number in range(epochs * steps):
        epoch = number // steps
        name, snippets, size = FIDELITIES[(epoch if cycle == "long" else number) % 3]
        line = {"step": number + 1, "epoch": epoch, "lr": 0.1 * 0.5 ** (epoch // 2), "loss": 2.0 / (number + 1)}
        line |= {f"loss/{part}": 0.5 / (number + 1) for part in parts}
        lines.append(line | {"fidelity": name, "snippets": snippets, "size": size, "wait": 0.1})
    return lines


def drawn(figure, name="f"):
    """Return the texts of the figure as a browser shows them; the SVG must be well formed."""
    svg = to_svg(figure, name)
    root = ET.fromstring(svg.replace("xlink:", ""))
    return svg, [text.strip() for text in root.itertext() if text.strip()]


def test_long_cycle_gives_one_phase_an_epoch():
    phases = training_plots.fidelity_phases(records())
    assert [phase.label for phase in phases] == ["S 48×32", "ST 24×45", "T 12×64"] * 2
    assert [(phase.start, phase.stop) for phase in phases[:2]] == [(1, 5), (6, 10)]


def test_phases_are_shaded_and_named():
    figure = training_plots.training_curves(records())
    loss, rate = figure.axes
    assert len(loss.patches) == len(rate.patches) == 6
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [name for name in names if name] == ["loss", "S 48×32", "boundary", "ST 24×45", "regression", "T 12×64"]


def test_short_cycle_gives_one_line_a_fidelity_instead_of_stripes():
    figure = training_plots.training_curves(records(40, 5, cycle="short"))
    assert not figure.axes[0].patches
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert names == {"S 48×32", "ST 24×45", "T 12×64"}


def test_epoch_means_are_means_of_their_steps():
    lines = records(4, 10)
    thick = training_plots.training_curves(lines).axes[0].lines[1]
    expected = [np.mean([line["loss"] for line in lines if line["epoch"] == epoch]) for epoch in range(4)]
    np.testing.assert_allclose(thick.get_ydata(), expected)


def test_many_steps_are_thinned_out():
    figure = training_plots.training_curves(records(100, 100))
    assert len(figure.axes[0].lines[0].get_xdata()) == training_plots.MOST_POINTS


def test_stage_1_has_a_panel_for_accuracy():
    lines = [{"step": i + 1, "epoch": i // 3, "lr": 0.1, "loss": 1.0, "accuracy": i / 9} for i in range(9)]
    assert [axis.get_ylabel() for axis in training_plots.training_curves(lines).axes] == [
        "loss",
        "accuracy",
        "learning rate",
    ]


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [{}],
        [{"loss": 1.0}],
        [{"loss": float("nan"), "step": None}, {"loss": None}, {"loss": 2.0}],
        [{"loss": 0.0, "step": 1}, {"loss": -1.0, "step": 2, "fidelity": "T"}],
        [{"loss": 1.0, "epoch": 0, "snippets": 4}, {"loss/part": 3.0, "lr": 0.0}],
        [{"step": 1, "fidelity": "S", "snippets": 4, "size": 8}],
        [{"loss": True, "accuracy": 0.5}],
    ],
)
def test_missing_keys_and_odd_values_are_drawn_around(lines):
    drawn(training_plots.training_curves(lines))


def test_learning_rate_search_marks_the_best():
    lines = [{"candidate_lr": lr, "selection_mAP": score} for lr, score in ((1e-3, 0.2), (3e-3, 0.4), (1e-4, 0.1))]
    figure = training_plots.learning_rate_search(lines)
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.003"]
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [10, 20, 40])
    drawn(training_plots.learning_rate_search(lines[:1]))


def test_map_curves_are_in_per_cent_on_a_common_scale():
    thresholds = [0.5, 0.75, 0.95]
    figure = evaluation_plots.map_against_tiou(
        {"a": (thresholds, [0.4, 0.2, 0.0]), "b": (thresholds, [0.5, 0.3, 0.1])}, 0.8
    )
    axis = figure.axes[0]
    np.testing.assert_allclose(axis.lines[1].get_ydata(), [50, 30, 10])
    assert axis.get_ylim() == (0, pytest.approx(84))
    assert len({line.get_marker() for line in axis.lines}) == 2  # not told apart by colour alone
    drawn(evaluation_plots.map_against_tiou({}))
    drawn(evaluation_plots.map_against_tiou({"zero": (thresholds, [0.0, 0.0, 0.0])}))


def test_bars_of_the_arms_are_paired_by_class():
    figure = evaluation_plots.class_ap_bars({"a": {"x": 0.5, "y": 0.25}, "b": {"x": 0.1}}, ["x", "y"])
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == [50, 25, pytest.approx(10)]
    assert abs(bars[0].get_y() - bars[2].get_y()) < 0.5 < abs(bars[0].get_y() - bars[1].get_y())
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["x", "y"]


def test_costs_show_time_and_memory_as_people_say_them():
    figure = training_plots.stage_costs(["pretrain", "lofi"], [61.0, 4.2], [3 * 2**29, 0])
    texts = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert texts == ["1 min 01 s", "4.2 s", "1.50 GiB", "–"]


def test_length_histogram_counts_every_positive_length():
    figure = dataset_plots.length_histogram({"train": [1.0, 1.5, 2.0, 0.0, -1.0], "empty": []})
    heights = figure.axes[0].patches[0].get_data().values
    assert heights.sum() == pytest.approx(100)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["train (3)"]
    assert dataset_plots.length_histogram({"wide": [0.1, 100.0]}).axes[0].get_xscale() == "log"
    for odd in ({}, {"one": [3.0]}, {"same": [2.0, 2.0]}):
        drawn(dataset_plots.length_histogram(odd))


def test_labels_are_text_whatever_they_hold():
    labels = ["<script>alert(1)</script>", "costs $5 & $6", "日本語", "two\nlines", "x" * 200]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg, texts = drawn(evaluation_plots.class_ap_bars({"<b>arm</b>": dict.fromkeys(labels, 0.5)}, labels))
    assert "<script" not in svg
    assert {"<script>alert(1)</script>", "costs $5 & $6", "日本語", "two lines"} <= set(texts)
    assert max(map(len, texts)) <= 28


def test_svg_follows_the_theme_of_the_page():
    svg, _ = drawn(evaluation_plots.map_against_tiou({"a": ([0.5, 0.6], [0.4, 0.2])}))
    assert "var(--c0)" in svg
    assert "var(--ink)" in svg
    assert not any(value in svg for value in LIGHT.values())
    assert "http" not in svg
    assert set(LIGHT) == set(DARK)


def test_ids_of_two_figures_of_a_page_differ():
    figure = evaluation_plots.map_against_tiou({"a": ([0.5, 0.6], [0.4, 0.2])})
    first, second = (set(re.findall(r' id="([^"]+)"', to_svg(figure, name))) for name in ("one", "two"))
    assert first
    assert not first & second
    assert to_svg(figure, "one") == to_svg(figure, "one")


def test_settings_of_matplotlib_are_as_before():
    before = dict(mpl.rcParams)
    drawn(training_plots.training_curves(records()))
    assert dict(mpl.rcParams) == before


def test_pyplot_is_never_loaded():
    code = (
        "import sys; from lofi_tal.report import plot_style, training_plots; "
        "plot_style.to_svg(training_plots.stage_costs(['a'], [1.0], [2.0]), 'x'); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_timelines_do_without_matplotlib():
    code = "import sys; from lofi_tal.report import write_timeline; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast_is_accessible(theme):
    """Oracle: WCAG 2.2, 1.4.3 (text, 4.5 : 1) and 1.4.11 (graphics, 3 : 1)."""

    def contrast(a, b):
        low, high = sorted((luminance(theme[a]), luminance(theme[b])))
        return (high + 0.05) / (low + 0.05)

    assert all(contrast(text, ground) >= 4.5 for text in ("ink", "muted") for ground in ("card", "page"))
    assert all(contrast(name, "card") >= 3 for name in theme if name[0] == "c" and name[1:].isdigit())


def test_numbers_are_written_for_people():
    assert [percent(0.34494), percent(None), percent(float("nan"))] == ["34.49", "–", "–"]
    assert [signed_percent(x) for x in (0.012, -0.0035, 0.00001, -0.00001, None)] == [
        "+1.20",
        "−0.35",
        "0.00",
        "0.00",
        "–",
    ]
    assert [duration(x) for x in (4.21, 59.96, 185, 3599.6, 7620)] == [
        "4.2 s", "1 min 00 s", "3 min 05 s", "1 h 00 min", "2 h 07 min",
    ]  # fmt: skip
    assert [memory(x) for x in (0, 300 * 2**20, 1.5 * 2**30)] == ["–", "300 MiB", "1.50 GiB"]


def test_a_difference_far_outside_is_an_arrow_with_its_number_and_the_others_keep_their_scale():
    rows = [
        Dots("floor", 10, 1, -50, 2),
        Dots("base", 60, 1),
        *(Dots(f"row {i}", 60 + i, 1, i, 1) for i in range(1, 5)),
    ]
    asked = [Dots("base minus floor", 50, 2), *(Dots(f"row {i} minus base", i, 1) for i in range(1, 5))]
    figure = rows_with_intervals(rows, "mAP", "minus base", asked)
    left, right, below = figure.axes
    assert {text.get_text() for text in right.texts} == {"← −50.00", "+1.00", "+2.00", "+3.00", "+4.00"}
    assert right.get_xlim()[0] > -5
    assert "+50.00 →" in {text.get_text() for text in below.texts}
    assert len(left.texts) == len(rows)
    assert [label.get_text() for label in left.get_yticklabels()] == [row.title for row in rows]
