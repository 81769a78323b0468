"""Records hold the hashes of what was written with them; stages, checkpoints and folders that are damaged are told."""

import itertools
import json
import shutil
import sys
import threading

import pytest
import torch
from torch import nn

from lofi_tal import artefacts, folders
from lofi_tal.artefacts import check_files, check_words, damage, read_record, sealed, told
from lofi_tal.errors import DataError, LofiError
from lofi_tal.files import read_json, write_json
from lofi_tal.folders import read_whole, replaced, settled
from lofi_tal.runtime import Outcome, StageRecord, make_fabric, open_stage, read_metrics
from lofi_tal.runtime.checkpoint import Checkpoint, Course

DAMAGES = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "bit": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 4]) + data[len(data) // 2 + 1 :],
    "deleted": None,
    "foreign": lambda data: b"of another run",
}
BROKEN = ["", "[]", "{", "null", '{"stage": 5}', '{"stage": "x", "inputs": [], "result": 3}', "\0"]


def ruin(path, kind):
    data = path.read_bytes()
    path.unlink()
    if DAMAGES[kind] is not None:
        path.write_bytes(DAMAGES[kind](data))


def finish(stage):
    (stage.path / "weights").write_bytes(bytes(range(100)))
    (stage.path / "metrics.jsonl").write_text('{"step": 1}\n')
    stage.finish(Outcome(1.0, 2, {"accuracy": 0.5, 3: (1, 2)}), ["weights"])


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}])
def test_a_stage_whose_result_is_damaged_is_run_again_and_the_file_is_named(kind, options, tmp_path, caplog):
    finish(open_stage(tmp_path / "s", "x", {"a": 1}))
    assert open_stage(tmp_path / "s", "x", {"a": 1}, **options).record is not None
    assert not caplog.records
    ruin(tmp_path / "s/weights", kind)
    again = open_stage(tmp_path / "s", "x", {"a": 1}, **options)
    assert (again.record, again.resumed) == (None, False)
    assert f"Stage 'x' is run again: {tmp_path / 's/weights'} is " in caplog.text
    assert {path.name for path in again.path.iterdir()} == {"started.json"}
    finish(again)
    assert open_stage(tmp_path / "s", "x", {"a": 1}, **options).record is not None


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}])
def test_a_stage_whose_metrics_are_damaged_is_not_run_again_but_told(kind, options, tmp_path, caplog):
    finish(open_stage(tmp_path / "s", "x", {"a": 1}))
    ruin(tmp_path / "s/metrics.jsonl", kind)
    assert open_stage(tmp_path / "s", "x", {"a": 1}, **options).record is not None
    assert f"{tmp_path / 's/metrics.jsonl'} is " in caplog.text


@pytest.mark.parametrize("content", [*BROKEN, *(kind for kind in DAMAGES if kind != "foreign")])
@pytest.mark.parametrize("name", ["stage.json", "started.json"])
def test_a_stage_whose_own_record_is_damaged_counts_as_interrupted(name, content, tmp_path):
    def broken(folder):
        stage = open_stage(folder, "x", {"a": 1})
        (folder / "checkpoint.pt").write_bytes(b"precious")
        if name == "stage.json":
            finish(stage)
        if content in DAMAGES:
            ruin(folder / name, content)
        else:
            (folder / name).write_text(content)
        return folder

    with pytest.raises(LofiError, match=r"holds an interrupted stage 'x'.*Add --resume"):
        open_stage(broken(tmp_path / "a"), "x", {"a": 1})
    again = open_stage(tmp_path / "a", "x", {"a": 1}, resume=True)
    assert (again.record, again.resumed) == (None, True)
    assert read_record(again.path / "started.json")["inputs"] == {"a": 1}
    assert not (again.path / "stage.json").exists()
    fresh = open_stage(broken(tmp_path / "b"), "x", {"a": 1}, overwrite=True)
    assert (fresh.record, fresh.resumed) == (None, False)
    assert {path.name for path in fresh.path.iterdir()} == {"started.json"}


