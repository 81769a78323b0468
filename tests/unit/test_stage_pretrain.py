"""Stage 1's tasks: what each shows to the classifier, and where its clips lie."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lofi_tal.data import Excerpt, TruthVideo, VideoFile, background, excerpts, whole_files_fit
from lofi_tal.errors import LofiError
from lofi_tal.snippets import pace_times
from lofi_tal.tasks import create_task, random_size


def video(segments, frames=200, duration=20.0):
    file = VideoFile(Path("a.mp4"), "stamp", duration, frames)
    labels = torch.arange(len(segments)) % 2
    return TruthVideo("a", file, torch.tensor(segments).reshape(-1, 2), labels)


def test_arrow_shows_every_clip_in_both_directions():
    frames = torch.arange(2 * 3).view(2, 3, 1, 1, 1).expand(2, 3, 4, 4, 3).to(torch.uint8)
    clips, target = create_task("arrow").examples(frames, torch.tensor([5, 6]))
    assert clips[:, :, 0, 0, 0].tolist() == [[0, 1, 2], [3, 4, 5], [2, 1, 0], [5, 4, 3]]
    assert target.tolist() == [0, 0, 1, 1]


def test_speed_shows_every_clip_at_both_paces_and_acp_its_class():
    frames = torch.arange(2 * 2 * 3).view(2, 2, 3, 1, 1, 1).expand(2, 2, 3, 4, 4, 3).to(torch.uint8)
    clips, target = create_task("speed").examples(frames, torch.tensor([5, 6]))
    assert clips[:, :, 0, 0, 0].tolist() == [[0, 1, 2], [6, 7, 8], [3, 4, 5], [9, 10, 11]]
    assert target.tolist() == [0, 0, 1, 1]
    same, numbers = create_task("acp").examples(frames[:, 0], torch.tensor([5, 6]))
    assert torch.equal(same, frames[:, 0])
    assert numbers.tolist() == [5, 6]


@given(st.integers(20, 400), st.integers(2, 10), st.integers(1, 8), st.one_of(st.none(), st.integers(0, 99)))
def test_both_paces_fit_into_the_clip_and_repeat_no_frame(num_frames, frames, stride, seed):
    if num_frames - 1 < 2.2 * (frames - 1):
        with pytest.raises(LofiError, match="too short"):
            pace_times(num_frames / 10, num_frames, frames=frames, stride=stride)
        return
    random = None if seed is None else np.random.default_rng(seed)
    times = pace_times(num_frames / 10, num_frames, frames=frames, stride=stride, random=random)
    numbers = np.rint(times * 10 - 0.5)
    assert numbers.shape == (2, frames)
    assert numbers.min() >= 0
    assert numbers.max() <= num_frames - 1
    assert (np.diff(numbers, axis=1) >= 1).all()
    own, fast = numbers[:, -1] - numbers[:, 0]
    assert fast > own or frames == 2


def test_the_centre_view_is_sped_up_by_two():
    times = pace_times(100.0, 100, frames=4, stride=4)
    assert np.diff(times, axis=1).tolist() == [[4.0] * 3, [8.0] * 3]


def test_the_random_size_stays_between_half_and_whole():
    frames = torch.randint(0, 256, (2, 3, 40, 40, 3), dtype=torch.uint8)
    sizes = set()
    for seed in range(20):
        torch.manual_seed(seed)
        scaled = random_size(frames)
        assert scaled.dtype == torch.uint8
        assert scaled.shape[:2] == (2, 3)
        sizes.add(scaled.shape[2])
    assert min(sizes) >= 20
    assert max(sizes) <= 40
    assert len(sizes) > 5


def test_segments_and_what_lies_between_become_clips():
    one = video([[0.25, 0.5], [0.4, 0.6], [0.9, 1.0]])
    clips = excerpts([one], ["a", "b"])
    assert [(c.label, c.start, c.duration, c.frames) for c in clips] == [
        ("a", pytest.approx(5.0), pytest.approx(5.0), 50),
        ("b", pytest.approx(8.0), pytest.approx(4.0), 40),
        ("a", pytest.approx(18.0), pytest.approx(2.0), 20),
    ]
    gaps = background([one], "background", least=16)
    assert [(c.label, c.start, c.frames) for c in gaps] == [
        ("background", 0.0, 50),
        ("background", pytest.approx(12.0), 60),
    ]
    assert background([one], "background", least=55)[0].frames == 60
    everything = background([video([])], "background", least=16)
    assert [(c.start, c.frames) for c in everything] == [(0.0, 200)]


def test_files_that_hold_several_clips_are_counted_once():
    file = VideoFile(Path("a.mp4"), "stamp", 20.0, 200)
    clips = [Excerpt(file, "a", start, 1.0, 10) for start in (0.0, 5.0, 9.0)]
    size = 200 * (32 * 8 / 7) ** 2 * 4 / 3 * 3
    assert whole_files_fit(clips, 32, size + 1)
    assert not whole_files_fit(clips, 32, size - 1)
