"""Weights files as people have them: read without running anything, or refused by what is in them."""

import argparse
import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lofi_tal.errors import DataError
from lofi_tal.tensor_files import read_state_dict, read_tensors

WEIGHTS = {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.ones(2)}


def assert_weights(state):
    assert {key: value.tolist() for key, value in state.items()} == {k: v.tolist() for k, v in WEIGHTS.items()}


@pytest.fixture
def foreign(monkeypatch):
    """Return a maker of objects of a program that is not installed here."""

    def make(name):
        path, _, function = name.rpartition(".")
        parts = path.split(".")
        for end in range(1, len(parts) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parts[:end]), types.ModuleType(parts[end - 1]))
        kind = type(function, (), {"__module__": path})
        setattr(sys.modules[path], function, kind)
        return kind()

    return make


NUMBERS = {
    "float64": np.float64(0.75), "float32": np.float32(0.5), "int64": np.int64(7), "bool": np.bool_(True),
    "complex": np.complex128(1j), "big endian": np.dtype(">f8").type(2.5), "list": [np.float64(1), np.int32(2)],
    "nested": {"best": {"acc": np.float32(0.1)}}, "array": np.linspace(0, 1, 5), "order": np.asfortranarray(np.eye(3)),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("zipped", [True, False])
def test_numpy_numbers_beside_tensors_load(tmp_path, name, zipped):
    path = tmp_path / "weights.pth.tar"
    content = {"state_dict": WEIGHTS, "best": NUMBERS[name], "epoch": 3, "arch": "tsm", "opt": {"lr": [0.1, None]}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert_weights(read_state_dict(path))
    loaded = read_tensors(path)["best"]
    assert np.array_equal(loaded, NUMBERS[name]) or loaded == NUMBERS[name]


def test_names_of_older_numpy_load(tmp_path):
    torch.save({"model": WEIGHTS, "acc": np.float64(0.5)}, tmp_path / "new.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "new.pth").read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"numpy.core.multiarray" in data
    (tmp_path / "old.pth").write_bytes(data)
    assert read_tensors(tmp_path / "old.pth")["acc"] == 0.5


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s, lambda s: OrderedDict(s), lambda s: {"state_dict": s, "meta": {"a": 1}}, lambda s: {"model": s},
        lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {}}}, lambda s: {"module": s},
        lambda s: {**s, "epoch": 3, "best": np.float64(1)}, lambda s: {"model": {"state_dict": s}},
        lambda s: {key: value.numpy() for key, value in s.items()},
        lambda s: {"model": {**s, "_extra_state": {"lr": np.float64(1e-3)}}},
    ],
)  # fmt: skip
def test_layouts_of_checkpoints(tmp_path, wrap):
    torch.save(wrap(WEIGHTS), tmp_path / "weights.pt")
    assert_weights(read_state_dict(tmp_path / "weights.pt"))