@pytest.mark.parametrize("content", BROKEN)
def test_what_a_difference_was_is_told_without_whole_contents(content, tmp_path):
    finish(open_stage(tmp_path / "s", "x", {"data": "a"}, contents={"data": {"kind": "videos"}}))
    (tmp_path / "s/contents.json").write_text(content)
    with pytest.raises(LofiError, match="data: 'a' -> 'b'"):
        open_stage(tmp_path / "s", "x", {"data": "b"}, contents={"data": {"kind": "videos"}})


@pytest.mark.parametrize("key", ["stage", "fingerprint", "inputs", "seconds", "peak_memory_bytes", "result", "files"])
def test_a_record_without_hash_is_refused_where_it_is_of_another_type(key, tmp_path):
    finish(open_stage(tmp_path, "x", {"a": 1}))
    content = read_json(tmp_path / "stage.json")
    del content["check"]
    write_json(tmp_path / "stage.json", content)
    assert StageRecord.read(tmp_path).result == {"accuracy": 0.5, "3": [1, 2]}
    for wrong in ({**content, key: None}, {**content, f"{key}s": 1}, {k: content[k] for k in content if k != "stage"}):
        write_json(tmp_path / "stage.json", wrong)
        with pytest.raises(DataError, match="is damaged"):
            StageRecord.read(tmp_path)


def test_every_flipped_bit_of_a_record_is_found(tmp_path):
    whole = json.dumps(sealed({"files": {}, "labels": ["a", "b"], "threshold": 0.25})).encode()
    path = tmp_path / "localizer.json"
    for position, bit in itertools.product(range(len(whole)), range(8)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ (1 << bit)]) + whole[position + 1 :])
        try:
            found = read_record(path)
        except DataError:
            continue
        assert {key: found[key] for key in ("files", "labels", "threshold")} == {
            "files": {}, "labels": ["a", "b"], "threshold": 0.25,
        }  # fmt: skip


def test_a_file_is_hashed_once_in_a_process_unless_it_changes(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"1" * 5000)
    words = check_words(tmp_path, ["a"])
    assert words == {"a": {"bytes": 5000, "xxh3": words["a"]["xxh3"]}}
    calls = []
    whole = artefacts.xxhash.xxh3_64
    monkeypatch.setattr(artefacts.xxhash, "xxh3_64", lambda: calls.append(1) or whole())
    assert damage(tmp_path, words) == damage(tmp_path, words) == {}
    assert not calls
    (tmp_path / "b").write_bytes(b"1" * 4999 + b"2")
    (tmp_path / "b").rename(tmp_path / "a")
    assert "other content" in told(damage(tmp_path, words))
    assert len(calls) == 1


def test_files_that_the_record_beside_them_does_not_list_or_that_are_no_files_are_refused(tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    write_json(tmp_path / "localizer.json", sealed({"files": check_words(tmp_path, ["a"])}))
    check_files(tmp_path, "a")
    with pytest.raises(DataError, match=r"b is not listed.*repeat the `lofi` command"):
        check_files(tmp_path, "a", "b")
    (tmp_path / "a").unlink()
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="a is a folder: expected a plain file"):
        check_files(tmp_path, "a")


def saved(folder):
    model, fabric = nn.Linear(30, 20), make_fabric("cpu")
    _, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    checkpoint = Checkpoint(folder / "checkpoint.pt", "f", fabric, {"model": model}, optimizer)
    checkpoint.save(Course(3, 1.5, {"a": "gone"}))
    return checkpoint


def test_a_checkpoint_is_still_a_file_of_torch_and_older_ones_are_read(tmp_path):
    checkpoint = saved(tmp_path)
    state = torch.load(checkpoint.path, weights_only=True)
    assert state["step"] == 3
    assert checkpoint.load() == Course(3, 1.5, {"a": "gone"})
    torch.save(state, checkpoint.path)
    assert checkpoint.load() == Course(3, 1.5, {"a": "gone"})


