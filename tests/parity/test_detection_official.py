"""The official ActivityNet evaluator's figures on the real validation annotations."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lofi_tal.evaluation import evaluate_detections

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not (SHARED / "make_predictions.py").exists(), reason="needs the shared annotations"),
]

# activitynet/ActivityNet, eval_detection.py, subset validation, no blocked list; 94,560 detections, seed 4, 20 a video
AVERAGE = 0.313704587771
MAP = (
    0.4734787668,
    0.4679665606,
    0.4576043256,
    0.4392796458,
    0.4066862127,
    0.3503097926,
    0.2692562422,
    0.1722880346,
    0.0788548570,
    0.0213214398,
)


@pytest.fixture(scope="module")
def detections(tmp_path_factory):
    path = tmp_path_factory.mktemp("official") / "detections.json"
    command = [sys.executable, SHARED / "make_predictions.py", SHARED / "activitynet_v1-3.json", path, "4", "20"]
    subprocess.run([str(part) for part in command], check=True)
    return path


@pytest.mark.parametrize("ties", ["stable", "official"])  # this file has none
def test_map_matches_the_official_evaluator(detections, ties):
    result = evaluate_detections(SHARED / "activitynet_v1-3.json", detections, ties=ties)
    assert (result.videos, result.instances, result.detections) == (4728, 7293, 94_560)
    assert result.average_mAP == pytest.approx(AVERAGE, abs=1e-9)
    assert result.mAP == pytest.approx(MAP, abs=1e-9)
    assert (result.missing_videos, result.extra_videos, result.excluded_videos) == ((), (), ())


def test_a_reduced_protocol_equals_a_reduced_annotation_file(detections):
    # As 4,728 of 4,926: leaving ids out of the full file is the same as evaluating on the smaller one.
    truth = json.loads((SHARED / "activitynet_v1-3.json").read_text())
    found = json.loads(detections.read_text())
    names = [v for v, entry in truth["database"].items() if entry["subset"] == "validation"][::20]
    excluded = evaluate_detections(truth, found, exclude=names)
    smaller = {"database": {v: e for v, e in truth["database"].items() if v not in set(names)}}
    remaining = {"results": {v: r for v, r in found["results"].items() if v not in set(names)}}
    assert excluded.videos == 4728 - len(names)
    assert set(excluded.excluded_videos) == set(names)
    assert excluded.mAP == evaluate_detections(smaller, remaining).mAP
