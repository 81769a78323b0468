"""Intervals against numbers worked by hand, and against what simulated seeds and videos do."""

import numpy as np
import pytest

from lofi_tal.reproduce.intervals import paired, spread, t_quantile


@pytest.mark.parametrize(
    ("degrees", "expected"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (7, 2.3646), (30, 2.0423)]
)
def test_t_quantiles_are_those_of_printed_tables(degrees, expected):
    assert t_quantile(degrees) == pytest.approx(expected, abs=6e-5)


def test_t_quantile_of_another_confidence():
    assert t_quantile(10, 0.99) == pytest.approx(3.1693, abs=6e-5)


def test_a_spread_is_the_t_interval_worked_by_hand():
    """Mean 4, deviation 2, three seeds: 4.3027 · 2 / √3 = 4.9683."""
    found = spread([2.0, 4.0, 6.0], [None] * 3)
    assert found.mean == 4.0
    assert found.seeds == pytest.approx(4.9683, abs=1e-4)
    assert found.videos is None
    assert found.both is None
    assert spread([2.0], [None]).seeds is None


def test_a_paired_difference_cancels_what_seeds_share():
    """Differences 1, 1, 2 have a narrow interval, though the figures themselves vary by tens."""
    first = {seed: (value, None) for seed, value in enumerate((11.0, 31.0, 22.0))}
    second = {seed: (value, None) for seed, value in enumerate((10.0, 30.0, 20.0))} | {9: (0.0, None)}
    found = paired(first, second)
    assert found.count == 3
    assert found.mean == pytest.approx(4 / 3)
    assert found.seeds == pytest.approx(4.3027 * np.std([1, 1, 2], ddof=1) / np.sqrt(3), abs=1e-4)
    assert paired(first, {7: (1.0, None)}) is None


def test_videos_and_seeds_add_in_quadrature():
    draws = np.linspace(-1, 1, 1001)
    found = paired({0: (3.0, 3 + draws), 1: (5.0, 5 + draws)}, {0: (1.0, np.ones(1001)), 1: (1.0, np.ones(1001))})
    assert found.videos == pytest.approx(0.95, abs=1e-3)
    assert found.both == pytest.approx(np.hypot(found.seeds, found.videos))


def covered(seeds, videos, deviations, *, half, times=500):
    """Return how often the interval holds the truth, over new seeds and new videos each time.

    A figure is the mean over the videos of: the truth, a seed's luck, a video's difficulty, and a seed's luck on that
    video, with these three deviations.
    """
    generator, truth, hits = np.random.default_rng(0), 3.0, 0
    of_seed, of_video, of_both = deviations
    for _ in range(times):
        values = truth + of_seed * generator.normal(size=(seeds, 1)) + of_video * generator.normal(size=(1, videos))
        values += of_both * generator.normal(size=(seeds, videos))
        draws = generator.multinomial(videos, np.full(videos, 1 / videos), size=200) / videos
        found = spread(values.mean(axis=1).tolist(), [draws @ one for one in values])
        hits += abs(found.mean - truth) <= getattr(found, half)
    return hits / times


@pytest.mark.parametrize("seeds", [2, 5])
def test_the_interval_over_seeds_holds_the_truth_95_times_in_100(seeds):
    """Within three standard errors of 500 trials, which are 0.03. It knows nothing of the choice of videos."""
    assert covered(seeds, 20, (1.0, 0.0, 0.0), half="seeds") == pytest.approx(0.95, abs=0.03)
    assert covered(seeds, 20, (0.05, 1.0, 0.0), half="seeds") < 0.8


def test_the_interval_over_videos_holds_the_truth_95_times_in_100():
    """It knows nothing of the choice of seeds."""
    assert covered(3, 100, (0.0, 1.0, 0.0), half="videos") == pytest.approx(0.95, abs=0.04)
    assert covered(3, 100, (0.3, 1.0, 0.0), half="videos") < 0.8


@pytest.mark.parametrize("deviations", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.1), (0.1, 1.0, 1.0)])
def test_both_together_hold_the_truth_at_least_95_times_in_100_whichever_chance_is_larger(deviations):
    """Three standard errors below 0.95 are 0.92; far above it where seeds differ on videos, which is counted twice."""
    assert covered(5, 100, deviations, half="both") > 0.92
