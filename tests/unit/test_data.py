"""What the stages feed on: orders, crops and splits are functions of their seed and lose nothing."""

import faulthandler
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lofi_tal.data import (
    FrameDataset,
    Request,
    SnippetDataset,
    StepRequests,
    TruthVideo,
    VideoFile,
    crop,
    epoch_batches,
    make_batches,
    make_loader,
    multi_scale_crop,
    split_selection,
)
from lofi_tal.errors import LofiError, RunError
from lofi_tal.fidelity import ConstantSchedule, Fidelity
from lofi_tal.stages.end_to_end import class_loss
from lofi_tal.video import FrameCache, watch, write_video

FULL = Fidelity("full", 4, 16)


def video(number, label):
    file = VideoFile(Path(f"{number}.mp4"), str(number), 10.0, 100)
    labels = torch.tensor([label] if label is not None else [], dtype=torch.long)
    return TruthVideo(str(number), file, torch.zeros(len(labels), 2), labels)


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
        options = {"count": count, "batch": batch, "epochs": epochs, "seed": 7, "schedule": ConstantSchedule(FULL)}
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


def cut(frames, size, seed, flip, places=None):
    into = np.zeros((len(frames) if places is None else len(places), size, size, 3), dtype=np.uint8)
    crop(frames, into, seed, flip, places)
    return into


