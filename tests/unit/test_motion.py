"""Motion energy: a video in which something moves for some seconds gives those seconds, a still one gives nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lofi_tal.data import SnippetDataset, TruthVideo, video_files
from lofi_tal.evaluation import MotionEnergy, floor_scores, ground_truth_of, moving_spans
from lofi_tal.evaluation.matching import pairwise_tiou
from lofi_tal.fidelity import Fidelity
from lofi_tal.segments import Segments
from lofi_tal.snippets import Windows
from lofi_tal.stages.motion import motion_energy, motion_of
from lofi_tal.video import FrameCache, VideoManifest, write_video

RATE, SECONDS = 10, 20
MOVES = 6.0, 13.0


def pictures(moves):
    """Return grey pictures in which a square moves from one second to another."""
    frames = np.full((RATE * SECONDS, 48, 64, 3), 90, np.uint8)
    for number, frame in enumerate(frames):
        shift = 4 * (number % 8) if moves and moves[0] <= number / RATE < moves[1] else 0
        frame[10:30, 10 + shift : 30 + shift] = 220
    return frames


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motion")
    paths = {name: folder / f"{name}.mp4" for name in ("moving", "still")}
    for name, moves in (("moving", MOVES), ("still", None)):
        write_video(paths[name], pictures(moves), fps=RATE)
    files, failed = video_files(paths, VideoManifest(None))
    assert not failed
    none = torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)
    return [TruthVideo(name, file, *none) for name, file in files.items()]


def energies(videos, path=None, frames=4, windows=None):
    dataset = SnippetDataset(videos, frames=frames, stride=1, cache=FrameCache(None, 0))
    windows = windows or Windows(40)
    return motion_of(
        path, dataset, windows=windows, fidelity=Fidelity("full", windows.count, 32), workers=0, quiet=True
    )


def test_what_moves_for_some_seconds_is_the_best_segment_and_a_still_video_has_none(videos):
    found = energies(videos)
    spans, score = moving_spans(found["moving"])
    assert (found["moving"].start, found["moving"].end) == (0.0, SECONDS)
    assert pairwise_tiou(spans[:1], np.array([MOVES]))[0] > 0.85
    assert (np.diff(score) <= 0).all()
    assert 0 <= score[-1] <= score[0] <= 1
    assert len(moving_spans(found["still"])[0]) == 0


def test_a_video_in_windows_has_the_same_energies(videos):
    """A window of 5 s with 10 snippets is the same grid as 40 snippets of the 20 s."""
    whole, cut = energies(videos[:1]), energies(videos[:1], windows=Windows(10, 5.0))
    np.testing.assert_allclose(cut["moving"].energy, whole["moving"].energy)


def test_energies_are_mean_differences_in_grey_levels():
    frames = torch.zeros(2, 3, 16, 16, 3, dtype=torch.uint8)
    frames[0, 1:, :, :8] = 100  # half of the picture, once in two steps
    frames[1, 1] = 30  # all of it, there and back
    assert motion_energy(frames)[:, 0].tolist() == [25.0, 30.0]


def test_energies_are_kept_line_by_line_and_a_damaged_line_is_made_again(videos, tmp_path):
    path = tmp_path / "motion.jsonl"
    first = energies(videos, path)
    lines = path.read_text().splitlines()
    assert len(lines) == 2
    path.write_text(f"{lines[0]}\n{lines[1][:20]}")
    again = energies(videos, path)
    assert path.read_text().splitlines() == [lines[0], lines[1][:20], lines[1]]
    for name, one in first.items():
        np.testing.assert_array_equal(one.energy, again[name].energy)
    assert energies(videos, path, frames=1) == {}


def test_files_that_are_known_are_not_read(videos, tmp_path, monkeypatch):
    path = tmp_path / "motion.jsonl"
    energies(videos, path)
    monkeypatch.setattr(SnippetDataset, "read", lambda *_: pytest.fail("a video is read again"))
    assert set(energies(videos, path)) == {"moving", "still"}


def test_a_video_that_moves_evenly_is_one_segment():
    spans, score = moving_spans(MotionEnergy(2.0, 6.0, np.full(8, 51.0)))
    assert spans.tolist() == [[2.0, 6.0]]
    assert score.tolist() == [0.0]


def test_the_floor_is_perfect_where_actions_are_all_that_moves():
    """The true segment of each video comes first; the others of its levels are the same."""
    motion = {name: MotionEnergy(0.0, 20.0, np.repeat([0.0, 40.0, 0.0], [10, 6, 4])) for name in ("a", "b")}
    spans = moving_spans(motion["a"])[0]
    truth = ground_truth_of([
        Segments(name, [spans[0, 0]], [spans[0, 1]], ("run",), [1.0], duration=20.0) for name in motion
    ])  # fmt: skip
    training = [Segments("t", [0], [6], ("run",), [1.0])]
    floors = floor_scores(truth, training, motion=motion)
    assert [one.average_mAP for one in floors["motion energy"].values()] == [1.0] * 3
    assert set(floor_scores(truth, training)) == {"whole video", "grid"}
    one = floor_scores(truth, training, motion={"a": motion["a"]})  # the other video has no segments
    assert one["motion energy"]["oracle"].average_mAP == pytest.approx(0.5)
