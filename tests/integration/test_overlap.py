"""Classes that overlap, from the benchmark to detections: stages 1 to 3, report, detection, evaluation."""

import json

import pytest

from conftest import lofi, losses_of
from lofi_tal.annotations import load_annotations
from lofi_tal.demo import demo_recipe
from lofi_tal.files import read_json
from lofi_tal.recipes.writing import save_recipe
from lofi_tal.synthetic import make_dataset
from tests.tiny import SETTINGS

HEADS = {
    "gtad": ("head.options={hidden_1d: 32, hidden_2d: 16, hidden_3d: 32}",),
    "actionformer": (
        "head={name: actionformer, options: {width: 16, heads: 2, windows: 5, levels: 4, stem_blocks: 1}, lrs: [1e-2], "
        "epochs: 2, batch: 4, optimizer: adamw}",
        "balance={weights: effective}",
    ),
}


@pytest.fixture(scope="module")
def overlapping(tmp_path_factory):
    """Return the benchmark with two actions at a time, as `lofi data synth --preset tiny --overlap` makes it."""
    return make_dataset(tmp_path_factory.mktemp("overlap"), preset="tiny", seed=0, workers=1, overlap=True)


@pytest.mark.parametrize("head", HEADS)
def test_overlapping_classes_are_trained_reported_detected_and_evaluated(overlapping, head, tmp_path):
    settings = (*SETTINGS, "detect.multi_label=true", "lofi.class_loss=1.0", "baseline=false", "pretrain.epochs=1")
    recipe = demo_recipe(overlapping, seed=0, overrides=(*settings, *HEADS[head]))
    (tmp_path / "recipe.yaml").write_text(save_recipe(recipe))
    run = tmp_path / "run"
    result = lofi("run", tmp_path / "recipe.yaml", "-o", run, "--device", "cpu", "-q", "--json")
    assert result.exit_code == 0, result.stderr

    stage = read_json(run / "lofi/stage.json")["inputs"]
    assert stage["multi_label"] is True
    assert all(loss > 0 for loss in losses_of(run / "lofi"))
    weighted = next((run / "arms/lofi/head").glob("lr-*/stage.json"))
    assert read_json(weighted)["inputs"].get("balance") == ({"weights": "effective"} if head != "gtad" else None)

    report = read_json(run / "report.json")
    seen = report["judgement"]["assessments"]["lofi"]
    assert set(report["judgement"]["floors"]) == {"whole video", "grid", "motion energy"}
    assert seen["point"]["shown"] > 0
    truth = load_annotations(overlapping.annotations).subset("validation")
    assert sum(seen["mistakes"]["counts"].values()) > 0
    assert any(len(video.segments) > 1 for video in truth)

    video = min(overlapping.videos.glob("validation*"))
    result = lofi("detect", video, "--model", run, "--all", "--device", "cpu", "-q", "--json", "-o", tmp_path / "found")
    assert result.exit_code == 0, result.stderr
    (found,) = json.loads(result.stdout)["results"].values()
    assert {one["label"] for one in found} == set(report["judgement"]["assessments"]["lofi"]["classes"])

    result = lofi("evaluate", overlapping.annotations, run / "arms/lofi/detections.json", "--multi-label", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    scores = report["arms"][0]["scores"]["fused"]
    assert document["average_mAP"] == pytest.approx(scores["average_mAP"])
    assert document["instances"] == scores["instances"] == sum(len(video.segments) for video in truth)
