"""What is examined once is never examined again, whatever happens in between."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lofi_tal.errors import LofiError, RunError
from lofi_tal.files import append_line
from lofi_tal.video import VideoManifest, VideoRecord, container, frame_times, manifest, watch, write_video


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number in range(3):
        frames = [np.full((32, 48, 3), 50 * number + i, np.uint8) for i in range(20)]
        write_video(folder / f"{number}.mp4", frames, fps=10)
    (folder / "broken.mp4").write_bytes(b"not a video")
    return sorted(folder.iterdir())


examine = manifest.examine


def crashing(path, decode):
    """Stand for an examination in which FFmpeg crashes on one file."""
    if path.stem == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return examine(path, decode)


def test_records_hold_what_the_files_hold(videos):
    found = VideoManifest(None).examine([*videos, videos[0].parent / "none.mp4"], decode=True)
    good = found[videos[0]]
    assert (good.duration, good.frames, good.width, good.height, good.codec) == (2.0, 20, 48, 32, "h264")
    assert good.decodable == (0.0, pytest.approx(1.9))
    assert good.damaged == ()
    assert len({record.content for record in found.values() if not record.error}) == 3
    assert "not a video" in found[videos[-1]].error
    assert "does not exist" in found[videos[0].parent / "none.mp4"].error


def test_a_later_manifest_goes_on_from_what_is_written(videos, tmp_path, monkeypatch):
    path = tmp_path / "deep" / "manifest.jsonl"
    first = VideoManifest(path).examine(videos[:2])
    path.write_text(path.read_text() + path.read_text().splitlines()[0][:40])  # a crash in the middle of a line
    seen = []
    original = manifest._examined
    monkeypatch.setattr(manifest, "_examined", lambda todo, *a: (seen.extend(todo), original(todo, *a))[1])
    again = VideoManifest(path).examine(videos)
    assert seen == videos[2:]  # what could not be used is tried again each time
    assert {name: again[name] for name in first} == first
    assert VideoManifest(path).known == {str(name): record for name, record in again.items()}
    os.utime(videos[0], (1, 1))
    assert not VideoManifest(path).examine(videos[:1])[videos[0]].tried
    assert seen[-1] == videos[0]
    VideoManifest(path).examine(videos[:1], decode=True)  # now it must be decoded as well
    count = len(seen)
    VideoManifest(path).examine(videos[:1], decode=True)
    VideoManifest(path).examine(videos[:1])
    assert len(seen) == count


def test_a_line_that_was_cut_at_any_byte_costs_at_most_itself(tmp_path):
    records = {name: VideoRecord(name, f"stamp of {name}", 1.5, 3, 4, 5) for name in ("a", "é\n", "c")}
    lines = [json.dumps(vars(record)) for record in records.values()]
    path = tmp_path / "manifest.jsonl"
    for length in range(len(lines[1]) + 1):
        path.write_text(f"{lines[0]}\n{lines[1][:length]}")
        append_line(path, lines[2])
        whole = length == len(lines[1])
        assert VideoManifest(path).known == {name: record for name, record in records.items() if whole or name != "é\n"}


def test_processes_find_the_same_and_a_crash_costs_one_file(videos, monkeypatch):
    alone = VideoManifest(None, workers=1).examine(videos, decode=True)
    assert VideoManifest(None, workers=2).examine(videos, decode=True) == alone
    monkeypatch.setattr(manifest, "examine", crashing)
    found = VideoManifest(None, workers=2).examine(videos, decode=True)
    assert "crashes FFmpeg" in found[videos[1]].error
    assert {path: record for path, record in found.items() if path != videos[1]} == {
        path: record for path, record in alone.items() if path != videos[1]
    }


def test_foreign_lines_are_not_records(tmp_path, videos):
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"path": "a"}\n[1]\n{"path": "a", "stamp": "b", "evil": 1}\n' + "[" * 10**5 + "\n\xff")
    assert VideoManifest(path).known == {}
    sound = vars(manifest.examine(videos[0], decode=True))
    for name, value in (
        *(("path", ["a"]), ("frames", "20"), ("frames", 0), ("duration", None), ("duration", float("nan"))),
        *(("error", 5), ("damaged", ["x"]), ("decodable", [0]), ("decodable", {}), ("stamp", None)),
    ):
        path.write_text(json.dumps(sound | {name: value}))
        assert VideoManifest(path).known == {}, (name, value)
    path.write_text(json.dumps(sound))
    assert len(VideoManifest(path).known) == 1
    with pytest.raises(LofiError, match="cannot be read"):
        VideoManifest(tmp_path)


def test_a_manifest_that_cannot_be_written_is_said(tmp_path, videos):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Cannot write"):
        VideoManifest(tmp_path / "file" / "m.jsonl").examine(videos[:1])


def test_records_survive_json():
    record = VideoRecord("a", "b", 1.5, 3, 4, 5, decodable=(0.0, 1.0), damaged=(0.5,))
    assert VideoRecord.from_json(vars(record) | {"decodable": [0.0, 1.0], "damaged": [0.5]}) == record


def hanging(path, decode):
    """Stand for an examination that never ends on one file."""
    if path.stem == "1":
        time.sleep(60)
    return VideoRecord(str(path), "", 1.0, 1, 4, 4)


@pytest.fixture
def impatient(monkeypatch):
    """Processes that wait one second for a sign of life."""
    if multiprocessing.get_start_method() != "fork":
        pytest.skip("processes are not forked here, and do not see what is set here")
    monkeypatch.setattr(watch, "SILENCE_SECONDS", 1.0)


@pytest.mark.parametrize(("count", "workers"), [(1, 2), (3, 2), (2, 0)])
def test_a_file_that_hangs_is_given_up(count, workers, videos, monkeypatch, impatient):
    monkeypatch.setattr(manifest, "examine", hanging)
    chosen = videos[1 : 1 + count]
    found = VideoManifest(None, workers=workers).examine(chosen)
    assert [bool(found[path].error) for path in chosen] == [True, False, False][:count]
    assert "hangs (it gave nothing for 1 s)" in found[chosen[0]].error


def test_a_file_that_takes_long_but_goes_on_is_not_given_up(videos, monkeypatch, impatient):
    def slow(*opened):
        for packet in container.packets(*opened):
            time.sleep(0.1)
            yield packet

    monkeypatch.setattr(frame_times, "packets", slow)
    assert VideoManifest(None).examine([videos[1]])[videos[1]].frames == 20  # 2 s


def test_a_process_that_was_stopped_meanwhile_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "SILENCE_SECONDS", 0.8)
    child = os.fork()
    if not child:
        watch.watch_this_process()
        with watch.reading(tmp_path):
            time.sleep(0.4)
        os._exit(7)
    time.sleep(0.2)
    os.kill(child, signal.SIGSTOP)
    time.sleep(1)
    os.kill(child, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_processes_that_examine_end_with_a_parent_that_is_killed(videos, tmp_path):
    """They hold what their parent had open, its locks too."""
    program = (
        "import sys, time; from pathlib import Path; from lofi_tal.video import VideoManifest, manifest;"
        "manifest.examine = lambda path, decode: time.sleep(600);"
        "VideoManifest(None, workers=2).examine([Path(name) for name in sys.argv[1:]])"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, *map(str, videos)])

    def children():
        return Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()

    limit = time.monotonic() + 60
    while len(children()) < 2:
        assert time.monotonic() < limit
        time.sleep(0.05)
    time.sleep(1.0)  # until they have begun
    left = children()
    parent.kill()
    parent.wait()
    while any(Path(f"/proc/{pid}/exe").exists() for pid in left):
        assert time.monotonic() < limit
        time.sleep(0.1)


def test_a_line_that_was_changed_is_as_if_it_were_not_there_and_older_lines_are_believed(videos, tmp_path):
    path = tmp_path / "manifest.jsonl"
    VideoManifest(path).examine(videos[:2])
    lines = path.read_text().splitlines()
    assert all(json.loads(line)["check"] for line in lines)
    changed = [line.replace('"duration": 2.0', '"duration": 6.0') for line in lines]
    path.write_text("\n".join([lines[0], changed[1]]) + "\n")
    assert set(VideoManifest(path).known) == {str(videos[0])}
    older = [{key: value for key, value in json.loads(line).items() if key != "check"} for line in changed]
    path.write_text("".join(json.dumps(line) + "\n" for line in older))
    assert {record.duration for record in VideoManifest(path).known.values()} == {6.0}
