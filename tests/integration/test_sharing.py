"""Processes that only see the same folders share extraction, cache, examination and detection, whoever dies."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from conftest import files_of
from lofi_tal.annotations import check_annotations, load_annotations
from lofi_tal.detection import detect_files
from lofi_tal.errors import LofiError
from lofi_tal.recipes import load_recipe
from lofi_tal.recipes.writing import save_recipe
from lofi_tal.run import Run
from lofi_tal.stages import extract
from lofi_tal.video import VideoManifest

# a server that has imported the libraries forks the workers: each starts at once
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["lofi_tal.run", "lofi_tal.recipes"])


def extract_slowly(recipe, folder, begun, allowed):
    """Extract in a worker that says when it begins a video, and waits to be allowed to do it."""
    encode = extract.encode_snippets

    def slowly(*arguments, **named):
        begun.set()
        allowed.acquire()
        time.sleep(0.2)
        return encode(*arguments, **named)

    extract.encode_snippets = slowly
    torch.set_num_threads(1)
    run = Run(load_recipe(recipe), folder, device="cpu", quiet=True, patience=60)
    with run.open():
        run.extract("lofi")


class Worker:
    """A process that extracts, and is at work until it is allowed to end a video."""

    def __init__(self, recipe, run):
        self.begun, self.allowed = SERVER.Event(), SERVER.Semaphore(0)
        self.process = SERVER.Process(target=extract_slowly, args=(recipe, run, self.begun, self.allowed))
        self.process.start()

    def allow(self, videos):
        for _ in range(videos):
            self.allowed.release()

    def ends(self):
        self.process.join(120)
        return self.process.exitcode


def command_of(*arguments):
    return [sys.executable, "-m", "lofi_tal.cli", *map(str, arguments)]


def together(*commands, timeout=300):
    """Start commands at the same time and return what each did."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(one, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for one in commands
    ]
    outputs = [process.communicate(timeout=timeout) for process in started]
    return [(process.returncode, *output) for process, output in zip(started, outputs, strict=True)]


@pytest.fixture
def run_copy(finished_run, tiny_recipe, tmp_path):
    """A finished run without its features, and its recipe."""
    run = shutil.copytree(finished_run[0].output, tmp_path / "run")
    features = run / "arms/lofi/features"
    before = files_of(features)
    shutil.rmtree(features)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(save_recipe(tiny_recipe))
    return run, recipe, features, before


def test_workers_killed_at_ten_moments_lose_nothing(run_copy):
    run, recipe, features, before = run_copy
    chance = random.Random(0)

    seen = set()
    for _ in range(5):  # two at a time, which see each other's leases; each ends one of 12 videos at most
        workers = [Worker(recipe, run), Worker(recipe, run)]
        for worker in workers:
            assert worker.begun.wait(120)
        for worker in workers:
            worker.allow(1)
        for worker in workers:
            time.sleep(chance.uniform(0, 0.4))
            worker.process.kill()
            assert worker.ends() == -signal.SIGKILL
        now = {path.name for path in features.glob("[!.]*.safetensors")}
        assert now >= seen
        seen = now
    assert seen < before.keys()
    workers = [Worker(recipe, run), Worker(recipe, run)]
    for worker in workers:
        worker.allow(len(before))
    assert [worker.ends() for worker in workers] == [0, 0]
    assert files_of(features) == before
    assert {path.name for path in features.glob("[!.]*")} == before.keys()
    assert not features.with_name("features.leases").exists()


