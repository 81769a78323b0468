"""Runs on features of others: transposed ones are recognised or refused, and most files decide the channels."""

import numpy as np
import pytest
import torch

from lofi_tal.config import FeaturesSection
from lofi_tal.errors import DataError
from lofi_tal.files import read_json
from lofi_tal.recipes import load_recipe
from lofi_tal.recipes.writing import save_recipe
from lofi_tal.run import Run

CHANNELS = 6


@pytest.fixture
def videos(benchmark_set):
    return {name: entry["duration"] for name, entry in read_json(benchmark_set.annotations)["database"].items()}


def features_of(recipe, folder, output, **options):
    section = FeaturesSection(sources=(folder,), **options)
    changed = recipe.model_copy(update={"features": section, "lofi": None})
    features, _, failed = Run(changed, output, device="cpu", quiet=True).features("features")
    return {video.video_id: one for video, one in zip(features.videos, features.features, strict=True)}, failed


def write(folder, arrays, *, turned=()):
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array.T if name in turned else array)
    return folder


def test_transposed_features_give_the_same_as_straight_ones(tiny_recipe, videos, tmp_path, caplog):
    random = np.random.default_rng(0)
    arrays = {name: random.normal(size=(round(5 * seconds) + 3, CHANNELS)) for name, seconds in videos.items()}
    few = list(arrays)[:2]
    straight, _ = features_of(tiny_recipe, write(tmp_path / "TC", arrays), tmp_path / "a")
    turned, _ = features_of(tiny_recipe, write(tmp_path / "CT", arrays, turned=arrays), tmp_path / "b")
    mixed, _ = features_of(tiny_recipe, write(tmp_path / "mixed", arrays, turned=few), tmp_path / "c")
    for name, features in straight.items():
        assert torch.equal(features, turned[name])
        assert torch.equal(features, mixed[name])
    assert f"Transposed: 2 arrays, for they lay the other way: {', '.join(few)}" in caplog.text


def test_transposed_features_of_one_length_are_refused_by_axes(tiny_recipe, videos, tmp_path):
    arrays = {name: np.ones((100, 400), np.float32) for name in videos}
    folder = write(tmp_path / "CT", arrays, turned=arrays)
    with pytest.raises(DataError, match=r"features\.axes: CT"):
        features_of(tiny_recipe, folder, tmp_path / "a")
    found, _ = features_of(tiny_recipe, folder, tmp_path / "b", axes="CT")
    assert {one.shape[0] for one in found.values()} == {400}


def test_the_first_file_with_other_channels_is_lost_and_not_all_others(tiny_recipe, videos, tmp_path):
    first = min(videos)
    arrays = {name: np.ones((9, CHANNELS + (name == first)), np.float32) for name in videos}
    found, failed = features_of(tiny_recipe, write(tmp_path / "TC", arrays), tmp_path / "a")
    assert list(failed) == [first]
    assert f"have {CHANNELS + 1} channels, most of" in failed[first]
    assert len(found) == len(videos) - 1


def test_axes_that_were_left_out_stay_out_of_the_recipe_of_the_run(tiny_recipe, tmp_path):
    path = tmp_path / "recipe.yaml"
    for axes in (None, "CT"):
        section = FeaturesSection(sources=(tmp_path,), axes=axes)
        path.write_text(save_recipe(tiny_recipe.model_copy(update={"features": section})))
        assert ("  axes: CT" in path.read_text()) == (axes is not None)
        assert load_recipe(path).features.axes == axes
