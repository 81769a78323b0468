"""Published features: the layouts they come in, and how T of them become L."""

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from lofi_tal.errors import DataError, LofiError
from lofi_tal.features import RESIZES, PublishedFeatures, export_npy, resize_features

ARRAY = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)  # (T, C)


def write(path, array):
    match path.suffix:
        case ".npy":
            np.save(path, array)
        case ".npz":
            np.savez(path, feats=array, other=np.zeros(2))
        case ".pt":
            torch.save(torch.from_numpy(array), path)
        case ".safetensors":
            save_file({"features": array}, path)
        case ".csv":
            np.savetxt(path, array, delimiter=",", header="f0,f1,f2", comments="")
        case ".h5":
            with h5py.File(path, "w") as handle:
                handle["group/feature"] = array


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".safetensors", ".csv", ".h5"])
@pytest.mark.parametrize("name", ["abc", "v_abc"])
def test_every_layout_gives_the_same_features(tmp_path, suffix, name):
    (tmp_path / "class").mkdir()
    write(tmp_path / "class" / f"{name}{suffix}", ARRAY)
    features = PublishedFeatures([tmp_path], 7)
    np.testing.assert_allclose(features.read("abc").numpy(), ARRAY.T, rtol=1e-6)
    assert isinstance(features.place("abc"), tuple)
    assert "no features of this id" in features.place("other")


def test_one_hdf5_file_for_all_videos_and_sources_joined_on_the_channels(tmp_path):
    with h5py.File(tmp_path / "all.h5", "w") as handle:
        handle["v_abc"] = ARRAY
    np.save(tmp_path / "abc.npy", 2 * ARRAY[:4].T)
    features = PublishedFeatures([tmp_path / "all.h5"], 4)
    assert features.read("abc").shape == (3, 4)
    (tmp_path / "more").mkdir()
    np.save(tmp_path / "more" / "abc.npy", 2 * ARRAY[:4])
    joined = PublishedFeatures([tmp_path / "all.h5", tmp_path / "more"], 4).read("abc")
    torch.testing.assert_close(joined[:3], features.read("abc"))
    np.testing.assert_allclose(joined[3:].numpy(), 2 * ARRAY[:4].T)


def test_channels_first_arrays(tmp_path):
    np.save(tmp_path / "abc.npy", ARRAY.T)
    np.testing.assert_allclose(PublishedFeatures([tmp_path], 7, axes="CT").read("abc").numpy(), ARRAY.T)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read"),
        (b"no array at all", "cannot be read"),
        (np.array([1.0, 2.0]), "expected a matrix"),
        (np.full((3, 2), np.nan), "not finite"),
        (np.array([{"pickled": "object"}], dtype=object), "cannot be read"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path, content, reason):
    path = tmp_path / "abc.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(DataError, match=reason) as caught:
        PublishedFeatures([tmp_path], 4).read("abc")
    assert "abc.npy" in str(caught.value)


def test_a_pickled_torch_file_is_not_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("code was run",))

    torch.save({"a": Evil()}, tmp_path / "abc.pt")
    with pytest.raises(DataError, match="cannot be read"):
        PublishedFeatures([tmp_path], 4).read("abc")


def test_missing_and_empty_sources_are_named(tmp_path):
    with pytest.raises(DataError, match="neither a folder nor an HDF5 file"):
        PublishedFeatures([tmp_path / "none"], 4)
    with pytest.raises(DataError, match="holds no file of a known kind"):
        PublishedFeatures([tmp_path], 4)


@pytest.mark.parametrize("how", RESIZES)
@pytest.mark.parametrize("length", [1, 2, 9, 100, 340])
def test_resizing_keeps_constants_and_order(how, length):
    constant = torch.full((2, length), 3.0)
    resized = resize_features(constant, 10, how)
    assert resized.shape == (2, 10)
    inside = slice(None) if how != "bmn" or length > 10 else slice(4, 6)
    torch.testing.assert_close(resized[:, inside], constant[:, :1].expand_as(resized)[:, inside])
    ramp = resize_features(torch.arange(length, dtype=torch.float32)[None], 10, how)[0, inside]
    assert (ramp.diff() >= 0).all()


