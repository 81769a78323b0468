"""One data set with every fault that files have: nothing ends a run, and everything is listed with its reason.

The commands run once each, in the order in which a user would type them; the tests look at what they said and left.
"""

import errno
import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from conftest import lofi
from lofi_tal.config import FeaturesSection
from lofi_tal.errors import DataError
from lofi_tal.features import export_npy
from lofi_tal.files import file_stamp, read_json
from lofi_tal.recipes.writing import save_recipe
from lofi_tal.run import Run
from lofi_tal.stages.lofi import train_lofi
from lofi_tal.video import container, decode_frames, decode_views, frame_times, probe_video, watch, write_video

SUBSETS = ("training", "validation")
RANDOM = np.random.default_rng(0)
FREE_BOX = (8).to_bytes(4, "big") + b"free"


def pictures(count=40, height=48, width=64):
    still = RANDOM.integers(0, 200, (height, width, 3), dtype=np.uint8)
    for i in range(count):
        picture = still.copy()
        picture[10:20, i % (width - 10) : i % (width - 10) + 10] = 250
        yield picture


def encode(path, container="mp4", stamps=None, degrees=0):
    """Encode with PyAV what :func:`write_video` does not write; ``stamps`` are milliseconds."""
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream("libx264", rate=10, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        if stamps is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        if degrees:
            stream.set_display_rotation(degrees)
        for i, picture in enumerate(pictures()):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[i], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def sound(path):
    write_video(path, pictures(), fps=10)


def keep(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


def without_index(path):
    """An MP4 file as a camera leaves it that lost power: data, and no moov."""
    encode(path)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"moov") - 4])


def wiped(path):
    """An MP4 file whose index is whole and whose data are zeros, as a failed copy leaves it."""
    sound(path)
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    path.write_bytes(data[:start] + bytes(len(data) - start))


def cut_in_data(path):
    sound(path)  # its index stands in front
    keep(path, 0.7)


def cut_matroska(path):
    encode(path, "matroska")  # FFmpeg looks at the content, not at the name
    keep(path, 0.7)


def only_audio(path):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def still_picture(path):
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(next(pictures()), format="rgb24")))


def large(path):
    other = next(path.parent.glob("large_*"), None)
    if other is None:
        write_video(path, pictures(2, 4320, 7680), fps=10, preset="ultrafast")
    else:  # encoding it takes seconds: the same with an empty box, which is another content
        path.write_bytes(other.read_bytes() + FREE_BOX)


def forbidden(path):
    sound(path)
    path.chmod(0)


