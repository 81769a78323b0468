"""Class names decide whether `lofi init` mirrors videos, and a run says when its recipe contradicts them."""

import json
import logging
import shutil

import pytest

from lofi_tal.initialise import write_recipe
from lofi_tal.recipes import load_recipe
from lofi_tal.run.data import read_data
from lofi_tal.video import VideoManifest


def renamed(benchmark, folder, names):
    """Return the benchmark's annotations with other class names."""
    document = json.loads(benchmark.annotations.read_text())
    labels = sorted({a["label"] for video in document["database"].values() for a in video["annotations"]})
    for video in document["database"].values():
        for annotation in video["annotations"]:
            annotation["label"] = names[labels.index(annotation["label"]) % len(names)]
    path = folder / "labels.json"
    path.write_text(json.dumps(document, ensure_ascii=False))
    return path


@pytest.mark.parametrize(
    ("names", "flip", "reason"),
    [
        (["swipe_left", "swipe_right"], False, "'swipe_left'"),
        (["turnleft", "walk"], False, "'turnleft'"),
        (["nach_links", "gehen"], False, "'nach_links'"),
        (["左转", "走"], False, "'左转'"),
        (["1", "2"], False, "unsure: '1', '2'"),
        (["pour", "stir"], True, "no class name speaks of left or right"),
    ],
)
def test_init_writes_the_flip_with_its_reason(benchmark_set, tmp_path, names, flip, reason):
    recipe = tmp_path / "recipe.yaml"
    annotations = renamed(benchmark_set, tmp_path, names)
    rows = write_recipe(recipe, trial=False, annotations=annotations, videos=benchmark_set.videos)
    assert load_recipe(recipe).data.flip is flip
    (row,) = [row for row in rows if row[0] == "data.flip"]
    assert (row[1], reason in row[2]) == (str(flip), True)


def test_init_reads_the_names_of_the_clips_too(benchmark_set, tmp_path):
    (tmp_path / "clips.csv").write_text(
        "label,youtube_id,time_start,time_end,split\npushing something from left to right,a,0,1,train\n"
    )
    clip = tmp_path / "pushing something from left to right" / "a.mp4"
    clip.parent.mkdir()
    shutil.copy(min(benchmark_set.videos.iterdir()), clip)
    rows = write_recipe(
        tmp_path / "recipe.yaml", trial=False, annotations=renamed(benchmark_set, tmp_path, ["pour", "stir"]),
        videos=benchmark_set.videos, clips=tmp_path / "clips.csv", clips_root=tmp_path,
    )  # fmt: skip
    (row,) = [row for row in rows if row[0] == "data.flip"]
    assert row[1] == "False"
    assert "'pushing something from left to right'" in row[2]


@pytest.mark.parametrize(("names", "warns"), [(["SwipeLeft", "SwipeRight"], True), (["1", "2"], False)])
def test_a_run_whose_recipe_mirrors_such_classes_says_so(benchmark_set, tmp_path, changed, caplog, names, warns):
    recipe = changed(data={"annotations": str(renamed(benchmark_set, tmp_path, names)), "flip": True})
    with caplog.at_level(logging.WARNING, logger="lofi_tal"):
        read_data(recipe, VideoManifest(None))
    assert any("'SwipeLeft'" in record.getMessage() for record in caplog.records) is warns
