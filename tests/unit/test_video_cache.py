"""The frame cache gives what decoding gives, whatever happens to its files."""

from __future__ import annotations

import os
import pickle
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from lofi_tal.errors import LofiError
from lofi_tal.video import FrameCache, VideoError, View, decode_frames, decode_views, write_video

GIB = 2**30


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cache") / "video.mp4"
    write_video(path, (np.full((48, 64, 3), 5 * i, np.uint8) for i in range(50)), fps=25)
    return path


TIMES = np.array([1.5, 0.1, 0.1, 0.9])


def same(a, b) -> bool:
    return np.array_equal(a.frames, b.frames) and np.array_equal(a.times, b.times) and a.missing == b.missing


def test_second_request_is_a_hit_and_gives_the_same(video, tmp_path):
    cache = FrameCache(tmp_path / "c", GIB)
    direct = decode_frames(video, TIMES, short_side=24)
    for _ in range(2):
        assert same(cache.frames(video, TIMES, short_side=24), direct)
    assert (cache.hits, cache.misses) == (1, 1)
    assert same(FrameCache(tmp_path / "c", GIB).frames(video, TIMES, short_side=24), direct)


def test_sorted_times_come_back_mapped_and_read_only(video, tmp_path):
    cache = FrameCache(tmp_path, GIB)
    cache.frames(video, [0.1, 0.9])
    frames = cache.frames(video, [0.1, 0.9]).frames
    assert isinstance(frames, np.memmap)
    assert not frames.flags["WRITEABLE"]


def test_repeated_times_are_stored_once(video, tmp_path):
    cache = FrameCache(tmp_path, GIB)
    cache.frames(video, np.repeat([0.1, 0.9], 50))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 3 * 48 * 64 * 3


def test_other_times_sizes_or_content_are_misses(video, tmp_path):
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(video.read_bytes())
    cache = FrameCache(tmp_path / "c", GIB)
    cache.frames(copy, TIMES)
    cache.frames(copy, TIMES, short_side=24)
    cache.frames(copy, TIMES, size=(24, 24))
    cache.frames(copy, TIMES[:2])
    os.utime(copy, ns=(0, 10**9))
    cache.frames(copy, TIMES)
    assert (cache.hits, cache.misses) == (0, 5)


@pytest.mark.parametrize(
    "ruin",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-3],
        lambda data: data[:3000] + bytes([data[3000] ^ 1]) + data[3001:],
        lambda data: b"\x93NUMPY" + bytes(500),
        lambda data: os.urandom(len(data)),
        lambda data: data[:-600] + data[-600:].replace(b"<f8", b"|O8"),
        lambda data: data.replace(b"(3, 48", b"{3, 48"),
        lambda data: data.replace(b"<f8", b"<i8"),
        lambda data: data[:5000] + bytes(2000) + data[7000:],
    ],
    ids=["empty", "half", "tail", "one-bit", "header", "noise", "object-array", "brackets", "kind", "zeros"],
)
def test_ruined_entry_is_decoded_again_and_mended(video, tmp_path, ruin):
    cache = FrameCache(tmp_path, GIB)
    direct = cache.frames(video, TIMES)
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(ruin(entry.read_bytes()))
    assert same(cache.frames(video, TIMES), direct)
    assert same(cache.frames(video, TIMES), direct)
    assert (cache.hits, cache.misses) == (1, 2)


def test_full_cache_takes_no_more_and_keeps_what_it_has(video, tmp_path):
    one = 48 * 64 * 3
    cache = FrameCache(tmp_path, 2 * one + 2500)
    for _ in range(2):
        for time_ in (0.1, 0.5, 0.9, 1.3):
            cache.frames(video, [time_])
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= cache.limit_bytes
    assert (cache.hits, cache.misses) == (2, 6)


def test_what_nobody_has_read_for_long_gives_way(video, tmp_path):
    cache = FrameCache(tmp_path, 48 * 64 * 3 + 1500)
    cache.frames(video, [0.1])
    (old,) = tmp_path.iterdir()
    ancient = time.time() - 30 * 86400
    os.utime(old, (ancient, ancient))
    cache = FrameCache(tmp_path, cache.limit_bytes)
    cache.frames(video, [0.5])
    assert not old.exists()
    cache.frames(video, [0.5])
    assert cache.hits == 1


def test_a_large_folder_is_not_listed_for_every_entry(video, tmp_path, monkeypatch):
    listings = []

    def slow(folder):
        listings.append(1)
        time.sleep(0.2)
        return iter(())

    monkeypatch.setattr(Path, "iterdir", slow)
    one = 48 * 64 * 3 + 1500
    cache = FrameCache(tmp_path, 4 * one)
    for moment in range(9):
        cache.frames(video, [moment / 5])
    assert len(listings) == 1
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 4  # its own entries count without a listing


def test_a_read_counts_as_use(video, tmp_path):
    cache = FrameCache(tmp_path, GIB)
    cache.frames(video, [0.1])
    (entry,) = tmp_path.iterdir()
    os.utime(entry, (0, 0))
    cache.frames(video, [0.1])
    assert time.time() - entry.stat().st_mtime < 100


def test_no_folder_means_no_cache(video):
    cache = FrameCache(None, GIB)
    assert same(cache.frames(video, TIMES), decode_frames(video, TIMES))
    assert (cache.hits, cache.misses) == (0, 1)


def test_limit_of_nothing_stores_nothing(video, tmp_path):
    FrameCache(tmp_path, 0).frames(video, TIMES)
    assert not list(tmp_path.iterdir())


