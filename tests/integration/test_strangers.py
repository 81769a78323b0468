"""A stranger's files are data: whatever they say, the answer is a result or one line, and nothing else happens.

The files are made by ``tests/hostile``, one fault each; a guard notices what else a case does.
"""

import contextlib
import json
import os
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from conftest import lofi
from lofi_tal.errors import DataError, LofiError
from lofi_tal.features import PublishedFeatures
from lofi_tal.localizer import Localizer
from lofi_tal.recipes import parse_yaml
from lofi_tal.reproduce.result_file import checked_result
from lofi_tal.run.folder import RunFolder
from lofi_tal.shipped import DEMO_VIDEO
from tests.hostile import arrays, models, recipes
from tests.hostile.guards import BYTES, guarded

PRECIOUS = "precious\nlines of the user\n"
WERE_HERE = Path("/tmp/lofi-strangers-were-here")
LINE = 1100  # characters: a message and the name of its file


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return models.base_folder(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def canary(tmp_path):
    """A file beside the only folder in which a case may write."""
    path = tmp_path / "canary"
    path.write_text(PRECIOUS)
    return path


def load(folder):
    """Return why a model folder is refused; None if it can be used, which is tried."""
    try:
        localizer = Localizer.from_pretrained(folder, device="cpu", precision="fp32")
        count = localizer.windows.snippets(9.0)
        localizer.predict_features(torch.zeros(localizer.head.in_channels, min(count, 64)), 9.0)
    except LofiError as error:
        return str(error)
    return None


def read_features(path):
    """Return the features ``(C, 12)`` of the one video in a feature file."""
    features = PublishedFeatures([path.parent], 12)
    features.settle({"v": 5.0})
    return features.read("v")


def check_line(message):
    assert 0 < len(message) <= LINE
    assert "Traceback" not in message


def write_outside(inside, canary):
    (inside.parent / "outside").write_text("")


def write_through_a_link(inside, canary):
    (inside / "link").symlink_to(inside.parent / "other")
    (inside / "link").write_text("")


def read_the_canary(inside, canary):
    h5py.File(canary, "r")  # opened by a library in C


def take_memory(inside, canary):
    np.ones(BYTES // 7)


@pytest.mark.parametrize("act", [write_outside, write_through_a_link, read_the_canary, take_memory])
def test_the_guard_notices(act, tmp_path, canary):
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(AssertionError), guarded(inside, canary), contextlib.suppress(OSError):
        act(inside, canary)


DEFAULTS = {
    "localizer.json": "decoder detect.preset detect.sigma detect.top_k detect.classes detect.pooling detect.vote "
    "snippets.window snippets.overlap",
    "head.json": "config.neighbours config.inner_bins config.map_kernel config.max_duration package",
    "classifier.json": "facts",
    "encoder.json": "config.depth config.width config.stem config.shift facts",
}
"""What may be left out."""
USABLE = {
    "localizer.json": {
        "facts": ["object"], "labels.0": ["dotted", "escape", "unknown"], "detect.vote": ["null"],
        "detect.sigma": ["a million"], "snippets.stride": ["a million"], "snippets.window": ["a million", "null"],
        "threshold": ["negative", "huge", "a million"],
    },
    "head.json": {"config.max_duration": ["null"], "package": ["null", "dotted", "escape", "unknown"]},
    "classifier.json": {"facts": ["object"]},
    "encoder.json": {"facts": ["object"]},
}  # fmt: skip
"""What a setting may be: names that are only shown, numbers that are unwise, and facts that nothing is made from."""


@pytest.mark.parametrize("file", list(models.KEYS))
def test_a_description_is_refused_in_one_line_or_can_be_used(file, base, tmp_path, canary):
    """Every key of a folder's JSON, as missing, null, of another type, negative, huge, NaN, deep, long, a path."""
    used = set()
    for number, (name, changed, change) in enumerate(models.of_keys()):
        if changed != file:
            continue
        inside = tmp_path / str(number)
        folder = models.make_folder(base, inside / "model", encoder=file == "encoder.json")
        change(folder, canary)
        with guarded(inside, canary):
            message = load(folder)
        if message is None:
            used.add(name)
        else:
            check_line(message)
        shutil.rmtree(inside)
    expected = {f"{file}: {key} missing" for key in DEFAULTS[file].split()}
    assert used == expected | {f"{file}: {key} {value}" for key, values in USABLE[file].items() for value in values}


def test_adapters_of_a_stranger_download_no_weights(base, tmp_path, canary, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    folder = models.make_folder(base, tmp_path / "model", encoder=True)
    models.change_key(folder / "encoder.json", "name", "tsm_resnet18")
    models.change_key(folder / "encoder.json", "base", {"pretrained": "imagenet", "hash": "0" * 16})
    with guarded(folder, canary):
        message = load(folder)
    assert "downloads nothing" in message
    check_line(message)


def test_what_a_sound_description_says_is_kept(base, tmp_path):
    folder = models.make_folder(base, tmp_path / "model", encoder=False)
    for key, value in (("snippets.window", 6.0), ("snippets.overlap", 0.25), ("snippets.keep", True)):
        models.change_key(folder / "localizer.json", key, value)
    windows = Localizer.from_pretrained(folder, device="cpu").windows
    assert (windows.count, windows.seconds, windows.overlap, windows.keep) == (32, 6.0, 0.25, True)


@pytest.mark.parametrize("cases", [models.of_files, models.of_weights])
def test_a_file_that_is_no_part_of_a_model_is_refused_in_one_line(cases, base, tmp_path, canary):
    """Every file of a model folder as missing, empty, a folder, pipe, device, link, of other content, shapes, types."""
    for number, (name, file, change) in enumerate(cases()):
        inside = tmp_path / str(number)
        folder = models.make_folder(base, inside / "model", encoder=file.startswith("encoder"))
        change(folder, canary)
        with guarded(inside, canary):
            if number % 8:
                message = load(folder)
            else:  # as a user meets it
                ended = lofi("detect", DEMO_VIDEO, "--model", folder, "--device", "cpu", "--out", inside / "found")
                message = ended.stderr
                assert ended.exit_code == 3, name
        assert message is not None, name
        check_line(message)
        assert str(folder) in message.replace("\n", ""), name
        shutil.rmtree(inside)


@pytest.mark.parametrize("name", list(recipes.RECIPES))
def test_a_recipe_is_refused_in_one_line(name, tmp_path, canary, monkeypatch):
    content, expected = recipes.RECIPES[name]
    inside = tmp_path / "inside"
    (inside / "videos").mkdir(parents=True)
    truth = {"subset": "training", "duration": 5.0, "annotations": [{"label": "a", "segment": [1, 2]}]}
    document = {"database": {"v": truth, "w": {**truth, "subset": "validation"}}}
    (inside / "labels.json").write_text(json.dumps(document))
    (inside / "recipe.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    os.mkfifo(inside / "pipe")
    untouched = tmp_path / "other" if name in recipes.READS_CANARY else canary
    untouched.touch()
    monkeypatch.chdir(inside)
    with guarded(inside, untouched):
        ended = lofi("run", "recipe.yaml", "--device", "cpu", "--quiet")
    assert ended.exit_code in (2, 3)
    assert re.search(expected, ended.stderr), ended.stderr
    check_line(ended.stderr)
    assert canary.read_text() == PRECIOUS


def test_a_recipe_in_unusual_spelling_is_read():
    text = "\ufeff" + recipes.BASE + "name: &n caf\u00e9 x\nlofi: {lr: 1e-2}\ntracking: {csv: {a: *n}}\n"
    content = parse_yaml(text.lstrip("\ufeff"), "x")
    assert (content["name"], content["lofi"]["lr"], content["tracking"]) == ("café x", 0.01, {"csv": {"a": "café x"}})
    merged = parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n", "x")
    assert merged["b"] == {"x": 1, "y": 3}  # what stands there comes first, and is no key that stands twice


@pytest.mark.parametrize("name", list(arrays.REFUSED))
def test_a_feature_file_is_refused_in_one_line(name, tmp_path, canary):
    inside, path = tmp_path / "inside", tmp_path / "inside" / f"v.{name.partition('.')[2]}"
    inside.mkdir()
    with h5py.File(canary, "w") as file:
        file["feats"] = arrays.GOOD
    arrays.REFUSED[name](path, canary)
    with guarded(inside, canary), pytest.raises(DataError, match=r"cannot be read|have shape|not finite") as error:
        read_features(path)
    check_line(str(error.value))
    assert not WERE_HERE.exists()


@pytest.mark.parametrize("name", list(arrays.READ))
def test_an_unusual_feature_file_is_read(name, tmp_path, canary):
    path = tmp_path / f"v.{name.partition('.')[2]}"
    arrays.READ[name](path, canary)
    np.testing.assert_array_equal(read_features(path).numpy().T, arrays.GOOD)


def test_a_foreign_link_in_hdf5_of_many_videos_opens_no_other_file(tmp_path, canary):
    inside = tmp_path / "inside"
    inside.mkdir()
    with h5py.File(canary, "w") as file:
        file["feats"] = arrays.GOOD
    with h5py.File(inside / "all.h5", "w") as file:
        file["v"] = h5py.ExternalLink(str(canary), "feats")
        file["../w"] = arrays.GOOD
    with guarded(inside, canary), pytest.raises(DataError, match="is a link, perhaps into another file"):
        PublishedFeatures([inside / "all.h5"], 12).read("v")


@pytest.mark.parametrize("link", [".lock", "pretrain", "arms", "arms/lofi/model", "videos.jsonl", "lofi/metrics.jsonl"])
def test_a_run_writes_through_no_link(link, tmp_path, canary):
    out, elsewhere = tmp_path / "inside" / "run", tmp_path / "elsewhere"
    (out / link).parent.mkdir(parents=True)
    elsewhere.mkdir()
    (out / link).symlink_to(canary if link.count(".") else elsewhere)
    with (
        guarded(out, canary),
        pytest.raises(LofiError, match="is a link out of the run folder"),
        run_folder(out).lock(),
    ):
        pass
    assert not list(elsewhere.iterdir())


def test_a_link_inside_a_run_folder_and_a_folder_that_is_one_stay_usable(tmp_path):
    (tmp_path / "disk" / "lofi").mkdir(parents=True)
    (tmp_path / "disk" / "latest").symlink_to("lofi")
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    with run_folder(tmp_path / "run").lock():
        assert (tmp_path / "disk" / ".lock").exists()


def run_folder(path):
    return RunFolder(path, shared=None, patience=None, resume=False, overwrite=False, tracking={})


RESULT = min((Path(__file__).parents[2] / "results").rglob("seed-*.json"))


@pytest.mark.parametrize("key", [
    "seed", "settings", "data_hash", "command", "scores", "scores.oracle", "scores.oracle.average_mAP", "proposals",
    "probe", "clips", "grids", "chosen", "chosen.candidates", "stages", "replicates", "environment",
    "environment.threads", "device",
])  # fmt: skip
def test_a_result_is_refused_in_one_line(key, tmp_path, canary):
    path = tmp_path / "inside" / "seed-0.json"
    path.parent.mkdir()
    for name in ("missing", "null", "object", "negative", "NaN", "deep", "long"):
        shutil.copy(RESULT, path)
        models.change_key(path, key, models.VALUES[name])
        if (key, name) in FINE:
            checked_result(path)
            continue
        with guarded(path.parent, canary), pytest.raises(DataError, match="run the row again") as error:
            checked_result(path)
        check_line(str(error.value))


FINE = {
    *(("seed", "negative"), ("environment.threads", "negative"), ("scores.oracle", "missing")),
    *((key, "object") for key in ("proposals", "clips")),
}


def test_every_published_result_is_one():
    paths = list((Path(__file__).parents[2] / "results").rglob("seed-*.json"))
    assert len(paths) > 50
    for path in paths[:: len(paths) // 10]:
        assert checked_result(path)["row"] == path.parent.name


def test_a_long_message_keeps_its_beginning_and_its_end():
    text = str(LofiError(f"the beginning {'x' * 10_000} what to do"))
    assert text.startswith("the beginning xx")
    assert text.endswith("xx what to do")
    assert "characters ...]" in text
    assert len(text) < LINE
