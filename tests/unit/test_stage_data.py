"""What the stages feed on: orders, crops and splits are functions of their seed and lose nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from lofi_tal.errors import LofiError, RunError
from lofi_tal.fidelity import Fidelity
from lofi_tal.stages.data import (
    Sample,
    StepRequests,
    TruthVideo,
    VideoFile,
    collate,
    crop,
    epoch_batches,
    make_loader,
    multi_scale_crop,
    split_selection,
)
from lofi_tal.stages.lofi import class_loss

FULL = Fidelity("full", 4, 16)


def video(number, label):
    file = VideoFile(Path(f"{number}.mp4"), str(number), 10.0, 100)
    labels = torch.tensor([label] if label is not None else [], dtype=torch.long)
    return TruthVideo(str(number), file, 10.0, torch.zeros(len(labels), 2), labels)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 3))
def test_an_epoch_visits_every_item_once(count, batch, seed):
    batches = epoch_batches(count, batch, seed, epoch=1)
    assert sorted(index for indices in batches for index in indices) == list(range(count))
    sizes = [len(indices) for indices in batches]
    assert len(batches) == -(-count // batch)
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1
    assert batches == epoch_batches(count, batch, seed, epoch=1)


@given(st.integers(1, 30), st.integers(1, 6), st.integers(1, 3), st.integers(0, 40), st.integers(1, 3))
def test_requests_go_on_at_any_step_and_ranks_share_a_batch(count, batch, epochs, start, ranks):
    def requests(start, rank=0, ranks=1):
        options = {"count": count, "batch": batch, "epochs": epochs, "seed": 7, "fidelity_at": lambda e, s: FULL}
        return list(StepRequests(**options, start=start, rank=rank, ranks=ranks))

    whole = requests(0)
    start = min(start, len(whole))
    assert requests(start) == whole[start:]
    if min(len(requests_) for requests_ in whole) < ranks:
        with pytest.raises(LofiError, match="cannot be spread"):
            requests(0, 0, ranks)
        return
    parts = [requests(0, rank, ranks) for rank in range(ranks)]
    for step, expected in enumerate(whole):
        together = [request for part in parts for request in part[step]]
        assert sorted(together, key=lambda r: r.index) == sorted(expected, key=lambda r: r.index)
    seeds = [request.seed for requests_ in whole for request in requests_]
    assert len(set(seeds)) == len(seeds)


@given(st.integers(16, 30), st.integers(16, 30), st.integers(0, 99))
def test_a_random_crop_is_a_part_of_the_frame_and_the_same_for_all_frames(height, width, seed):
    frames = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8).repeat(3, 0)
    view = crop(frames, 16, seed, flip=True)
    assert view.shape == (3, 16, 16, 3)
    assert (view == view[:1]).all()
    windows = np.lib.stride_tricks.sliding_window_view(frames[0], (16, 16), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
    found = (windows == view[0]).all((2, 3, 4)).any() or (windows == view[0][:, ::-1]).all((2, 3, 4)).any()
    assert found
    assert (crop(frames, 16, seed, flip=True) == view).all()


def test_the_centre_view_is_the_centre_and_never_mirrored():
    frames = np.arange(20 * 18, dtype=np.uint8).reshape(1, 20, 18, 1).repeat(3, 3)
    assert (crop(frames, 16, None, flip=True) == frames[:, 2:18, 1:17]).all()


@given(st.integers(0, 200))
def test_a_multi_scale_crop_has_the_size_asked_for(seed):
    frames = np.random.default_rng(1).integers(0, 256, (2, 22, 30, 3), dtype=np.uint8)
    frames.flags.writeable = False
    view = multi_scale_crop(frames, 19, seed, flip=True)
    assert view.shape == (2, 19, 19, 3)
    assert view.dtype == torch.uint8


def test_every_class_stays_on_the_training_side_of_the_selection_split():
    videos = [video(i, i % 5) for i in range(40)] + [video(40, 9), video(41, None)]
    train, selection = split_selection(videos, 0.2, seed=0)
    assert len(train) + len(selection) == len(videos)
    assert len(selection) == round(0.2 * len(videos))
    assert {int(v.labels[0]) for v in train if len(v.labels)} == {0, 1, 2, 3, 4, 9}
    again = split_selection(videos, 0.2, seed=0)
    assert [v.video_id for v in selection] == [v.video_id for v in again[1]]
    assert split_selection(videos, 0.0, seed=0)[1] == []


def test_a_batch_keeps_what_could_be_read():
    good = Sample(3, torch.zeros(2, 4, 4, 3, dtype=torch.uint8))
    batch = collate([good, Sample(5, None, "broken")])
    assert batch.indices == [3]
    assert batch.failed == {5: "broken"}
    with pytest.raises(RunError, match="broken"):
        collate([Sample(5, None, "broken")])


class Broken(Dataset):
    """Stands for videos, some of which cannot be read or end everything."""

    def __getitem__(self, key):
        if key == "fatal":
            raise LofiError("nothing decodes here")
        return Sample(0, None, "broken") if key == "lost" else Sample(1, torch.zeros(2, 4, 4, 3, dtype=torch.uint8))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_loader_process_is_raised_as_it_is(workers):
    good = make_loader(Broken(), [["good", "lost"], ["good"]], workers)
    assert [batch.indices for batch in good] == [[1], [1]]
    for requests, message in ((["good", "fatal"], "nothing decodes here"), (["lost"], "broken")):
        loader = make_loader(Broken(), [["good"], requests], workers)
        assert next(loader).indices == [1]
        with pytest.raises(LofiError, match=message) as error:
            next(loader)
        assert "Traceback" not in str(error.value)


def test_class_loss_looks_at_snippet_centres_and_balances_background():
    """By hand: 4 snippets, class 0 covers [0.25, 0.75], so snippets 1 and 2; the others are background (class 2)."""
    right = torch.full((1, 4, 3), -20.0)
    for snippet, target in enumerate((2, 0, 0, 2)):
        right[0, snippet, target] = 20.0
    segments, labels = [torch.tensor([[0.25, 0.75]])], [torch.tensor([0])]
    assert float(class_loss(right, segments, labels)) == pytest.approx(0, abs=1e-6)
    even = torch.zeros(1, 4, 3)
    assert float(class_loss(even, segments, labels)) == pytest.approx(float(torch.log(torch.tensor(3.0))))
    one_wrong = right.clone()
    one_wrong[0, 0] = torch.tensor([20.0, -20.0, -20.0])
    assert float(class_loss(one_wrong, segments, labels)) == pytest.approx(40 / 2 / 2, rel=1e-3)
