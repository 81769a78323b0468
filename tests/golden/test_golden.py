"""A refactor leaves fingerprints, loss curves and detections as they are (made by tests/golden/runs.py).

Fingerprints are compared to the last digit; losses and detections with a tolerance, for processors and versions
of torch and FFmpeg round differently.
"""

import json

import pytest

from tests.golden.runs import EXPECTED, RUNS, execute, recipe_fingerprints, row_fingerprints

expected = json.loads(EXPECTED.read_text())


def test_recipes_and_their_sections_have_the_same_fingerprints():
    assert recipe_fingerprints() == expected["recipes"]


def test_rows_of_reproduce_have_the_settings_of_the_committed_results():
    assert row_fingerprints() == expected["rows"]


@pytest.fixture(scope="module", params=RUNS)
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    return execute(folder, (request.param,))[request.param], expected["runs"][request.param]


def test_inputs_of_stages(run):
    found, wanted = run
    assert found["inputs"] == wanted["inputs"]


def test_loss_curves(run):
    found, wanted = run
    assert found["losses"].keys() == wanted["losses"].keys()
    for stage, losses in wanted["losses"].items():
        assert found["losses"][stage] == pytest.approx(losses, rel=0.02), stage


def test_detections(run):
    found, wanted = run
    assert found["detections"].keys() == wanted["detections"].keys()
    for place, videos in wanted["detections"].items():
        assert found["detections"][place].keys() == videos.keys()
        for video, detections in videos.items():
            scores = [one["score"] for one in found["detections"][place][video]]
            assert scores == pytest.approx([one["score"] for one in detections], rel=0.05, abs=1e-3), video