def test_extraction_is_shared_and_says_what_cannot_be_read(run_copy, tmp_path, tiny_recipe):
    run, recipe, features, before = run_copy
    videos = shutil.copytree(tiny_recipe.data.videos, tmp_path / "videos")
    victim = sorted(videos.iterdir())[0]
    content = tiny_recipe.model_copy(update={"data": tiny_recipe.data.model_copy(update={"videos": videos})})
    recipe.write_text(save_recipe(content))
    Run(content, run, device="cpu", quiet=True).data()  # the manifest knows all files
    data = victim.read_bytes()
    stamp = victim.stat()
    victim.write_bytes(b"\0" * len(data))  # of the same size and time: seen only when it is read
    os.utime(victim, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    shutil.rmtree(run / "cache", ignore_errors=True)
    extract = command_of("extract", recipe, "-o", run, "--device", "cpu", "--share", "-q")
    results = together(extract, extract)
    assert [status for status, *_ in results] == [4, 4], results
    assert all(victim.stem in error for _, _, error in results)
    names = {path.stem for path in features.glob("*.safetensors")}
    assert names == {name.removesuffix(".safetensors") for name in before} - {victim.stem}


def test_sharing_needs_finished_stages_and_refuses_what_it_would_break(run_copy, tiny_recipe):
    run, _, _, _ = run_copy
    (run / "lofi/stage.json").unlink()
    pipeline = Run(tiny_recipe, run, device="cpu", quiet=True, patience=9)
    with pipeline.open(), pytest.raises(LofiError, match=r"no finished stage 'lofi'.*run `lofi train` first"):
        pipeline.extract("lofi")
    with pytest.raises(LofiError, match="--share and --overwrite exclude each other"):
        Run(tiny_recipe, run, device="cpu", quiet=True, patience=9, overwrite=True)


def test_a_run_that_shares_keeps_out_one_that_does_not(run_copy, tiny_recipe):
    run, _, _, _ = run_copy
    sharing = [Run(tiny_recipe, run, device="cpu", quiet=True, patience=9) for _ in range(2)]
    alone = Run(tiny_recipe, run, device="cpu", quiet=True)
    with sharing[0].open(), sharing[1].open(), pytest.raises(Exception, match="Another run is at work"):
        alone.open().__enter__()
    with alone.open(), pytest.raises(Exception, match="share with --share"):
        sharing[0].open().__enter__()


def test_detection_is_shared(finished_run, tmp_path):
    pipeline, results = finished_run
    videos = shutil.copytree(pipeline.recipe.data.videos, tmp_path / "videos")
    (videos / "broken.mp4").write_bytes(b"not a video")
    detect = command_of("detect", videos, "-m", results[-1].model, "--precision", "fp32", "-q")
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    ((status, _, _),) = together([*detect, "-o", str(alone)])
    assert status == 4
    share = [*detect, "-o", str(shared), "--share"]
    found = together(share, share)
    assert [status for status, *_ in found] == [4, 4]
    assert all("broken.mp4" in error for _, _, error in found)
    expected = {path.name: path.read_bytes() for path in alone.glob("*.json")}
    assert {path.name: path.read_bytes() for path in shared.glob("*.json")} == expected
    times = {path: path.stat().st_mtime_ns for path in shared.glob("*.json")}
    ways = {"device": "cpu", "precision": "fp32", "quiet": True, "patience": 9.0}
    ours, failed, _ = detect_files([videos], results[-1].model, out=shared, **ways)
    assert ours == []  # all is there: nothing is done again
    assert len(failed) == 1
    assert {path: path.stat().st_mtime_ns for path in shared.glob("*.json")} == times
    ours, _, _ = detect_files([videos], results[-1].model, out=shared, threshold=0.5, **ways)
    assert len(ours) == len(times)  # other results are asked for
    with pytest.raises(LofiError, match="give --out"):
        detect_files([videos], results[-1].model, **ways)


def test_examination_is_shared(benchmark_set, tmp_path):
    manifest = tmp_path / "videos.jsonl"
    check = command_of("data", "check", benchmark_set.annotations, "--videos", benchmark_set.videos, "--json", "-q")
    share = [*check, "--manifest", str(manifest), "--share"]
    results = together(share, share)
    assert [status for status, *_ in results] == [0, 0], results
    alone = check_annotations(load_annotations(benchmark_set.annotations), benchmark_set.videos).to_json()
    assert all(json.loads(output) == alone for _, output, _ in results)
    lines = [json.loads(line)["path"] for line in manifest.read_text().splitlines()]
    assert len(lines) == len(set(lines)) == len(list(benchmark_set.videos.iterdir()))
    with pytest.raises(LofiError, match="manifest that all of them see"):
        VideoManifest(None).examine([], patience=9.0)


def test_the_cache_is_filled_by_several(run_copy, tiny_recipe):
    run, recipe, _, _ = run_copy

    def entries():
        return {path.name: path.read_bytes() for path in (run / "cache").glob("*.npy")}

    shutil.rmtree(run / "cache")
    Run(tiny_recipe, run, device="cpu", quiet=True).fill_cache()
    alone = entries()
    shutil.rmtree(run / "cache")
    noted = (run / "environment.json").read_bytes()
    cache = command_of("data", "cache", recipe, "-o", run, "-q", "--share")
    results = together(cache, cache)
    assert [status for status, *_ in results] == [0, 0], results
    assert entries() == alone
    assert (run / "environment.json").read_bytes() == noted  # it trains nothing: precision and device are the run's


def test_a_video_that_vanishes_is_no_endless_loop(run_copy, tmp_path, tiny_recipe):
    """Of a file that is not there nothing can be kept, and nothing is missing either."""
    run, _, _, _ = run_copy
    videos = shutil.copytree(tiny_recipe.data.videos, tmp_path / "videos")
    shutil.rmtree(run / "cache")
    data = tiny_recipe.data.model_copy(update={"videos": videos})
    pipeline = Run(tiny_recipe.model_copy(update={"data": data}), run, device="cpu", quiet=True, patience=9)
    lost = pipeline.data().train[0]
    lost.file.path.unlink()
    with pipeline.open(trains=False):
        whole, failed = pipeline.fill_cache()
    assert whole
    assert "does not exist" in failed[lost.video_id]


def test_there_must_be_a_run_to_share(tiny_recipe, tmp_path):
    pipeline = Run(tiny_recipe, tmp_path / "typo", device="cpu", quiet=True, patience=9)
    with pytest.raises(LofiError, match="There is no run in"):
        pipeline.open().__enter__()
    assert not (tmp_path / "typo/environment.json").exists()
