"""Windows: they cover every video, share one snippet grid, and leave no seams in what is detected."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lofi_tal.config import DetectSection
from lofi_tal.data import (
    Request,
    SnippetDataset,
    TruthVideo,
    VideoFile,
    cut_actions,
    stream_snippets,
    training_windows,
    within,
)
from lofi_tal.errors import DataError, LofiError
from lofi_tal.features import window_features
from lofi_tal.fidelity import Fidelity
from lofi_tal.heads import Proposals
from lofi_tal.snippets import SnippetGrid, Window, Windows
from lofi_tal.stages.localise import localise, merge_windows, suppress
from lofi_tal.video import FrameCache, probe_video, write_video

windows_of = st.builds(Windows, st.integers(2, 60), st.floats(1, 50), st.floats(0, 0.95))


@given(windows_of, st.floats(0.1, 2000))
def test_windows_cover_a_video_and_stay_inside_it(windows, duration):
    count = windows.snippets(duration)
    assert count == pytest.approx(duration * windows.count / windows.seconds, abs=0.51) or count == 1
    cut = windows.cut(count)
    assert {int(i) for window in cut for i in window.snippets} == set(range(count))
    assert cut[0].first == 0
    assert all(window.count == windows.count and window.first >= 0 for window in cut)
    assert cut[-1].first + cut[-1].count == max(count, windows.count)  # none looks beyond the end if it need not
    steps = np.diff([window.first for window in cut])
    assert (steps > 0).all()
    assert (steps <= max(1, round((1 - windows.overlap) * windows.count))).all()
    pieces = windows.pieces(count)
    assert [int(i) for piece in pieces for i in piece.snippets] == list(range(count))


def test_known_windows():
    windows = Windows(count=8, seconds=16.0, overlap=0.5)
    assert windows.snippets(50.0) == 25
    assert [window.first for window in windows.cut(25)] == [0, 4, 8, 12, 16, 17]
    assert [window.first for window in windows.cut(8)] == [0]
    assert windows.cut(3) == [Window(0, 8, 3)]
    assert windows.cut(3)[0].snippets.tolist() == [0, 1, 2, 2, 2, 2, 2, 2]
    assert Windows(count=8).snippets(50.0) == 8
    assert Windows(count=8).cut(8) == [Window(0, 8, 8)]


@pytest.mark.parametrize("settings", [{"seconds": 0.0}, {"seconds": float("nan")}, {"overlap": 1.0}, {"overlap": -0.1}])
def test_windows_that_cannot_be_are_refused(settings):
    with pytest.raises(LofiError):
        Windows(count=8, **settings)


@given(windows_of, st.integers(1, 5000), st.sampled_from([10, 25, 29.97]), st.integers(1, 8))
def test_a_window_takes_the_frames_of_its_snippets_in_the_video(windows, frames, fps, ratio):
    duration = frames / fps
    count = windows.snippets(duration)
    video = SnippetGrid(count, 4, 2).times(duration, frames)
    for window in windows.cut(count):
        full = SnippetGrid(windows.count, 4, 2).times(duration, frames, window)
        np.testing.assert_array_equal(full, video[window.snippets])
        low = SnippetGrid(max(1, windows.count // ratio), 4, 2).times(duration, frames, window)
        assert (low >= full.min() - 1e-9).all()
        assert (low <= full.max() + 1e-9).all()


@given(st.integers(1, 100), st.integers(1, 100), st.integers(1, 5000))
def test_the_whole_video_as_a_window_is_the_plain_grid_to_the_bit(count, low, frames):
    grid = SnippetGrid(low, 4, 8)
    plain = grid.times(frames / 25, frames)
    np.testing.assert_array_equal(grid.times(frames / 25, frames, Window(0, count, count)), plain)


def truth(duration, spans, path=Path("video.mp4"), frames=1000):
    segments = torch.tensor(spans, dtype=torch.float32).reshape(-1, 2) / duration
    labels = torch.arange(len(segments))
    return TruthVideo("video", VideoFile(path, "stamp", duration, frames), segments, labels)


def test_training_windows_show_an_action_whole_and_keep_half_of_a_cut_one():
    """By hand: windows of 10 s at 0, 5, 10, ... 30 s of a 40-s video."""
    video = truth(40.0, [[2, 4], [8, 11], [14, 21], [39, 40]])
    found = {w.window.first: w for w in training_windows([video], Windows(count=10, seconds=10.0))}
    assert sorted(found) == [0, 5, 30]  # 10: shows 6 of 7 s of the third and a third of the second, so nothing whole
    assert found[0].labels.tolist() == [0, 1]  # two thirds of the second are visible
    np.testing.assert_allclose(found[0].segments, [[0.2, 0.4], [0.8, 1.0]], atol=1e-6)
    assert found[5].labels.tolist() == [1]  # 1 of 7 s of the third is too little
    assert found[30].labels.tolist() == [3]
    assert len({w.name for w in found.values()}) == 3
    assert cut_actions([video], Windows(count=10, seconds=10.0)) == 1  # the third
    assert training_windows([video], Windows(count=10)) == [video]
    assert cut_actions([video], Windows(count=10)) == 0
    with pytest.raises(DataError, match="longest actions"):
        training_windows([truth(40.0, [[5, 35]])], Windows(count=10, seconds=10.0))


@pytest.fixture(scope="module")
def moving_video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "moving.mp4"
    frames = np.random.default_rng(0).integers(0, 256, (60, 3, 4, 3), dtype=np.uint8).repeat(16, 1).repeat(16, 2)
    write_video(path, frames, fps=10)
    info = probe_video(path)
    return VideoFile(path, "stamp", info.duration, info.frames)


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_streamed_snippets_are_those_of_one_read_and_windows_slice_them(moving_video, at_once):
    windows = Windows(count=6, seconds=2.0)
    count = windows.snippets(moving_video.duration)
    assert count == 18
    pieces = list(stream_snippets(moving_video, SnippetGrid(count, 4, 3), 32, at_once=at_once))
    assert {len(piece) for piece in pieces[:-1]} <= {at_once}
    streamed = torch.cat(pieces)
    video = truth(moving_video.duration, [[0, 1]], moving_video.path, moving_video.frames)
    items = [video, *(within(video, window) for window in windows.cut(count))]
    read = SnippetDataset(items, frames=4, stride=3, cache=FrameCache(None, 0))
    assert torch.equal(read[Request(0, Fidelity("full", count, 32), None)].frames, streamed)
    for number, item in enumerate(items[1:], start=1):
        frames = read[Request(number, Fidelity("full", 6, 32), None)].frames
        assert torch.equal(frames, streamed[item.window.snippets])


def test_features_of_a_short_video_are_padded_with_their_last():
    features = torch.arange(3.0)[None]
    assert window_features(features, Window(0, 5, 3)).tolist() == [[0, 1, 2, 2, 2]]
    assert window_features(features, Window(0, 3, 3)) is features
    assert window_features(features, None) is features


class RunHead(torch.nn.Module):
    """Knows the answer: a run of equal non-zero features is an action, proposed with that number as its score."""

    def __init__(self, noise=0.0, labelled=False):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))
        self.noise, self.labelled = np.random.default_rng(0), labelled
        self.spread = noise

    def forward(self, features):
        return features

    def proposals(self, outputs, preset):
        return [self._of(window[0]) for window in outputs]

    def _of(self, track):
        changes = (track[1:] != track[:-1]).nonzero()[:, 0] + 1
        edges = [0, *changes.tolist(), len(track)]
        runs = [(s, e) for s, e in itertools.pairwise(edges) if track[s] > 0]
        spans = np.array(runs, dtype=np.float64).reshape(-1, 2)
        spans += self.noise.uniform(-self.spread, self.spread, spans.shape)
        scores = torch.tensor([float(track[s]) for s, _ in runs])
        labels = torch.zeros(len(runs), dtype=torch.long) if self.labelled else None
        return Proposals(torch.from_numpy(spans / len(track)).clamp(0, 1).float(), scores, labels)


def track_of(actions, length):
    track = torch.zeros(1, length)
    for number, (start, end) in enumerate(actions):
        track[0, start:end] = 1 - number / 1000
    return track


def action_grid(random, length, longest):
    place, actions = 0, []
    while place + 1 < length:
        end = min(length, place + int(random.integers(1, longest + 1)))
        actions.append((place, end))
        place = end + int(random.integers(1, 20))
    return actions


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize(("count", "overlap"), [(64, 0.5), (64, 0.75), (50, 0.6), (80, 0.41), (64, 0.9)])
@pytest.mark.parametrize("phase", [0, 1, 17, 31])
def test_ten_minutes_of_actions_are_found_whatever_the_phase_of_the_windows(count, overlap, phase, labelled):
    """Every action once, whole, though half of them cross a window's end; 600 s at two snippets a second."""
    random = np.random.default_rng(phase)
    windows = Windows(count=count, seconds=count / 2, overlap=overlap)
    length = windows.snippets(600.0)
    longest = min(32, round(overlap * count)) - 2
    actions = [(s + phase, e + phase) for s, e in action_grid(random, length - phase, longest)]
    options = DetectSection(top_k=100)
    (found,) = localise(RunHead(labelled=labelled), [track_of(actions, length)], windows, options, batch=7)
    spans = sorted(tuple(span) for span in (found.segments.double() * length).round().int().tolist())
    assert spans == actions
    np.testing.assert_allclose(
        sorted(found.scores, reverse=True), [1 - i / 1000 for i in range(len(actions))], rtol=1e-6
    )