@given(st.integers(16, 30), st.integers(16, 30), st.integers(0, 99))
def test_a_random_crop_is_a_part_of_the_frame_and_the_same_for_all_frames(height, width, seed):
    frames = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8).repeat(3, 0)
    frames.flags.writeable = False
    view = cut(frames, 16, seed, True)
    assert (view == view[:1]).all()
    windows = np.lib.stride_tricks.sliding_window_view(frames[0], (16, 16), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
    found = (windows == view[0]).all((2, 3, 4)).any() or (windows == view[0][:, ::-1]).all((2, 3, 4)).any()
    assert found
    assert (cut(frames, 16, seed, True) == view).all()


def test_a_crop_mirrors_about_every_second_view_and_takes_frames_in_the_order_asked_for():
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    places = np.array([2, 0, 0, 1])
    plain = [(cut(frames, 16, seed, True, places) == frames[places]).all() for seed in range(60)]
    mirrored = [(cut(frames, 16, seed, True, places) == frames[places][:, :, ::-1]).all() for seed in range(60)]
    assert all(a != b for a, b in zip(plain, mirrored, strict=True))
    assert 20 <= sum(mirrored) <= 40


def test_the_centre_view_is_the_centre_and_never_mirrored():
    frames = np.arange(20 * 18, dtype=np.uint8).reshape(1, 20, 18, 1).repeat(3, 3)
    assert (cut(frames, 16, None, True) == frames[:, 2:18, 1:17]).all()


@given(st.integers(0, 200))
def test_a_multi_scale_crop_has_the_size_asked_for(seed):
    frames = np.random.default_rng(1).integers(0, 256, (2, 22, 30, 3), dtype=np.uint8)
    frames.flags.writeable = False
    view = multi_scale_crop(frames, 19, seed, flip=True)
    assert view.shape == (2, 19, 19, 3)
    assert view.dtype == torch.uint8


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
@pytest.mark.parametrize("snippets", [3, 40])
def test_snippets_are_the_same_with_and_without_a_cache(tmp_path, seed, snippets):
    path = tmp_path / "video.mp4"
    random = np.random.default_rng(0)
    write_video(path, random.integers(0, 256, (30, 40, 60, 3), dtype=np.uint8), fps=25)
    item = replace(video(0, 0), file=VideoFile(path, "", 1.2, 30))
    request = Request(0, Fidelity("f", snippets, 32), seed)
    caches = FrameCache(None, 0), FrameCache(tmp_path / "cache", 2**30), FrameCache(tmp_path / "cache", 2**30)
    direct, filled, cached = (
        SnippetDataset([item], frames=4, stride=2, cache=cache, flip=True)[request].frames for cache in caches
    )
    assert direct.shape == (snippets, 4, 32, 32, 3)
    assert torch.equal(direct, filled)
    assert torch.equal(direct, cached)
    assert (caches[1].misses, caches[2].hits) == (1, 1)
    assert "does not exist" in SnippetDataset(
        [replace(item, file=VideoFile(tmp_path / "none.mp4", "", 1.2, 30))], frames=4, stride=2, cache=caches[0]
    )[request].error  # fmt: skip


def test_every_class_stays_on_the_training_side_of_the_selection_split():
    videos = [video(i, i % 5) for i in range(40)] + [video(40, 9), video(41, None)]
    train, selection = split_selection(videos, 0.2, seed=0)
    assert len(train) + len(selection) == len(videos)
    assert len(selection) == round(0.2 * len(videos))
    assert {int(v.labels[0]) for v in train if len(v.labels)} == {0, 1, 2, 3, 4, 9}
    again = split_selection(videos, 0.2, seed=0)
    assert [v.video_id for v in selection] == [v.video_id for v in again[1]]
    assert split_selection(videos, 0.0, seed=0)[1] == []


def test_choices_are_made_on_videos_that_first_weights_have_not_seen():
    videos = [video(i, i % 5) for i in range(40)]
    train, selection = split_selection(videos, 0.2, seed=0)
    seen = {v.video_id for v in train}
    again = split_selection(videos, 0.2, 0, seen)
    assert [[v.video_id for v in part] for part in again] == [[v.video_id for v in part] for part in (train, selection)]
    more = [video(i, i % 5) for i in range(60)]
    chosen = {v.video_id for v in split_selection(more, 0.2, 0, seen)[1]}
    assert len(chosen) == 12
    assert not chosen & seen
    every = {v.video_id for v in more}
    assert len(split_selection(more, 0.2, 0, every)[1]) == 12  # there are no others


class Numbers(FrameDataset):
    """Stands for videos: every pixel of item i is i; those in ``lost`` cannot be read, ``fatal`` ends everything."""

    def __init__(self, count=6, lost=(), fatal=None):
        self.count, self.lost, self.fatal = count, set(lost), fatal

    def __len__(self):
        return self.count

    def name(self, index):
        return f"video {index}"

    def target(self, index):
        return index

    def shape(self, fidelity):
        return (2, fidelity.size, fidelity.size, 3)

    def read(self, request, into):
        if request.index == self.fatal:
            raise LofiError("nothing decodes here")
        if request.index in self.lost:
            return "broken"
        into.fill_(request.index)
        return ""


def asked(*indices, seed=1):
    return [Request(index, FULL, seed) for index in indices]


@given(lost=st.sets(st.integers(0, 5)), indices=st.permutations(range(6)), count=st.integers(1, 6))
def test_a_batch_keeps_what_can_be_read_and_is_never_empty(lost, indices, count):
    videos, requests = Numbers(lost=lost), asked(*indices[:count])
    if len(lost) == 6:
        with pytest.raises(RunError, match="Not one of 6 videos can be read; the first: broken"):
            videos.batch(requests)
        return
    batch = videos.batch(requests)
    good = [index for index in indices[:count] if index not in lost]
    if good:
        assert batch.indices == good
        assert batch.failed == {f"video {index}": "broken" for index in indices[:count] if index in lost}
    else:  # the next one after the last that was asked for
        last = indices[count - 1]
        assert batch.indices == [next(i % 6 for i in range(last, last + 6) if i % 6 not in lost)]
        assert set(batch.failed) <= {f"video {index}" for index in lost}
    assert batch.frames.shape == (len(batch.indices), 2, 16, 16, 3)
    assert batch.frames[:, 0, 0, 0, 0].tolist() == batch.indices
    assert (batch.frames == batch.frames[:, :1, :1, :1, :1]).all()


def test_a_centre_view_has_no_stand_in():
    batch = Numbers(lost={1, 2}).batch(asked(1, 2, seed=None))
    assert (batch.indices, batch.failed) == ([], {"video 1": "broken", "video 2": "broken"})
    assert len(batch.frames) == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_loader_process_is_raised_as_it_is(workers):
    loader = make_loader(Numbers(fatal=2).batch, [asked(1), asked(3, 2)], workers)
    assert next(loader).indices == [1]
    with pytest.raises(LofiError, match="nothing decodes here") as error:
        next(loader)
    assert "Traceback" not in str(error.value)


class Files(Numbers):
    """Stands for video files: of those in ``lost`` nothing comes, for longer than a test lasts."""

    def read(self, request, into):
        path = Path(f"{request.index}.mp4")
        if reason := watch.given_up(path):
            return reason
        with watch.reading(path):
            if request.index in self.lost:
                time.sleep(100)
        into.fill_(request.index)
        return ""


def test_a_file_that_hangs_in_a_loader_process_costs_itself(monkeypatch):
    """In batches with others and alone, twice at the same time; everything else comes in its order."""
    if multiprocessing.get_start_method() != "fork":
        pytest.skip("processes are not forked here, and do not see what is set here")
    monkeypatch.setattr(watch, "SILENCE_SECONDS", 0.5)
    wanted = [asked(0), asked(1, 2), asked(3), asked(4, 5), asked(2), asked(0)]
    batches = list(make_batches(Files(lost={1, 3}), wanted, 2, count=2, fidelities=[FULL]))
    assert [batch.indices for batch in batches] == [[0], [2], [4], [4, 5], [2], [0]]
    assert [list(batch.failed) for batch in batches] == [[], ["video 1"], ["video 3"], [], [], []]
    assert batches[1].failed["video 1"] == "1.mp4: hangs (it gave nothing for 0.5 s)."


class Fatal(Numbers):
    """Stands for video files: those in ``lost`` end every process that reads them, those in ``once`` the first."""

    def __init__(self, folder, number=signal.SIGKILL, once=(), **options):
        super().__init__(**options)
        self.folder, self.number, self.once = folder, number, set(once)

    def read(self, request, into):
        path = self.folder / f"{request.index}.mp4"
        if reason := watch.given_up(path):
            return reason
        with watch.reading(path):
            into.fill_(request.index)
            if request.index in self.lost or (request.index in self.once and not path.exists()):
                path.touch()
                faulthandler.disable()
                os.kill(os.getpid(), self.number)
                time.sleep(100)
        return ""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGHUP])
