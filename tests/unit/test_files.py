"""Files: whole or not there, and messages that say where."""

from __future__ import annotations

import errno
import json
import os
import pickle
import stat
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lofi_tal.errors import DataError, DiskFullError, RunError, nearest, one_line
from lofi_tal.files import atomic_path, file_stamp, hash_file, hash_object, inside, read_json, write_json, write_text


def half_written(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyError


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyError):
        half_written(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_success_replaces_it_and_makes_folders(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    write_text(path, "één")
    write_text(path, "two")
    assert path.read_text() == "two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_full_disk_is_said_and_the_old_file_stays(tmp_path):
    write_text(tmp_path / "a", "old")
    with pytest.raises(RunError, match="disk is full"), atomic_path(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (tmp_path / "a").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@given(st.text() | st.text("\n\r\x1b\u2028\x85é😀\u200d ", max_size=9))
def test_what_is_shown_is_one_line_and_plain_text_stays(text):
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    assert not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in shown)
    if text.isprintable():
        assert shown == text


def test_a_full_disk_is_said_alike_by_other_processes():
    error = DiskFullError("the file", " with --resume")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(error).endswith("run the same command again with --resume.")


def test_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Cannot write"):
        write_text(tmp_path / "file" / "a", "x")


def test_long_names_can_be_written(tmp_path):
    write_text(tmp_path / ("n" * 250), "x")
    assert (tmp_path / ("n" * 250)).read_text() == "x"


texts = st.text(st.characters(exclude_categories=["Cs"]))
leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    leaves | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)


@given(values)
def test_json_comes_back(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "a.json"
    write_json(path, value)
    assert read_json(path) == value


def test_json_without_numbers_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b'{"a": 1,\n "b" 2}', "line 2, column 6"),
        (b"\xff\xff", "not UTF-8 text .byte 0."),
        (b'{"x": {"a": 1, "b": 2, "a": 1}}', "the key 'a' stands twice"),
        (b"[" * 200_000, "too deeply"),
        (b"1" * 5000, "not usable JSON"),
    ],
)
def test_json_that_cannot_be_read_is_said(tmp_path, data, said):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(DataError, match=said) as caught:
        read_json(path)
    assert str(path) in str(caught.value)


def test_json_with_byte_order_mark_and_missing_file(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "a.json") == [1]
    with pytest.raises(DataError, match="does not exist"):
        read_json(tmp_path / "none.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_json(tmp_path)


def test_hash_of_an_object_ignores_the_order_of_keys_and_nothing_else():
    assert hash_object({"a": 1, "b": [1, 2]}) == hash_object({"b": [1, 2], "a": 1})
    assert hash_object([1, 2]) != hash_object([2, 1])
    assert hash_object("é\udcff")  # a file name that is not UTF-8


def test_stamp_sees_size_and_time_and_hash_the_content(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    os.utime(path, ns=(0, 0))
    stamp, digest = file_stamp(path), hash_file(path)
    path.write_bytes(b"abd")
    os.utime(path, ns=(0, 0))
    assert file_stamp(path) == stamp
    assert hash_file(path) != digest
    os.utime(path, ns=(0, 1))
    assert file_stamp(path) != stamp


@given(st.text(st.characters(exclude_categories=[])))  # file names of other bytes come as lone surrogates
def test_no_id_reaches_outside_its_folder(name):
    folder = Path("/data/features")
    path = inside(folder, name, ".npy")
    assert path.parent == folder
    assert Path(os.path.normpath(path)) == path
    assert path.name not in ("", ".", "..")
    assert len(path.name.encode(errors="surrogatepass")) <= 255


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), unique=True, max_size=20))
def test_different_ids_have_different_files(names):
    assert len({inside(Path("f"), name) for name in names}) == len(names)


def test_plain_ids_stay_readable():
    assert inside(Path("f"), "-3x_Y z.mp4", ".json") == Path("f/-3x_Y z.mp4.json")


def test_nearest_name_is_offered():
    assert nearest("trainin", ["training", "testing"]) == " Did you mean 'training'?"
    assert nearest("xyz", ["training"]) == ""


def test_results_are_plain_json(tmp_path):
    write_json(tmp_path / "a.json", {"ü": 1})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ü": 1}
    assert "ü" in (tmp_path / "a.json").read_text(encoding="utf-8")