@given(st.integers(0, 10_000), st.floats(0, 0.95))
def test_an_action_that_windows_place_differently_does_not_fall_between_them(seed, noise):
    random = np.random.default_rng(seed)
    windows = Windows(count=32, seconds=32.0)
    actions = action_grid(random, 200, 12)
    (found,) = localise(RunHead(noise), [track_of(actions, 200)], windows, DetectSection(top_k=1000))
    spans = found.segments.double().numpy() * 200
    for action in actions:
        assert (np.abs(spans - action).max(1) <= noise + 1e-3).any()


def test_proposals_end_with_a_video_that_is_shorter_than_a_window():
    window = Window(0, 10, 4)
    seen = Proposals(
        torch.tensor([[0.1, 0.3], [0.2, 0.9], [0.2, 0.8], [0.4, 0.6], [0.5, 0.7]]),
        torch.tensor([0.1, 0.2, 0.15, 0.3, 0.4]),
    )
    merged = merge_windows([seen], [window])
    np.testing.assert_allclose(merged.segments, [[0.5, 1.0], [0.25, 0.75]], atol=1e-6)
    np.testing.assert_allclose(merged.scores, [0.2, 0.1])


def test_what_no_window_sees_whole_is_kept_as_seen():
    """An action longer than a window is proposed in parts: better than not at all."""
    windows = Windows(count=10, seconds=10.0)
    (found,) = localise(RunHead(), [track_of([(3, 37)], 40)], windows, DetectSection())
    covered = {i for s, e in (found.segments * 40).round().int().tolist() for i in range(s, e)}
    assert covered == set(range(3, 37))