@pytest.mark.parametrize("kind", [*DAMAGES, "end", "start"])
def test_a_damaged_checkpoint_is_refused_in_one_line(kind, tmp_path):
    checkpoint = saved(tmp_path)
    if kind in ("end", "start"):
        data = bytearray(checkpoint.path.read_bytes())
        data[-40 if kind == "end" else 20] ^= 1
        checkpoint.path.write_bytes(data)
    else:
        ruin(checkpoint.path, kind)
    with pytest.raises(DataError, match=r"checkpoint\.pt cannot be read.*--overwrite to begin") as error:
        checkpoint.load()
    assert "\n" not in str(error.value)
    assert ("is empty" in str(error.value)) is (kind == "empty")


@pytest.mark.parametrize(
    "line", ["[]", "{", '{"loss": 1}', '{"step": "a"}', '{"step": 1, "epoch": []}', "\ufffd", "NaN"]
)
def test_lines_of_metrics_that_are_none_are_counted(line, tmp_path):
    good = {"step": 1, "epoch": 0, "lr": 0.1, "loss": 2.0, "fidelity": "S", "seconds": 1}
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == ([], 0)
    path.write_text(f"{line}\n{json.dumps(good)}\n{line}\n" + '{"step": 2, "lo')
    assert read_metrics(path) == ([good], 2)


FILES = ("weights", "record.json")


def write(folder, word):
    with replaced(folder, FILES, "record.json") as new:
        for name in FILES:
            (new / name).write_text(word)


def fail(folder):
    with replaced(folder, FILES, "record.json") as new:
        (new / "weights").write_text("c")
        raise ZeroDivisionError


def words(folder):
    return {(folder / name).read_text() for name in FILES}


@pytest.mark.parametrize("way", ["exchange", "two renames", "one by one"])
def test_a_folder_is_replaced_and_other_files_in_it_stay(way, tmp_path, monkeypatch):
    if way != "exchange":
        monkeypatch.setattr(folders, "_exchanged", lambda one, other: False)
    if way == "one by one":  # what a mount point or a parent that cannot be written leaves
        monkeypatch.setattr(folders.tempfile, "mkdtemp", in_itself(tmp_path, folders.tempfile.mkdtemp))
    write(tmp_path / "real/model", "a")
    (tmp_path / "link").symlink_to(tmp_path / "real/model")
    (tmp_path / "real/model/README.md").write_text("mine")
    (tmp_path / "real/model/pictures").mkdir()
    write(tmp_path / "link", "b")
    assert words(tmp_path / "real/model") == {"b"}
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real/model/README.md").read_text() == "mine"
    assert (tmp_path / "real/model/pictures").is_dir()
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["model"]
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path / "link")
    assert words(tmp_path / "link") == {"b"}
    assert len(list((tmp_path / "real/model").iterdir())) == 4


def in_itself(root, whole):
    def refusing(suffix, prefix, parent):
        if parent == root / "real" and (root / "real/model").exists():
            raise PermissionError(13, "Permission denied")
        return whole(suffix, prefix, parent)

    return refusing


def test_what_a_writer_leaves_that_died_between_two_renames_is_read_and_put_back(tmp_path, monkeypatch):
    write(tmp_path / "model", "a")
    (tmp_path / "model").rename(tmp_path / ".model.previous")
    assert words(settled(tmp_path / "model")) == {"a"}
    assert read_whole(tmp_path / "model", "record.json", words) == {"a"}
    write(tmp_path / "model", "b")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert words(tmp_path / "model") == {"b"}


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_reader_never_sees_files_of_two_writings(can_exchange, tmp_path, monkeypatch):
    if not can_exchange:
        monkeypatch.setattr(folders, "_exchanged", lambda one, other: False)
    monkeypatch.setattr(folders, "_flush", lambda folder: None)
    monkeypatch.setattr(folders, "_TRIES", 10_000)
    write(tmp_path / "model", "0")
    over = threading.Event()

    def writing():
        for number in range(60):
            write(tmp_path / "model", str(number))
        over.set()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # each thread meets every step of the other
    writer = threading.Thread(target=writing)
    writer.start()
    try:
        seen = []
        while not over.is_set():
            seen.append(read_whole(tmp_path / "model", "record.json", words))
    finally:
        writer.join()
        sys.setswitchinterval(interval)
    assert all(len(found) == 1 for found in seen)
    assert words(tmp_path / "model") == {"59"}
    shutil.rmtree(tmp_path / "model")