LOST = {
    "missing": (lambda path: None, "no (video )?file"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "text": (lambda path: path.write_text("<html>404</html>\n" * 50), "not a video|text"),
    "noise": (lambda path: path.write_bytes(RANDOM.bytes(5000)), "not a video"),
    "no_index": (without_index, "cut short"),
    "wiped": (wiped, "not one frame"),
    "audio": (only_audio, "only audio"),
    "png": (still_picture, "still picture"),
    "folder": (lambda path: path.mkdir(), "no (video )?file"),
    "pipe": (os.mkfifo, "no (video )?file"),
    "loop": (lambda path: path.symlink_to(path), "is a link that leads nowhere"),
    "dangling": (lambda path: path.symlink_to(f"/gone/{path.name}"), r"is a link that leads nowhere \(/gone/.*mp4\)"),
}
if os.geteuid():  # to the superuser nothing is forbidden
    LOST["forbidden"] = (forbidden, "cannot be read")
FINE = {
    "one_frame": lambda path: write_video(path, pictures(1), fps=10),
    "large": large,
    "cut_in_data": cut_in_data,
    "cut_matroska": cut_matroska,
    "variable_rate": lambda path: encode(path, stamps=[40 * i + i % 3 * 15 + i // 20 * 700 for i in range(40)]),
    "rotated": lambda path: encode(path, degrees=90),
    "line\nbreak": sound,
    "-o x;$(id)": sound,
    "dots..": sound,
    "n" * 200: sound,
}
SHORT = {"one_frame": 0.1, "large": 0.2}
"""Seconds of files that are shorter than 4 s."""
NO_FILE = ("../outside", "/absolute/id", "with/slash", "..", ".hidden")
"""Ids that no video file can have."""
DETECTED = [kind for kind in (*LOST, *FINE) if kind not in ("missing", "large")]


def said(result, name):
    """Return what a command said of a video."""
    return " ".join(line for line in result.stderr.splitlines() if name in line)


@pytest.fixture(scope="module")
def data(benchmark_set, tmp_path_factory):
    """The tiny benchmark with every fault in both subsets; its own files are links."""
    folder = tmp_path_factory.mktemp("faults")
    videos = folder / "videos"
    videos.mkdir()
    document = read_json(benchmark_set.annotations)
    for path in benchmark_set.videos.iterdir():
        (videos / path.name).symlink_to(path)
    label = next(iter(document["database"].values()))["annotations"][0]["label"]
    for subset in SUBSETS:
        for kind in (*LOST, *FINE, *NO_FILE):
            name = f"{kind}_{subset}"
            seconds = SHORT.get(kind, 4.0)
            segment = [seconds / 4, seconds * 3 / 4]
            entry = {"subset": subset, "duration": seconds, "annotations": [{"segment": segment, "label": label}]}
            document["database"][name] = entry
            make = LOST[kind][0] if kind in LOST else FINE.get(kind)
            if make is not None:
                make(videos / f"{name}.mp4")
    annotations = folder / "annotations.json"
    annotations.write_text(json.dumps(document))
    return annotations, videos


@pytest.fixture(scope="module")
def checked(data, tmp_path_factory):
    """`lofi data check` of the data, which leaves a manifest."""
    manifest = tmp_path_factory.mktemp("checked") / "manifest.jsonl"
    command = ["data", "check", data[0], "--videos", data[1], "--json", "-q", "--workers", "2", "--manifest", manifest]
    result = lofi(*command)
    return SimpleNamespace(status=result.exit_code, findings=json.loads(result.stdout)["findings"], manifest=manifest)


@pytest.fixture(scope="module")
def recipe(tiny_recipe, data, checked):
    changes = {"annotations": data[0], "videos": data[1], "manifest": checked.manifest, "max_lost": 0.9}
    section = tiny_recipe.data.model_copy(update=changes)
    lofi = tiny_recipe.lofi.model_copy(update={"epochs": 1})
    return tiny_recipe.model_copy(update={"data": section, "pretrain": None, "lofi": lofi, "baseline": False})


@pytest.fixture(scope="module")
def run(recipe, benchmark_set, tmp_path_factory):
    """`lofi data cache` twice and `lofi run`; when all files have been looked at, two vanish and one changes."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "recipe.yaml").write_text(save_recipe(recipe))
    found = SimpleNamespace(output=folder / "faults", decoded=[])
    options = (folder / "recipe.yaml", "-o", found.output, "-q")
    own = {path.stem: path for path in benchmark_set.videos.iterdir()}
    whole_run = Run.run

    def counted(path, views, **choices):
        found.decoded.append(path.name)
        return decode_views(path, views, **choices)

    def interfered(pipeline):
        found.pipeline, read = pipeline, pipeline.data()
        gone, found.changed = [video for video in read.train if video.video_id in own][:2]
        found.gone = [gone, next(video for video in read.evaluation if video.video_id in own)]
        for video in (*found.gone, found.changed):
            video.file.path.unlink()
        shutil.copy(own[found.gone[1].video_id], found.changed.file.path)
        found.decoded = []
        return whole_run(pipeline)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lofi_tal.video.cache.decode_views", counted)
        found.filling = lofi("data", "cache", *options)
        found.filled, found.decoded = found.decoded, []
        found.filling_again = lofi("data", "cache", *options)
        found.filled_again = found.decoded
        patch.setattr(Run, "run", interfered)
        found.running = lofi("run", *options)
    return found


@pytest.fixture(scope="module")
def detected(run, data, tmp_path_factory):
    """`lofi detect` on one file after the other, into one folder."""
    out = tmp_path_factory.mktemp("detected") / "out"
    options = ("-q", "-o", out, "-m", run.output / "arms/lofi/model")
    found = {kind: lofi("detect", *options, "--", data[1] / f"{kind}_validation.mp4") for kind in DETECTED}
    return found, out


def test_the_check_finds_every_fault_and_nothing_else(checked):
    assert checked.status == 3
    errors = {finding["video_id"] for finding in checked.findings if finding["severity"] == "error"}
    assert errors == {f"{kind}_{subset}" for kind in (*LOST, *NO_FILE) for subset in SUBSETS}


@pytest.mark.parametrize("kind", LOST)
def test_a_file_that_cannot_be_used_is_listed_with_its_reason_and_costs_only_itself(kind, checked, run):
    reason = re.compile(LOST[kind][1], re.IGNORECASE)
    for subset in SUBSETS:
        name = f"{kind}_{subset}"
        (finding,) = (finding for finding in checked.findings if finding["video_id"] == name)
        assert reason.search(finding["detail"])
        assert reason.search(said(run.filling, name))
        assert reason.search(said(run.running, f"{name} was left out"))
        assert name not in run.pipeline.detections("lofi")


@pytest.mark.parametrize("kind", FINE, ids=ascii)
def test_an_odd_file_takes_part(kind, run):
    trained = {video.video_id for video in [*run.pipeline.data().train, *run.pipeline.data().selection]}
    assert f"{kind}_training" in trained
    assert f"{kind}_validation" in run.pipeline.detections("lofi")
    assert not re.search(rf"{re.escape(kind)}_\w+ was left out", run.running.stderr)


def test_files_that_are_shorter_than_their_labels_say_are_named_before_training(run):
    assert "warning, duration-differs: cut_in_data_training, cut_matroska_training" in run.running.stderr


def test_lost_videos_give_status_4_and_are_counted(run):
    assert run.running.exit_code == 4
    lost = len(SUBSETS) * (len(LOST) + len(NO_FILE)) + len(run.gone)
    assert f"Not used: {lost} video" in run.running.stderr


def test_a_file_that_vanishes_after_it_was_looked_at_costs_itself(run):
    for video in run.gone:
        assert "does not exist" in said(run.running, video.video_id)
    assert run.gone[1].video_id not in run.pipeline.detections("lofi")
    assert list(read_json(run.output / "lofi/stage.json")["result"]["unreadable"]) == [run.gone[0].video_id]


def test_a_file_that_changes_is_read_as_it_is_and_looked_at_again_by_the_next_run(run, recipe):
    assert run.changed.video_id not in run.running.stderr
    later = Run(recipe, run.output, device="cpu", quiet=True).data()
    stamps = {video.video_id: video.file.stamp for video in [*later.train, *later.selection]}
    assert stamps[run.changed.video_id] == file_stamp(run.changed.file.path) != run.changed.file.stamp


def test_a_cache_is_filled_once_and_a_run_finds_everything_in_it(run):
    assert run.filling.exit_code == run.filling_again.exit_code == 4
    data = run.pipeline.data()
    assert set(run.filled) == {video.file.path.name for video in [*data.train, *data.selection, *data.evaluation]}
    assert run.filled_again == []
    # a file that is not there any more, or is another one, is not taken from the cache
    assert set(run.decoded) == {video.file.path.name for video in (*run.gone, run.changed)}


@pytest.mark.parametrize("kind", DETECTED, ids=ascii)
def test_detecting_gives_files_or_one_line(kind, detected):
    results, out = detected
    if kind in LOST:
        assert results[kind].exit_code == 3
        assert len(results[kind].stderr.rstrip().splitlines()) == 1
    else:
        assert results[kind].exit_code == 0
        ids = {name for path in out.glob("*.json") for name in read_json(path)["results"]}
        assert f"{kind}_validation" in ids


def test_names_of_several_lines_are_said_in_one(run, data, tmp_path):
    names = ["a\nb.mp4", "\x1b[2J\r\u2028.mp4", "\udcff.mp4"]
    result = lofi("detect", "-q", "-m", run.output / "arms/lofi/model", *(tmp_path / name for name in names))
    assert result.exit_code == 3
    shown = ("a\\nb.mp4", "\\x1b[2J\\r\\u2028.mp4", "\\udcff.mp4")
    assert result.stderr == "".join(f"lofi: {tmp_path / name}: does not exist.\n" for name in shown)
    result = lofi("detect", "-q", "-m", run.output / "arms/lofi/model", data[1] / "line\nbreak_training.mp4")
    assert "line\\nbreak_training: " in result.stderr + result.stdout


def test_files_that_cannot_be_used_cost_nothing_but_themselves(run, data, tmp_path):
    files = [data[1] / f"{kind}_training.mp4" for kind in ("dangling", "rotated", "missing", "empty")]
    result = lofi("detect", "-q", "-o", tmp_path / "out", "-m", run.output / "arms/lofi/model", *files)
    assert result.exit_code == 4
    complaints = [line for line in result.stderr.splitlines() if line.startswith("lofi: ")]
    assert [str(path) in line for path, line in zip((files[0], *files[2:]), complaints, strict=True)] == [True] * 3
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {"rotated_training"}


@pytest.mark.parametrize("others", [[], ["rotated"]])
def test_a_file_that_hangs_costs_itself(others, run, data, tmp_path, monkeypatch):
    def hanging(file, stream):
        if file.name.endswith("one_frame_training.mp4"):
            time.sleep(60)
        yield from container.packets(file, stream)

    frame_times._recent.clear()  # what this process knows of the files from tests before
    monkeypatch.setattr(frame_times, "packets", hanging)
    monkeypatch.setattr(watch, "SILENCE_SECONDS", 1.0)
    files = [data[1] / f"{kind}_training.mp4" for kind in ("one_frame", *others)]
    result = lofi("detect", "-q", "-o", tmp_path, "-m", run.output / "arms/lofi/model", *files)
    assert result.exit_code == (4 if others else 3)
    assert "hangs (it gave nothing for 1 s)" in said(result, str(files[0]))
    assert {path.stem for path in tmp_path.iterdir()} == {f"{kind}_training" for kind in others}


def test_detecting_counts_the_snippets_of_all_files(run, data):
    files = [data[1] / f"{kind}_training.mp4" for kind in ("empty", "rotated", "one_frame")]
    result = lofi("detect", "-m", run.output / "arms/lofi/model", *files)
    assert re.search(r"^examine 3/3 ", result.stderr, re.MULTILINE)
    assert re.search(r"^detect \(snippets\) 24/24 .* one_frame_training.mp4$", result.stderr, re.MULTILINE)


def test_no_id_writes_outside_its_folder(run, data, detected, tmp_path):
    assert {path.name for path in run.output.parent.iterdir()} == {"faults", "recipe.yaml"}
    assert {path.name for path in data[0].parent.iterdir()} == {"annotations.json", "videos"}
    assert [path.name for path in detected[1].parent.iterdir()] == ["out"]
    count, failed = export_npy(run.output / "arms/lofi/features", tmp_path / "deep" / "npy")
    assert not failed
    assert count == len(list((tmp_path / "deep" / "npy").iterdir()))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["npy"]


def test_a_rotated_file_is_upright(data):
    path = data[1] / "rotated_training.mp4"
    info = probe_video(path)
    assert (info.width, info.height) == (48, 64)
    assert decode_frames(path, [0.5], short_side=24).frames.shape == (1, 32, 24, 3)


def test_more_losses_than_allowed_stop_before_training(recipe, tmp_path):
    section = recipe.data.model_copy(update={"max_lost": 0.2})
    pipeline = Run(recipe.model_copy(update={"data": section}), tmp_path, device="cpu", quiet=True)
    with pytest.raises(DataError, match=r"data\.max_lost=0\.2 allows; the first, \w+: No video file for id .*`lofi"):
        pipeline.run()
    assert not (tmp_path / "lofi").exists()


@pytest.mark.parametrize(
    "ruin",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: bytes(len(data)),
        lambda data: data[:-200] + bytes(100) + data[-100:],
        lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
    ],
    ids=["cut", "empty", "zeros", "zeros-inside", "one-bit"],
)
def test_features_that_were_ruined_are_made_again(ruin, run):
    store, videos, _ = run.pipeline.extract("lofi")
    path = store.path(videos[0].video_id)
    before = path.read_bytes()
    path.write_bytes(ruin(before))
    with pytest.raises(DataError, match="run the extraction again"):
        store.read(videos[0])
    run.pipeline.extract("lofi")
    assert path.read_bytes() == before
    assert not store.has(replace(videos[0], file=replace(videos[0].file, stamp="another file")))


@pytest.fixture
def sound_recipe(tiny_recipe):
    lofi = tiny_recipe.lofi.model_copy(update={"epochs": 1})
    return tiny_recipe.model_copy(update={"pretrain": None, "lofi": lofi, "baseline": False})


def test_a_video_that_is_lost_in_stage_2_alone_is_said_and_counts(sound_recipe, benchmark_set, tmp_path, monkeypatch):
    videos = shutil.copytree(benchmark_set.videos, tmp_path / "videos")
    section = sound_recipe.data.model_copy(update={"videos": videos})
    (tmp_path / "recipe.yaml").write_text(save_recipe(sound_recipe.model_copy(update={"data": section})))
    gone = []

    def train_without_one(*arguments, **options):
        video = options["videos"].videos[0]
        gone.append(video.video_id)
        away = video.file.path.rename(tmp_path / "away")
        try:
            return train_lofi(*arguments, **options)
        finally:
            away.rename(video.file.path)

    monkeypatch.setattr("lofi_tal.run.training.train_lofi", train_without_one)
    output = tmp_path / "run"
    for _ in range(2):  # the second time from the record
        result = lofi("train", tmp_path / "recipe.yaml", "-o", output, "-q")
        assert result.exit_code == 4
        assert "does not exist" in said(result, f"lofi: {gone[0]} was left out")
        assert f"lofi: not used in training: 1 file; {output / 'lofi/stage.json'} lists all" in result.stderr
    assert len(gone) == 1


def test_unreadable_features_count_against_the_limit(sound_recipe, benchmark_set, tmp_path):
    document = read_json(benchmark_set.annotations)["database"]
    for name in document:
        np.save(tmp_path / f"{name}.npy", np.ones((12, 4), np.float32))
    section = FeaturesSection(sources=(tmp_path,))
    changed = sound_recipe.model_copy(update={"features": section, "lofi": None})
    evaluated = [name for name, entry in document.items() if entry["subset"] == "validation"]
    ruined = {tmp_path / f"{name}.npy" for name in evaluated[: len(evaluated) // 2]}
    for path in ruined:
        path.write_bytes(b"ruined")
    _, _, failed = Run(changed, tmp_path / "half", device="cpu", quiet=True).features("features")
    assert {tmp_path / f"{name}.npy" for name in failed} == ruined
    (tmp_path / f"{evaluated[-1]}.npy").write_bytes(b"ruined")
    pipeline = Run(changed, tmp_path / "more", device="cpu", quiet=True)
    with pytest.raises(DataError, match=r"features cannot be read, more than data\.max_lost=0\.5 .*npy cannot be read"):
        pipeline.run()
    assert not (tmp_path / "more" / "arms").exists()


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_stops_the_cache_and_not_the_run(sound_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("lofi_tal.video.cache.np.save", full)
    pipeline = Run(sound_recipe, tmp_path / "run", device="cpu", quiet=True)
    assert pipeline.fill_cache() == (False, {})
    _, videos, _ = pipeline.extract("lofi")
    assert len(videos) == 12
    assert pipeline.cache.held_bytes() == 0


def test_filling_stops_where_the_cache_is_full(sound_recipe, tmp_path):
    section = sound_recipe.data.model_copy(update={"cache_gib": 200_000 / 2**30})
    (tmp_path / "recipe.yaml").write_text(save_recipe(sound_recipe.model_copy(update={"data": section})))
    result = lofi("data", "cache", tmp_path / "recipe.yaml", "-o", tmp_path / "run", "-q")
    assert result.exit_code == 0
    assert "is full" in result.stderr
    assert 0 < sum(path.stat().st_size for path in (tmp_path / "run/cache").iterdir()) <= 200_000


@pytest.mark.parametrize("name", ["recipe.yaml", "started.json", "checkpoint.pt", "stage.json", "metrics.jsonl"])
def test_a_full_disk_is_one_line_and_says_how_to_go_on(name, sound_recipe, tmp_path, monkeypatch):
    (tmp_path / "recipe.yaml").write_text(save_recipe(sound_recipe))
    command = ("train", tmp_path / "recipe.yaml", "-o", tmp_path / "run", "-q")
    replace_, open_ = Path.replace, Path.open

    def full_at_the_end(path, target):
        return full() if target.name == name else replace_(path, target)

    def full_at_the_beginning(path, *options, **more):
        return full() if path.name == name and "a" in options else open_(path, *options, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full_at_the_end)
        patch.setattr(Path, "open", full_at_the_beginning)
        result = lofi(*command)
    assert result.exit_code == 1
    advice = re.fullmatch(r"lofi: The disk is full: .* run the same command again( with --resume)?\.\n", result.stderr)
    assert lofi(*command, *(advice.group(1) or "").split()[1:]).exit_code == 0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, where this user may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1500k", "none", place], check=False).returncode
    ):
        pytest.skip("this user may not mount")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_disk_that_is_really_full_or_read_only_is_one_line(sound_recipe, small_disk, tmp_path):
    (tmp_path / "recipe.yaml").write_text(save_recipe(sound_recipe))

    command = ("run", tmp_path / "recipe.yaml", "-o", small_disk / "run", "-q")
    result = lofi(*command)
    assert result.exit_code == 1
    assert re.fullmatch("lofi: The disk is full.* with --resume.\n", result.stderr)
    subprocess.run(["mount", "-o", "remount,size=50m", small_disk], check=True)
    assert lofi(*command, "--resume").exit_code == 0
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    result = lofi(*command, "--resume")
    assert result.exit_code == 1
    assert re.fullmatch("lofi: .*Read-only.*\n", result.stderr)