def test_one_window_is_left_as_it_is_and_long_videos_keep_more():
    seen = Proposals(torch.rand(300, 2).sort(1).values, torch.rand(300))
    assert merge_windows([seen], [Window(0, 10, 10)]) is seen
    short, long = suppress([seen, seen], [1.0, 2.5], DetectSection(top_k=20))
    assert len(short.scores) == 20
    assert len(long.scores) == 50
    assert torch.equal(long.scores[:20], short.scores)


def test_voting_moves_ends_to_the_mean_of_proposals_that_agree_by_class():
    segments = torch.tensor([[0.10, 0.50], [0.12, 0.50], [0.80, 0.90], [0.11, 0.51]])
    scores, labels = torch.tensor([0.8, 0.4, 0.3, 0.7]), torch.tensor([0, 0, 0, 1])
    proposals = Proposals(segments, scores, labels)
    (plain,) = suppress([proposals], [1.0], DetectSection())
    (voted,) = suppress([proposals], [1.0], DetectSection(vote=0.9))
    assert torch.equal(voted.scores, plain.scores)
    best = int(voted.scores.argmax())
    weight = 0.4 * 0.38 / 0.40  # score · tIoU
    mean = (0.8 * segments[0] + weight * segments[1]) / (0.8 + weight)
    torch.testing.assert_close(voted.segments[best], mean)
    other = int((voted.labels == 1).nonzero())
    torch.testing.assert_close(voted.segments[other], segments[3])  # those of another class have no vote


def test_a_gate_spares_what_overlaps_little():
    proposals = Proposals(torch.tensor([[0.0, 0.5], [0.4, 0.6]]), torch.tensor([0.9, 0.8]))
    (plain,) = suppress([proposals], [1.0], DetectSection(sigma=0.4))
    (gated,) = suppress([proposals], [1.0], DetectSection(sigma=0.4, gate=(0.5, 0.9)))
    assert plain.scores[1] < 0.8
    torch.testing.assert_close(gated.scores, torch.tensor([0.9, 0.8]))