def test_folder_that_can_no_longer_be_written_is_no_reason_to_stop(video, tmp_path):
    cache = FrameCache(tmp_path / "c", GIB)
    (tmp_path / "c").rmdir()
    (tmp_path / "c").write_text("in the way")
    assert same(cache.frames(video, TIMES), decode_frames(video, TIMES))


def test_mistakes_are_said(video, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LofiError, match="cannot be made"):
        FrameCache(tmp_path / "file" / "c", GIB)
    with pytest.raises(LofiError, match="limit_bytes=-1"):
        FrameCache(tmp_path, -1)
    with pytest.raises(VideoError, match="does not exist"):
        FrameCache(tmp_path, GIB).frames(tmp_path / "none.mp4", TIMES)


def _read(job: tuple[FrameCache, Path, float]) -> float:
    cache, video, moment = job
    return float(cache.frames(video, [moment]).frames.mean())


def test_several_processes_at_once(video, tmp_path):
    cache = pickle.loads(pickle.dumps(FrameCache(tmp_path, GIB)))
    moments = [0.1, 0.5, 0.9] * 6
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        means = list(pool.map(_read, [(cache, video, moment) for moment in moments]))
    assert means == [float(decode_frames(video, [moment]).frames.mean()) for moment in moments]
    assert len(list(tmp_path.iterdir())) == 3


def test_one_pass_serves_several_views(video, tmp_path):
    views = [View(TIMES), View(np.array([0.3, 1.9]), short_side=20), View(np.array([0.1]), size=(8, 9))]
    for view, found in zip(views, decode_views(video, views), strict=True):
        assert same(found, decode_frames(video, view.times, short_side=view.short_side, size=view.size))
    cache = FrameCache(tmp_path / "c", GIB)
    cache.frames(video, views[0].times, also=views[1:])
    for view in views[1:]:
        direct = decode_frames(video, view.times, short_side=view.short_side, size=view.size)
        assert same(cache.frames(video, view.times, short_side=view.short_side, size=view.size), direct)
    assert (cache.hits, cache.misses) == (2, 1)


def test_filling_decodes_what_is_not_there_and_nothing_else(video, tmp_path, monkeypatch):
    calls = []

    def counted(path, views, **options):
        calls.append([view.short_side for view in views])
        return decode_views(path, views, **options)

    monkeypatch.setattr("lofi_tal.video.cache.decode_views", counted)
    cache = FrameCache(tmp_path / "c", GIB)
    cache.fill(video, [View(TIMES, 16)])
    cache.fill(video, [View(TIMES, 16), View(TIMES, 20), View(TIMES, 24)])
    cache.fill(video, [View(TIMES, 24)])
    assert calls == [[16], [20, 24]]
    assert cache.held_bytes() == sum(path.stat().st_size for path in (tmp_path / "c").iterdir())


def other_cache(folder, video):
    """A cache that holds the frames of :data:`TIMES`."""
    cache = FrameCache(folder, GIB)
    return cache.frames(video, TIMES, short_side=24)


def test_what_another_cache_holds_is_not_decoded_and_outlives_it(video, tmp_path, monkeypatch):
    wanted = other_cache(tmp_path / "old", video)
    monkeypatch.setattr("lofi_tal.video.cache.decode_views", None)
    cache = FrameCache(tmp_path / "new", GIB, others=[tmp_path / "gone", tmp_path / "old"])
    assert cache.holds(video, [View(TIMES, 24)])
    assert same(cache.frames(video, TIMES, short_side=24), wanted)
    assert cache.hits == 1
    (old,), (new,) = (tmp_path / "old").iterdir(), (tmp_path / "new").iterdir()
    assert old.samefile(new)  # no room on the disk
    old.unlink()
    assert same(FrameCache(tmp_path / "new", GIB).frames(video, TIMES, short_side=24), wanted)


@pytest.mark.parametrize("reason", ["full", "no links"])
def test_what_cannot_be_linked_is_read_where_it_lies(video, tmp_path, monkeypatch, reason):
    wanted = other_cache(tmp_path / "old", video)
    monkeypatch.setattr("lofi_tal.video.cache.decode_views", None)

    def refuse(*_):
        raise OSError("another file system")

    if reason == "no links":
        monkeypatch.setattr("lofi_tal.video.cache.os.link", refuse)
    cache = FrameCache(tmp_path / "new", 10 if reason == "full" else GIB, others=[tmp_path / "old"])
    assert same(cache.frames(video, TIMES, short_side=24), wanted)
    assert not list((tmp_path / "new").iterdir())


def test_damaged_entries_of_this_and_another_cache_are_replaced(video, tmp_path):
    wanted = other_cache(tmp_path / "old", video)
    (entry,) = (tmp_path / "old").iterdir()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / entry.name).write_bytes(b"damaged")
    cache = FrameCache(tmp_path / "new", GIB, others=[tmp_path / "old"])
    assert same(cache.frames(video, TIMES, short_side=24), wanted)  # that of the other is whole
    assert entry.samefile(tmp_path / "new" / entry.name)
    for path in (entry, tmp_path / "new" / entry.name):
        path.unlink(missing_ok=True)
        path.write_bytes(b"damaged")
    again = FrameCache(tmp_path / "new", GIB, others=[tmp_path / "old"])
    assert same(again.frames(video, TIMES, short_side=24), wanted)
    assert again.misses == 1
    assert entry.read_bytes() == b"damaged"  # what belongs to another run is left alone