def test_resizing_equals_the_definitions_worked_by_hand():
    ramp = torch.arange(8, dtype=torch.float32)[None]
    # linear, corners not aligned: the centre of part j lies at (j + 0.5) · 8/4 − 0.5
    assert resize_features(ramp, 4)[0].tolist() == [0.5, 2.5, 4.5, 6.5]
    torch.testing.assert_close(resize_features(ramp, 8), ramp)
    # samples at 0, 0.75, 1.5 in the first part [−0.5, 1.5], whose start is moved to the first feature
    first = resize_features(ramp, 4, "bmn")[0]
    assert first[0].item() == pytest.approx(0.75, abs=1e-3)
    assert first[1].item() == pytest.approx(2.5, abs=1e-3)
    # 20 parts for two features: those before the first feature's place and beyond the last one's are zero
    two = resize_features(torch.tensor([[5.0, 7.0]]), 20, "bmn")[0]
    assert two[:5].tolist() == [0] * 5
    assert two[15:].tolist() == [0] * 5
    assert (two[5:15] >= 5).all()


def test_an_unknown_way_is_refused():
    with pytest.raises(LofiError, match="interpolate, roi_align, bmn"):
        resize_features(torch.zeros(1, 3), 2, "nearest")


ROWS = np.array([[0.5, -1.5, 2e-3], [1.0, 2.0, 3.0]])
TABLES = {
    "no header": "0.5,-1.5,2e-3\n1,2,3\n",
    "header": "f0,f1,f2\n0.5,-1.5,2e-3\n1,2,3\n",
    "quoted header": '"a","b","c"\n0.5,-1.5,2e-3\n1,2,3\n',
    "pandas": "0,1,2\n0.5,-1.5,2e-3\n1,2,3\n",
    "pandas index": ",0,1,2\n0,0.5,-1.5,2e-3\n1,1,2,3\n",
    "frames": "frame,f0,f1,f2\n0,0.5,-1.5,2e-3\n8,1,2,3\n",
    "semicolons": "x;y;z\n0,5;-1,5;2e-3\n1;2;3\n",
    "tabs": "0.5\t-1.5\t2e-3\n1\t2\t3\n",
    "blanks": "0.5 -1.5  2e-3\n1 2 3\n",
    "bom and blank lines": "\ufeff0.5, -1.5, 2e-3\r\n\r\n1, 2, 3\r\n",
    "last comma": "0.5,-1.5,2e-3,\n1,2,3,\n",
}


@pytest.mark.parametrize("table", TABLES)
def test_every_row_of_a_table_is_read_with_and_without_a_header(tmp_path, table):
    (tmp_path / "abc.csv").write_text(TABLES[table], encoding="utf-8", newline="")
    np.testing.assert_allclose(PublishedFeatures([tmp_path], 2).read("abc").numpy(), ROWS.T, rtol=1e-6)


@pytest.mark.parametrize(("text", "reason"), [("", "is empty"), ("f0,f1\n", "no rows"), ("1,2\n3,4,5\n", "columns")])
def test_tables_that_are_none_say_why(tmp_path, text, reason):
    (tmp_path / "abc.csv").write_text(text)
    with pytest.raises(DataError, match=reason):
        PublishedFeatures([tmp_path], 2).read("abc")


DURATIONS = {f"v{number}": float(seconds) for number, seconds in enumerate((10, 14, 25, 40, 33, 18))}


def write_source(folder, shapes, suffix=".npy"):
    """Write an array of each shape, which counts from 0 along its features."""
    folder.mkdir(exist_ok=True)
    for name, shape in zip(DURATIONS, shapes, strict=False):
        write(folder / f"{name}{suffix}", np.ones(shape, dtype=np.float32))
    return folder


def settled(folder, count=8, axes=None):
    features = PublishedFeatures([folder], count, axes=axes)
    features.settle(DURATIONS)
    return features


