"""Published features: the layouts they come in, and how T of them become L."""

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from lofi_tal.errors import DataError, LofiError
from lofi_tal.features import RESIZES, PublishedFeatures, resize_features

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