def test_the_content_decides_and_not_the_suffix(tmp_path):
    save_file(WEIGHTS, tmp_path / "renamed.pth")
    assert_weights(read_state_dict(tmp_path / "renamed.pth"))
    torch.save(WEIGHTS, tmp_path / "renamed.safetensors")
    assert_weights(read_state_dict(tmp_path / "renamed.safetensors"))


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("message_hub", "mmengine.logging.history_buffer.HistoryBuffer"),
        ("cfg", "mmengine.config.config.ConfigDict"),
        ("hyper_parameters", "omegaconf.dictconfig.DictConfig"),
        ("callbacks", "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_an_object_of_another_program_is_named_with_its_entry(tmp_path, foreign, entry, name, zipped):
    path = tmp_path / "weights.pth"
    content = {"meta": {"epoch": 3, "by": "x"}, "state_dict": WEIGHTS, entry: {"loss": [foreign(name)]}, "z": 1}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert_refused(path, f"its entry {entry!r} holds {name}")


def test_arguments_of_a_program_are_named(tmp_path):
    torch.save({"model": WEIGHTS, "args": argparse.Namespace(lr=0.1), "epoch": 3}, tmp_path / "weights.pth")
    assert_refused(tmp_path / "weights.pth", "its entry 'args' holds argparse.Namespace")


def test_a_function_is_named_too(tmp_path):
    torch.save({"model": WEIGHTS, "collate": len}, tmp_path / "weights.pth")
    assert_refused(tmp_path / "weights.pth", "its entry 'collate' holds")


def assert_refused(path, words):
    with pytest.raises(DataError) as caught:
        read_state_dict(path)
    text = str(caught.value)
    assert words in text
    assert path.name in text
    for unsafe in ("weights_only", "allowlist", "add_safe_globals", "trust"):
        assert unsafe not in text
    return text


@pytest.mark.parametrize("entry", [None, "model"])
def test_a_whole_model_is_recognised(tmp_path, entry):
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    torch.save(model if entry is None else {"epoch": 1, entry: model}, tmp_path / "model.pth")
    text = assert_refused(tmp_path / "model.pth", "a whole pickled model (torch.nn.modules")
    assert ("in its entry 'model'" in text) == (entry == "model")
    assert "torch.save(model.state_dict()" in text


def test_code_is_refused_and_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("code was run",))

    torch.save({"state_dict": WEIGHTS, "extra": Evil()}, tmp_path / "evil.pth")
    assert_refused(tmp_path / "evil.pth", "its entry 'extra' holds")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"extra": Evil()}, protocol=4))
    assert_refused(tmp_path / "plain.pkl", "cannot be loaded safely")


@pytest.mark.parametrize(
    "value",
    [np.array([{"a": 1}], dtype=object), np.array(["text"]), np.datetime64("2026-01-01"), np.void(b"ab")],
)
def test_numpy_data_that_are_no_numbers_are_refused(tmp_path, value):
    torch.save({"state_dict": WEIGHTS, "extra": value}, tmp_path / "weights.pth")
    assert_refused(tmp_path / "weights.pth", "cannot be loaded safely")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html><body>Google Drive - Virus scan warning</body></html>", "is a web page"),
        (b"\n\n<html><head>Sign in</head></html>", "is a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b'{"error": "Not Found"}', "is JSON text"),
        (b"", "is empty"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
        (b"\x1f\x8b\x08" + bytes(64), "unpack it first"),
        (b"PK\x03\x04" + bytes(64), "is cut off"),
        (b"plain words", "damaged, or no file of tensors"),
    ],
)
def test_a_file_of_something_else_is_called_by_its_name(tmp_path, content, words):
    for name in ("weights.pth", "weights.safetensors"):
        (tmp_path / name).write_bytes(content)
        expected = words if name.endswith("pth") or content.startswith((b"<", b"\n", b"v", b"{", b"PK")) else name
        assert_refused(tmp_path / name, expected)


def test_a_cut_file_is_one_clear_error(tmp_path):
    torch.save(WEIGHTS, tmp_path / "whole.pth")
    data = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(data[: len(data) // 2])
    assert_refused(tmp_path / "cut.pth", "is cut off or damaged")


def test_archives_and_programs_are_told_apart(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("checkpoints/best.pth", b"x")
    assert_refused(tmp_path / "a.pth", "checkpoints/best.pth")
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "script.pt")
    assert_refused(tmp_path / "script.pt", "TorchScript")


def test_a_checkpoint_without_weights_names_what_it_has(tmp_path):
    torch.save({"epoch": 3, "optimizer": {"state": {}}}, tmp_path / "weights.pth")
    assert_refused(tmp_path / "weights.pth", "'epoch', 'optimizer'")
    torch.save([1], tmp_path / "list.pth")
    assert_refused(tmp_path / "list.pth", "found a list")
    torch.save(OrderedDict(), tmp_path / "empty.pth")
    assert_refused(tmp_path / "empty.pth", "holds no state dict")
