"""One data set with every fault that files have: nothing ends a run, and everything is listed with its reason."""

import json
import os
import re
from fractions import Fraction

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from lofi_tal.cli.app import app
from lofi_tal.errors import DataError, LofiError, RunError
from lofi_tal.files import read_json
from lofi_tal.pipeline import Pipeline
from lofi_tal.video import VideoError, write_video


def pictures(count=40, height=48, width=64):
    random = np.random.default_rng(count)
    still = random.integers(0, 200, (height, width, 3), dtype=np.uint8)
    for i in range(count):
        picture = still.copy()
        picture[10:20, i % (width - 10) : i % (width - 10) + 10] = 250
        yield picture


def sound(path):
    write_video(path, pictures(), fps=10)


def cut(path, keep):
    sound(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])


def without_index(path):
    """An MP4 file as a camera leaves it that lost power: data, and no moov."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for picture in pictures():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"moov") - 4])


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


def variable_rate(path):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for i, picture in enumerate(pictures()):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = 40 * i + (i % 3) * 15 + (i // 20) * 700, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


LOST = {
    "missing": (lambda path: None, "no file"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "text": (lambda path: path.write_text("<html>404</html>\n" * 50), "not a video|text"),
    "noise": (lambda path: path.write_bytes(os.urandom(5000)), "not a video"),
    "no_index": (without_index, "cut short"),
    "audio": (only_audio, "only audio"),
    "png": (still_picture, "still picture"),
    "folder": (lambda path: path.mkdir(), "no file"),
    "pipe": (os.mkfifo, "no file"),
    "loop": (lambda path: path.symlink_to(path), "no file"),
}
FINE = {
    "one_frame": lambda path: write_video(path, pictures(1), fps=10),
    "large": lambda path: write_video(path, pictures(2, 4320, 7680), fps=10, preset="ultrafast"),
    "cut_in_data": lambda path: cut(path, 0.7),
    "variable_rate": variable_rate,
}
ODD_IDS = ("../outside", "/absolute/id", "with/slash", "line\nbreak", ".hidden")


@pytest.fixture(scope="module")
def data(benchmark_set, tmp_path_factory):
    """The tiny benchmark, every fault in both subsets, and ids that no file may be named after."""
    folder = tmp_path_factory.mktemp("faults")
    videos = folder / "videos"
    videos.mkdir()
    document = read_json(benchmark_set.annotations)
    for path in benchmark_set.videos.iterdir():
        (videos / path.name).symlink_to(path)
    label = next(iter(document["database"].values()))["annotations"][0]["label"]
    for subset in ("training", "validation"):
        for kind in (*LOST, *FINE, *ODD_IDS):
            name = f"{kind}_{subset}"
            entry = {"subset": subset, "duration": 4.0, "annotations": [{"segment": [1.0, 3.0], "label": label}]}
            document["database"][name] = entry
            make = LOST[kind][0] if kind in LOST else FINE.get(kind)
            if make is not None:
                make(videos / f"{name}.mp4")
    annotations = folder / "annotations.json"
    annotations.write_text(json.dumps(document))
    return annotations, videos


@pytest.fixture(scope="module")
def recipe(tiny_recipe, data):
    section = tiny_recipe.data.model_copy(update={"annotations": data[0], "videos": data[1], "max_lost": 0.9})
    lofi = tiny_recipe.lofi.model_copy(update={"epochs": 1})
    return tiny_recipe.model_copy(update={"data": section, "pretrain": None, "lofi": lofi, "baseline": False})


@pytest.fixture(scope="module")
def sound_recipe(tiny_recipe):
    lofi = tiny_recipe.lofi.model_copy(update={"epochs": 1})
    return tiny_recipe.model_copy(update={"pretrain": None, "lofi": lofi, "baseline": False})


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory):
    """A run during which one more file vanishes, after it was looked at."""
    output = tmp_path_factory.mktemp("runs") / "faults"
    pipeline = Pipeline(recipe, output, device="cpu", quiet=True)
    with pipeline.open():
        gone = pipeline.data.evaluation[0]
        place = recipe.data.videos / gone.file.path.name
        target = place.resolve()
        place.unlink()
        results = pipeline.run()
        place.symlink_to(target)
    return pipeline, results[0], gone.video_id


@pytest.mark.parametrize("kind", LOST)
def test_a_file_that_cannot_be_used_is_listed_with_its_reason(kind, run):
    pipeline, _, _ = run
    for subset in ("training", "validation"):
        assert re.search(LOST[kind][1], pipeline.data.failed[f"{kind}_{subset}"])


@pytest.mark.parametrize("kind", FINE)
def test_an_odd_file_takes_part(kind, run):
    pipeline, result, _ = run
    assert f"{kind}_training" in {video.video_id for video in [*pipeline.data.train, *pipeline.data.selection]}
    assert f"{kind}_validation" in pipeline.detections("lofi")
    assert f"{kind}_validation" not in result.failed


def test_a_file_that_vanishes_costs_itself(run):
    pipeline, result, gone = run
    assert "does not exist" in result.failed[gone]
    assert gone not in pipeline.detections("lofi")
    assert len(pipeline.detections("lofi")) == len(pipeline.data.evaluation) - 1


def test_no_id_writes_outside_the_run(run, data):
    pipeline, _, _ = run
    around = {path.name for path in pipeline.output.parent.iterdir()}
    assert around == {"faults"}
    assert {path.name for path in data[0].parent.iterdir()} == {"annotations.json", "videos"}


def test_the_check_finds_every_fault_and_nothing_else(data, tmp_path):
    command = ["data", "check", str(data[0]), "--videos", str(data[1]), "--json", "-q", "--workers", "2"]
    result = CliRunner().invoke(app, [*command, "--manifest", str(tmp_path / "m.jsonl")])
    assert result.exit_code == 3
    findings = json.loads(result.stdout)["findings"]
    errors = {finding["video_id"] for finding in findings if finding["severity"] == "error"}
    wanted = {f"{kind}_{subset}" for kind in (*LOST, *ODD_IDS) for subset in ("training", "validation")}
    copies = {finding["video_id"] for finding in findings if finding["kind"] == "copied-file"}
    assert errors - copies == wanted


def test_more_losses_than_allowed_stop_before_training(recipe, tmp_path):
    section = recipe.data.model_copy(update={"max_lost": 0.2})
    pipeline = Pipeline(recipe.model_copy(update={"data": section}), tmp_path, device="cpu", quiet=True)
    with pytest.raises(DataError, match=r"more than data\.max_lost=0\.2 allows; the first, missing_training"):
        pipeline.run()
    assert not (tmp_path / "lofi").exists()


def test_detecting_in_a_broken_file_is_one_line(run, data):
    _, result, _ = run
    from lofi_tal.localizer import Localizer

    localizer = Localizer.from_pretrained(result.model, device="cpu")
    for kind in ("text", "no_index", "audio", "empty"):
        with pytest.raises(VideoError) as error:
            localizer.predict(data[1] / f"{kind}_validation.mp4")
        assert "\n" not in str(error.value)
    assert len(localizer.predict(data[1] / "one_frame_validation.mp4")) >= 0


@pytest.mark.parametrize(
    "ruin",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"\0" * len(data),
        lambda data: data[:-20] + bytes([data[-20] ^ 1]) + data[-19:],
    ],
    ids=["half", "empty", "zeros", "one-bit"],
)
def test_features_that_were_cut_are_made_again(ruin, run, recipe):
    pipeline, _, _ = run
    store, videos, _ = pipeline.extract("lofi")
    path = store.path(videos[0].video_id)
    before = path.read_bytes()
    path.write_bytes(ruin(before))
    assert not store.has(videos[0])
    pipeline.extract("lofi")
    assert path.read_bytes() == before


def test_a_full_disk_stops_the_cache_and_not_the_run(sound_recipe, tmp_path, monkeypatch):
    """Entries are not written; the frames come from the files."""

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lofi_tal.video.cache.np.save", full)
    pipeline = Pipeline(sound_recipe, tmp_path, device="cpu", quiet=True)
    _, videos, _ = pipeline.extract("lofi")
    assert len(videos) > 4
    assert pipeline.cache.held_bytes() == 0


def test_a_full_disk_at_a_checkpoint_is_one_line_and_resumable(sound_recipe, tmp_path, monkeypatch):
    pipeline = Pipeline(sound_recipe, tmp_path / "full", device="cpu", quiet=True)
    with monkeypatch.context() as patch:
        patch.setattr("lofi_tal.files.os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises((RunError, LofiError), match="disk is full"):
            pipeline.optimised  # noqa: B018 - runs stages 1 and 2
    again = Pipeline(sound_recipe, tmp_path / "full", device="cpu", quiet=True, overwrite=True)
    assert (again.optimised / "encoder.safetensors").exists()


def test_a_cache_is_filled_once_and_training_finds_everything_in_it(recipe, tmp_path, monkeypatch):
    pipeline = Pipeline(recipe, tmp_path, device="cpu", quiet=True)
    videos, held, failed = pipeline.fill_cache()
    assert videos == len(pipeline.data.train) + len(pipeline.data.selection) + len(pipeline.data.evaluation)
    assert held > 0
    assert "empty_training" in failed

    def decoding(*_, **__):
        raise AssertionError("something was decoded")

    monkeypatch.setattr("lofi_tal.video.cache.decode_views", decoding)
    again = Pipeline(recipe, tmp_path, device="cpu", quiet=True)
    assert again.fill_cache()[1] == held
    again.extract("lofi")
    assert again.cache.misses == 0