SECONDS = [int(seconds) for seconds in DURATIONS.values()]
CASES = {
    "the same channels": ([(3 * s, 5) for s in SECONDS], "TC", 5),
    "the same channels, transposed": ([(5, 3 * s) for s in SECONDS], "CT", 5),
    "two files": ([(5, 30), (5, 42)], "CT", 5),
    "equal lengths among them": ([(6, 10), (6, 10), (6, 25), (6, 40), (6, 40), (6, 10)], "CT", 6),
    "more features than frames": ([(4096, 8)] * 6, "CT", 4096),
    "channels of two streams, transposed": ([(4096, 2 * s) for s in SECONDS], "CT", 4096),
    "usual channels": ([(100, 400)] * 6, "TC", 400),
    "an outlier of channels": ([(100, 2048)] + [(100, 400)] * 5, "TC", 400),
    "half of them transposed": ([(30, 64), (64, 42), (75, 64), (64, 120), (99, 64), (64, 54)], "TC", 64),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("suffix", [".npy", ".h5", ".safetensors"])
def test_arrays_say_which_way_they_lie(tmp_path, case, suffix):
    shapes, axes, channels = CASES[case]
    features = settled(write_source(tmp_path / "source", shapes, suffix))
    assert (features.layouts[0].axes, features.layouts[0].channels) == (axes, channels)
    for name, shape in zip(DURATIONS, shapes, strict=False):
        if channels in shape:
            assert features.read(name).shape == (channels, 8)
    assert len(features.turned) == (3 if case.startswith("half") else 0)


@pytest.mark.parametrize("shape", [(400, 100), (2048, 128), (768, 192)])
def test_arrays_of_one_shape_that_look_transposed_are_refused_until_the_recipe_says(tmp_path, shape, monkeypatch):
    monkeypatch.setitem(globals(), "DURATIONS", {name: 100 + seconds for name, seconds in DURATIONS.items()})
    folder = write_source(tmp_path / "source", [shape] * 6)
    with pytest.raises(DataError, match=r"Set features\.axes: CT, or TC"):
        settled(folder)
    assert settled(folder, axes="CT").read("v0").shape == (shape[0], 8)
    assert settled(folder, axes="TC").read("v0").shape == (shape[1], 8)


def test_one_file_that_cannot_be_told_keeps_the_documented_order_and_says_so(tmp_path, caplog):
    assert settled(write_source(tmp_path / "source", [(12, 16)])).read("v0").shape == (16, 8)
    assert "Set features.axes if that is wrong" in caplog.text


def test_extracted_features_say_themselves_which_way_they_lie(tmp_path, caplog):
    for name in DURATIONS:  # 2,048 snippets of 64 channels, which otherwise look transposed
        save_file({"features": np.zeros((2048, 64), np.float32)}, tmp_path / f"{name}.safetensors", {"provenance": "x"})
    assert settled(tmp_path).read("v0").shape == (64, 8)
    assert "features.axes" not in caplog.text


def test_declared_axes_that_the_files_contradict_are_refused_by_name(tmp_path):
    folder = write_source(tmp_path / "source", [(2048, 3 * s) for s in SECONDS])
    with pytest.raises(DataError, match=r"all 6 arrays have 2048 features. Set features\.axes: CT"):
        settled(folder, axes="TC")


def test_the_commonest_number_of_channels_decides_and_not_the_first_files(tmp_path):
    features = settled(write_source(tmp_path / "source", [(30, 7)] + [(3 * s, 5) for s in SECONDS[1:]]))
    assert features.read("v1").shape == (5, 8)
    with pytest.raises(DataError, match=r"v0\.npy have 7 channels, most of .* have 5"):
        features.read("v0")


def test_axes_of_length_one_are_dropped(tmp_path):
    np.save(tmp_path / "abc.npy", ARRAY[None, :, None, :])
    np.testing.assert_allclose(PublishedFeatures([tmp_path], 7).read("abc").numpy(), ARRAY.T)


def test_the_decided_order_is_part_of_the_provenance_and_the_usual_one_changes_none(tmp_path):
    straight = write_source(tmp_path / "a", [(3 * s, 5) for s in SECONDS])
    turned = write_source(tmp_path / "b", [(5, 3 * s) for s in SECONDS])
    assert settled(straight).provenance == PublishedFeatures([straight], 8).provenance
    assert settled(turned).provenance == PublishedFeatures([straight], 8, axes="CT").provenance


def test_an_export_keeps_the_commonest_channels_and_names_the_others(tmp_path):
    folder = tmp_path / "features"
    write_source(folder, [(4, 7)] + [(4, 5)] * 5, ".safetensors")
    (tmp_path / "features.json").write_text("{}")
    count, failed = export_npy(folder, tmp_path / "out")
    assert count == 5
    assert len(failed) == 1
    assert "v0.safetensors have 7 channels, most have 5" in failed[0]
