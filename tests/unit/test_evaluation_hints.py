"""A result file whose ids or times are written in another way is told how; a right one is not."""

import json

import pytest
from typer.testing import CliRunner

from lofi_tal.cli.app import app
from lofi_tal.evaluation import evaluate_detections

IDS = [f"{letter}Bc{number:02d}xY" for letter in "pqrs" for number in range(3)]


def truth(ids=IDS, duration=60.0):
    return {
        "database": {
            name: {"subset": "validation", "duration": duration, "annotations": [{"label": "a", "segment": [3.0, 9.0]}]}
            for name in ids
        }
    }


def results(ids, segment=(3.0, 9.0)):
    return {"results": {name: [{"label": "a", "score": 0.5, "segment": list(segment)}] for name in ids}}


@pytest.mark.parametrize(
    ("rename", "words"),
    [
        (lambda name: f"v_{name}", "without the prefix 'v_': 'v_pBc00xY' is 'pBc00xY'"),
        (lambda name: f"video_test_{name}", "without the prefix 'video_test_'"),
        (lambda name: f"{name}.mp4", "without the suffix '.mp4'"),
        (lambda name: f"{name}_rgb", "without the suffix '_rgb'"),
        (lambda name: f"val/{name}.npy", "without the prefix 'val/' and the suffix '.npy'"),
        (lambda name: name.swapcase(), "but for case"),
        (lambda name: f"{name[0]}/{name.upper()}.mkv", "but for case"),
        (lambda name: name.replace("c0", "c"), "zeros in front"),
    ],
)
def test_ids_that_are_written_in_another_way_are_explained(rename, words):
    found = evaluate_detections(truth(), results(map(rename, IDS)))
    assert found.average_mAP == 0
    assert any(words in hint for hint in found.hints), found.hints


def test_ids_that_lack_what_the_ground_truth_has_are_explained():
    found = evaluate_detections(truth([f"v_{name}" for name in IDS]), results(IDS))
    assert len(found.hints) == 1
    assert "12 of 12 ids" in found.hints[0]
    assert "with the prefix 'v_': 'pBc00xY' is 'v_pBc00xY'" in found.hints[0]


def test_a_part_of_the_ids_is_explained_too():
    found = evaluate_detections(truth(), results([*IDS[:6], *(f"v_{name}" for name in IDS[6:])]))
    assert found.average_mAP > 0
    assert "6 of 6 ids" in found.hints[0]


def test_the_wrong_subset_is_named():
    document = truth()
    document["database"] |= {f"t{name}": {**document["database"][name], "subset": "training"} for name in IDS}
    found = evaluate_detections(document, results([f"t{name}" for name in IDS]))
    assert found.hints == (
        "In subset 'training' of the ground truth, which is not evaluated: 12 videos with detections. Was another "
        "subset meant?",
    )


@pytest.mark.parametrize(
    ("segment", "words"),
    [((90.0, 270.0), "frames or milliseconds"), ((3000.0, 9000.0), "frames or milliseconds"), ((0.05, 0.15), "shares")],
)
def test_times_in_another_unit_are_explained(segment, words):
    found = evaluate_detections(truth(), results(IDS, segment))
    assert found.average_mAP == 0
    assert words in found.hints[0]


def test_right_files_poor_detections_and_strange_videos_get_no_hint():
    assert evaluate_detections(truth(), results(IDS)).hints == ()
    assert evaluate_detections(truth(), results(IDS, (20.0, 30.0))).hints == ()
    assert evaluate_detections(truth(), results([*IDS, "holiday", "other"])).hints == ()
    assert evaluate_detections(truth(), {"results": {}}).hints == ()


def test_the_command_says_it_on_stderr_and_in_its_json(tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps(truth()))
    (tmp_path / "found.json").write_text(json.dumps(results([f"v_{name}" for name in IDS])))
    command = ["evaluate", str(tmp_path / "truth.json"), str(tmp_path / "found.json")]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0
    assert "12 of 12 ids of the results" in shown.stderr
    assert "without the prefix 'v_'" in shown.stderr
    document = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert document["average_mAP"] == 0
    assert "'v_'" in document["hints"][0]