def test_a_loader_process_that_dies_is_replaced_and_a_file_that_two_die_of_is_lost(number, tmp_path):
    """Everything else comes in its order, what was in the same batch and what the process had been given ahead, too."""
    wanted = [asked(0), asked(1, 2), asked(3), asked(4, 5), asked(2), asked(0)]
    videos = Fatal(tmp_path, number, lost={1, 3}, once={0, 5})
    batches = list(make_batches(videos, wanted, 2, count=2, fidelities=[FULL]))
    assert [batch.indices for batch in batches] == [[0], [2], [4], [4, 5], [2], [0]]
    assert [list(batch.failed) for batch in batches] == [[], ["video 1"], ["video 3"], [], [], []]
    assert "1.mp4: crashes FFmpeg, or what reads it was ended" in batches[1].failed["video 1"]
    assert number.name in batches[1].failed["video 1"]


def die(key):
    os._exit(9)


def test_processes_that_die_of_no_file_end_in_one_line():
    with pytest.raises(RunError, match=r"ended 3 times at the same place.* \(exit status 9\)"):
        list(make_loader(die, [1, 2, 3], 2))
    assert not multiprocessing.active_children()


def test_an_idle_loader_process_that_is_killed_is_not_missed():
    loader = make_loader(Numbers().batch, (asked(index) for index in range(6)), 2)
    found = [next(loader).indices]
    for _ in range(3):
        time.sleep(0.2)  # until they have all that they are given
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
        found.append(next(loader).indices)
    found += [batch.indices for batch in loader]
    assert found == [[index] for index in range(6)]


def test_no_process_stays_when_the_caller_stops():
    loader = make_loader(Numbers().batch, (asked(0) for _ in range(1000)), 2)
    next(loader)
    assert multiprocessing.active_children()
    loader.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_batch_holds_until_the_next_but_one_is_asked_for(workers):
    """Through more batches than there is memory for at once, of changing size, with lost items among them."""
    small, large = Fidelity("s", 4, 16), Fidelity("l", 4, 32)
    wanted = [
        [Request(index, large if step % 3 else small, 1) for index in (step % 6, (step + 1) % 6, 2)[: 1 + step % 3]]
        for step in range(25)
    ]
    batches = make_batches(Numbers(lost={2}), wanted, workers, count=3, fidelities=[small, large])
    before = None
    for requests, batch in zip(wanted, batches, strict=True):
        for held in (before, batch) if before else (batch,):
            assert (held.frames == torch.tensor(held.indices).view(-1, 1, 1, 1, 1)).all()
        assert batch.frames.shape == (len(batch.indices), 2, requests[0].fidelity.size, requests[0].fidelity.size, 3)
        assert set(batch.indices) - {3} == {request.index for request in requests} - {2, 3}
        time.sleep(0.01)  # the processes write what comes next
        before = batch


def test_too_little_shared_memory_is_said_before_anything_breaks(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=64 * 2**20))
    with pytest.raises(RunError, match=r"need 4\.50 GiB .* has 0\.06 GiB left: lower data\.workers"):
        next(make_batches(Numbers(), [asked(1)], 2, count=128, fidelities=[Fidelity("x", 1, 1024)]))


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
