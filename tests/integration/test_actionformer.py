"""ActionFormer in stages 2 and 3, in detection, and on published features that keep their number."""

import json
import shutil

import numpy as np
import pytest
import torch

from conftest import lofi
from lofi_tal.errors import DataError, LofiError
from lofi_tal.files import read_json, write_json
from lofi_tal.heads import ActionFormer, load_head
from lofi_tal.localizer import Localizer
from lofi_tal.recipes.writing import save_recipe
from lofi_tal.run import Run
from lofi_tal.runtime import make_fabric
from lofi_tal.runtime.checkpoint import Checkpoint, Course

OPTIONS = {"width": 16, "heads": 2, "windows": 5, "levels": 4, "stem_blocks": 1, "normaliser": 10.0}
TRAINING = {"optimizer": "adamw", "weight_decay": 0.05, "warmup": 1, "clip_norm": 1.0, "lrs": [1e-2], "batch": 4}
FPS, STRIDE, SPAN, CLASSES = 10.0, 4, 16, 2


def test_a_recipe_trains_stages_2_and_3_with_it_and_detects(changed, finished_run, tmp_path):
    run, _ = finished_run
    recipe = changed(
        head={"name": "actionformer", "options": OPTIONS, "epochs": 2, **TRAINING},
        lofi={"strategy": "chunked", "chunk": 5, "optimizer": "adamw", "lr": 1e-3},
        detect={"sigma": 0.5, "top_k": 20},
        baseline=False,
    )
    shutil.copytree(run.output / "pretrain", tmp_path / "run/pretrain")
    again = Run(recipe, tmp_path / "run", device="cpu", quiet=True)
    with again.open():
        (result,) = again.run()
    assert len(result.chosen["candidates"]) == 1
    rates = [json.loads(line)["lr"] for line in next((tmp_path / "run").rglob("head/*/metrics.jsonl")).open()]
    assert rates[0] == 0  # the first step of the warm-up
    assert max(rates) == pytest.approx(1e-2)
    localizer = Localizer.from_pretrained(tmp_path / "run", device="cpu")
    assert localizer.head.num_classes == len(localizer.labels) > 1
    found = localizer.predict(run.data().evaluation[0].file.path)
    assert 0 < len(found) <= 20
    assert set(found.label) <= set(localizer.labels)


@pytest.fixture
def published(tmp_path):
    """Features that say in their first channels which class takes place, at ActionFormer's grid of times."""
    random, database = np.random.default_rng(0), {}
    (tmp_path / "features").mkdir()
    for index in range(10):
        count = int(random.integers(20, 60))
        time = (np.arange(count) * STRIDE + SPAN / 2) / FPS
        array, records = random.normal(size=(count, 6)).astype(np.float32) * 0.1, []
        for label in range(CLASSES):  # both overlap
            start = random.uniform(1, time[-1] - 5)
            end = start + random.uniform(2, 4)
            array[(time > start) & (time < end), label] = 1
            records.append({"segment": [start, end], "label": f"class {label}"})
        np.save(tmp_path / f"features/video{index}.npy", array)
        database[f"video{index}"] = {
            "duration": time[-1] + 2, "subset": "training" if index < 7 else "validation", "annotations": records,
            "fps": FPS,
        }  # fmt: skip
    write_json(tmp_path / "annotations.json", {"database": database})
    return tmp_path


def features_recipe(changed, folder, **head):
    return changed(
        data={"annotations": str(folder / "annotations.json"), "selection_share": 0.3, "tiou": "thumos"},
        features={"sources": [str(folder / "features")], "resize": "keep", "stride": STRIDE, "span": SPAN},
        snippets={"count": 32, "overlap": 0.5},
        head={"name": "actionformer", "options": OPTIONS, **TRAINING, "epochs": 40, "refit": False, **head},
        detect={"sigma": 0.5, "top_k": 200},
    )


def test_features_keep_their_number_and_overlapping_classes_are_found_where_they_are(changed, published):
    recipe = features_recipe(changed, published)
    run = Run(recipe, published / "run", device="cpu", quiet=True)
    with run.open():
        features, _, _ = run.features("features")
        arrays = {video.video_id: np.load(published / f"features/{video.video_id}.npy") for video in features.videos}
        for video, kept in zip(features.videos, features.features, strict=True):
            np.testing.assert_array_equal(kept.T, arrays[video.video_id])
            centres = video.clock.seconds((np.arange(kept.shape[1]) + 0.5) / kept.shape[1])
            np.testing.assert_allclose(centres, (np.arange(kept.shape[1]) * STRIDE + SPAN / 2) / FPS)
        (result,) = run.run()
    assert result.scores["fused"]["average_mAP"] > 0.6, result.scores["fused"]
    localizer = Localizer.from_pretrained(result.model, device="cpu")
    assert localizer.windows.keep
    (found,) = localizer.localise_features([torch.from_numpy(arrays["video9"].T.copy())])
    assert set(found.labels.tolist()) == {0, 1}


def test_a_published_checkpoint_is_taken_as_it_is(changed, published):
    head = ActionFormer(6, CLASSES, **OPTIONS)
    weights = {f"module.{key}": value for key, value in head.state_dict().items()}
    torch.save({"epoch": 34, "state_dict": {}, "state_dict_ema": weights}, published / "epoch_034.pth.tar")
    (published / "recipe.yaml").write_text(save_recipe(features_recipe(changed, published)))
    output = published / "run"
    found = lofi(
        "head", published / "recipe.yaml", "--weights", published / "epoch_034.pth.tar", "-o", output, "--json"
    )
    assert found.exit_code == 0, found.stderr
    model = next(output.rglob("localizer.json")).parent
    loaded = load_head(model).state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in head.state_dict().items())
    assert not list(output.rglob("head/lr-*"))  # nothing was trained


def test_a_head_that_needs_equally_many_features_says_so(changed, published):
    recipe = features_recipe(changed, published, name="bmn", options={})
    run = Run(recipe, published / "run", device="cpu", quiet=True)
    with run.open(), pytest.raises(LofiError, match="head 'bmn' needs as many of each: take the head actionformer"):
        run.run()
    with pytest.raises(LofiError, match=r"features\.stride is missing"):
        changed(features={"sources": ["features"], "resize": "keep"})


def test_a_stride_of_frames_needs_a_frame_rate(changed, published):
    content = read_json(published / "annotations.json")
    for entry in content["database"].values():
        del entry["fps"]
    write_json(published / "annotations.json", content)
    with pytest.raises(DataError, match=r"no fps in the annotations: set features\.fps"):
        Run(features_recipe(changed, published), published / "run", device="cpu", quiet=True).data()


def test_a_checkpoint_keeps_what_the_loss_divides_by(tmp_path):
    fabric = make_fabric("cpu", "fp32", alone=True)
    heads = [ActionFormer(4, **OPTIONS) for _ in "12"]
    checkpoints = [
        Checkpoint(tmp_path / "checkpoint.pt", "same", fabric, {"head": head}, torch.optim.SGD(head.parameters(), 0.1))
        for head in heads
    ]
    heads[0].running.fill_(3.5)
    checkpoints[0].save(Course(1, 0.0, {}))
    checkpoints[1].load()
    assert heads[1].running.item() == 3.5
