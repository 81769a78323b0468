"""The time grid against a plain reading of its formula, and against frames really decoded."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lofi_tal.errors import LofiError
from lofi_tal.snippets import SnippetGrid, clip_times
from lofi_tal.video import decode_frames, probe_video, write_video


def plain_indices(L: int, T: int, r: float, F: int) -> list[list[int]]:
    """Return frame numbers, one by one from the formula."""
    rows = []
    for i in range(L):
        centre = (i + 0.5) * F / L - 0.5
        places = [centre + r * (k - (T - 1) / 2) for k in range(T)]
        rows.append([min(max(math.floor(place + 0.5), 0), F - 1) for place in places])
    return rows


@given(
    L=st.integers(1, 120), T=st.integers(1, 16), r=st.sampled_from([1, 2, 8, 7.5]), F=st.integers(1, 30000),
    fps=st.floats(2, 60),
)  # fmt: skip
def test_grid_is_the_formula(L, T, r, F, fps):
    times = SnippetGrid(L, T, r).times(F / fps, F)
    assert times.shape == (L, T)
    assert times.dtype == np.float64
    np.testing.assert_array_equal(np.floor(times * fps).astype(int), plain_indices(L, T, r, F))
    middle = times * fps - np.floor(times * fps)
    np.testing.assert_allclose(middle, 0.5, atol=1e-6)  # half a frame of room on both sides


def test_known_grid():
    """By hand: F = 6400, L = 100: centres 31.5, 95.5, …; the first snippet takes frames 3.5, 11.5, … (half up)."""
    times = SnippetGrid(100).times(6400.0, 6400)
    np.testing.assert_array_equal(times[0] - 0.5, [4, 12, 20, 28, 36, 44, 52, 60])
    np.testing.assert_array_equal(times[99, -1] - 0.5, 6336 + 60)


@given(st.integers(1, 10), st.integers(1, 5000))
def test_fewer_snippets_show_the_same_clip_around_their_centre(factor, F):
    """T-LoFi takes fewer snippets; their frames lie no further apart."""
    few = SnippetGrid(10).times(float(F), F)
    many = SnippetGrid(10 * (2 * factor + 1)).times(float(F), F)
    np.testing.assert_array_equal(few, many[factor :: 2 * factor + 1])


def test_short_video_repeats_its_edges():
    times = SnippetGrid(4).times(1.0, 5)
    assert times.min() == pytest.approx(0.1)
    assert times.max() == pytest.approx(0.9)
    assert SnippetGrid(3).times(0.04, 1).tolist() == [[0.02] * 8] * 3


@pytest.mark.parametrize("fps", [25, 29.97, 7])
def test_decoding_the_grid_gives_the_rounded_frames(tmp_path, fps):
    def picture(number):
        return np.full((16, 16, 3), number, np.uint8)

    write_video(tmp_path / "a.mp4", (picture(2 * i) for i in range(120)), fps=fps, crf=0)
    info = probe_video(tmp_path / "a.mp4")
    times = SnippetGrid(10, 8, 3).times(info.duration, info.frames)
    shown = decode_frames(tmp_path / "a.mp4", times.reshape(-1)).frames.mean((1, 2, 3)) / 2
    np.testing.assert_allclose(shown.reshape(10, 8), plain_indices(10, 8, 3, 120), atol=1)
    exact = np.rint(decode_frames(tmp_path / "a.mp4", times.reshape(-1)).times * info.fps)
    np.testing.assert_array_equal(exact.reshape(10, 8), plain_indices(10, 8, 3, 120))


def test_dense_clip_is_a_window_from_the_earliest_to_the_latest():
    for start, first in ((0.0, 0), (1.0, 36), (0.5, 18)):
        times = clip_times(100.0, 100, start=start)
        np.testing.assert_array_equal(times - 0.5, first + 8 * np.arange(8))


def test_clip_shorter_than_its_window_repeats_the_last_frame():
    for start in (0.0, 0.7, 1.0):
        np.testing.assert_array_equal(clip_times(20.0, 20, start=start) - 0.5, [0, 8, 16, 19, 19, 19, 19, 19])


@given(start=st.floats(0, 1), F=st.integers(1, 500), T=st.integers(1, 16))
def test_uniform_clip_takes_one_frame_out_of_each_part(start, F, T):
    numbers = clip_times(float(F), F, frames=T, start=start, sampling="uniform") - 0.5
    parts = np.arange(T + 1) * F / T
    assert (numbers >= np.floor(parts[:-1])).all()
    assert (numbers <= parts[1:]).all()
    assert ((numbers >= 0) & (numbers < F)).all()


def test_uniform_clip_in_the_middle_is_that_of_public_tsm():
    """Oracle: tick = F / T, frames int(tick / 2 + tick · k) (public TSM code, validation)."""
    for F in (8, 50, 77, 301):
        expected = [int(F / 8 / 2 + F / 8 * k) for k in range(8)]
        assert (clip_times(float(F), F, sampling="uniform") - 0.5).tolist() == expected


def test_uniform_clip_takes_a_place_for_each_part():
    numbers = clip_times(80.0, 80, start=np.linspace(0, 0.99, 8), sampling="uniform") - 0.5
    np.testing.assert_array_equal(numbers, 10 * np.arange(8) + np.floor(10 * np.linspace(0, 0.99, 8)))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: SnippetGrid(0), "snippets=0"),
        (lambda: SnippetGrid(1, frames=0), "frames=0"),
        (lambda: SnippetGrid(1, stride=0.5), "stride=0.5"),
        (lambda: SnippetGrid(1, stride=math.nan), "stride=nan"),
        (lambda: SnippetGrid(1).times(0.0, 5), "nothing to sample"),
        (lambda: SnippetGrid(1).times(1.0, 0), "nothing to sample"),
        (lambda: clip_times(1.0, 5, start=1.5), "start=1.5"),
        (lambda: clip_times(1.0, 5, start=math.nan), "start=nan"),
        (lambda: clip_times(1.0, 5, start=[0.1, 0.2]), "one number"),
        (lambda: clip_times(1.0, 5, start=[0.1, 0.2], sampling="uniform"), "shape"),
        (lambda: clip_times(1.0, 5, sampling="dens"), "Did you mean 'dense'"),
    ],
)
def test_mistakes_are_said(call, said):
    with pytest.raises(LofiError, match=said):
        call()
