"""`lofi compare` on a finished run, on copies of it that differ, and on result files of other tools."""

import json
import shutil

import pytest
import yaml

import lofi_tal
from lofi_tal.artefacts import read_record, sealed
from lofi_tal.files import write_json
from tests.integration.conftest import lofi

FEW = ("--bootstrap", "20")


@pytest.fixture
def run_folder(finished_run):
    return finished_run[0].output


@pytest.fixture
def copied(run_folder, tmp_path):
    """Return a copy of the run without its large parts, as a version wrote it that knew no hashes."""
    folder = tmp_path / "copy"
    large = shutil.ignore_patterns("cache", "*.safetensors", "features", "tensorboard", ".lock")
    shutil.copytree(run_folder, folder, ignore=large)
    for path in folder.glob("arms/*/evaluation/stage.json"):
        record = read_record(path)
        write_json(path, {key: value for key, value in record.items() if key not in ("files", "notes")})
    return folder


def change_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def compared(*arguments, status=0):
    got = lofi("compare", *arguments, *FEW, "--json")
    assert got.exit_code == status, got.stderr
    return json.loads(got.stdout), got.stderr


def test_the_arms_of_one_run_have_the_figures_of_its_report_three_ways(finished_run, tmp_path):
    run, results = finished_run
    got, said = compared(run.output, "--output", tmp_path / "page.html")
    for result, system in zip(results, got["systems"], strict=True):
        assert system["name"].endswith(f":{result.arm}")
        for way in ("fused", "agnostic", "oracle"):
            assert system["scores"][way]["mAP"] == pytest.approx(result.scores[way]["mAP"], abs=1e-12)
    assert got["settings"] == got["environment"] == got["left_out"] == {}
    assert [cost is None for cost in got["stages"]["lofi"]] == [True, False], "the baseline has no stage 2"
    page = (tmp_path / "page.html").read_text()
    assert "Fixed and broken" in page
    (few,) = got["notes"]
    assert "Do not trust the intervals" in few
    assert few in " ".join(said.split())
    assert few in page
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"], "one file"
    assert "http" not in page.replace("http://www.w3.org", "")


def test_a_run_compared_with_itself_differs_in_nothing(run_folder):
    got = lofi("compare", run_folder, run_folder, *FEW)
    assert got.exit_code == 0, got.stderr
    assert "finds 0 actions that" in got.stderr
    assert "No setting differs." in got.stderr
    assert f"{run_folder.name} (2)" in got.stdout
    assert "fixed and broken by video" not in got.stdout


def test_settings_and_environments_show_what_differs_and_nothing_else(run_folder, copied):
    recipe = yaml.safe_load((copied / "recipe.yaml").read_text())
    recipe["lofi"]["epochs"], recipe["seed"] = 99, 7
    (copied / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    facts = read_record(copied / "environment.json")
    facts["versions"]["torch"] = "1.0"
    write_json(copied / "environment.json", sealed(facts))
    got, _ = compared(run_folder, copied)
    assert {key: values[1] for key, values in got["settings"].items()} == {"seed": 7, "lofi.epochs": 99}
    assert [*got["environment"]] == ["versions.torch"]


def test_an_arm_that_is_not_there_is_refused_with_those_that_are(run_folder):
    got = lofi("compare", run_folder, f"{run_folder}:features")
    assert got.exit_code == 2
    assert "has no evaluated arm 'features'; it has: lofi, baseline" in got.stderr
    assert lofi("compare", run_folder, "nowhere").exit_code == 2
    assert "alone cannot be compared" in lofi("compare", f"{run_folder}:lofi").stderr


def test_what_is_common_is_compared_and_the_rest_is_told(run_folder, copied):
    lost = []
    change_json(copied / "arms/lofi/detections.json", lambda content: lost.append(content["results"].popitem()[0]))
    change_json(copied / "data.json", lambda content: lost.append(content["classes"].pop()))
    got, told = compared(run_folder, copied, status=4)
    video, label = lost
    assert got["left_out"] == {video: "not in copy"}
    assert video not in got["videos"]
    assert got["classes_left_out"] == {label: "not known to copy"}
    assert label not in got["labels"]
    assert f"Videos that are not compared: 1: {video} (not in copy)" in told
    assert f"Classes that are not compared: 1: {label} (not known to copy)" in told


def test_no_common_video_is_an_error(run_folder, copied):
    change_json(copied / "arms/lofi/detections.json", lambda content: content.update(results={"other": []}))
    got = lofi("compare", run_folder, copied)
    assert got.exit_code == 3
    assert "No video is common to all" in got.stderr


def test_labels_that_have_changed_since_are_told(run_folder, copied, benchmark_set, tmp_path):
    labels = json.loads(benchmark_set.annotations.read_text())
    name = next(name for name, entry in labels["database"].items() if entry["subset"] == "validation")
    labels["database"][name]["annotations"][0]["segment"][1] += 0.5
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    got, told = compared(run_folder, copied, "--annotations", tmp_path / "labels.json")
    assert "was evaluated against other annotations than" in told
    assert "those of 1 common video differ" in " ".join(got["notes"])


def test_detections_of_classes_without_an_action_are_told(run_folder, copied, tmp_path):
    labels = json.loads((run_folder / "labels.json").read_text())
    found = json.loads((run_folder / "arms/lofi/detections.json").read_text())["results"]
    gone = next(one["label"] for some in found.values() for one in some)
    for video in labels["database"].values():
        video["annotations"] = [one for one in video["annotations"] if one["label"] != gone]
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    got, _ = compared(run_folder, copied, "--annotations", tmp_path / "labels.json")
    notes = [note for note in got["notes"] if "classes without an action that is compared" in note]
    assert len(notes) == 2
    assert all(f"({gone})" in note for note in notes)


def test_damaged_detections_are_refused(run_folder, copied):
    shutil.copy(run_folder / "arms/lofi/evaluation/stage.json", copied / "arms/lofi/evaluation/stage.json")
    assert lofi("compare", run_folder, copied, *FEW).exit_code == 0
    (copied / "arms/lofi/detections.json").write_text('{"results": {}}')
    got = lofi("compare", run_folder, copied)
    assert got.exit_code == 3
    assert "detections.json is damaged" in got.stderr


def test_a_run_of_another_version_is_compared_as_far_as_its_files_allow(run_folder, copied):
    (copied / "recipe.yaml").write_text((copied / "recipe.yaml").read_text() + "unheard_of: 1\n")
    for name in ("environment.json", "data.json"):
        (copied / name).unlink()
    got, told = compared(run_folder, copied)
    assert got["settings"] == {"unheard_of": [None, 1]}
    assert "its recipe is of another version" in told
    assert "its environment is not known" in told
    assert got["differences"][0]["fixed"] == got["differences"][0]["broken"] == 0


def test_result_files_of_any_tool_are_compared(run_folder, benchmark_set, tmp_path):
    first, second = (run_folder / f"arms/{arm}/detections.json" for arm in ("baseline", "lofi"))
    got, _ = compared(first, second, "--annotations", benchmark_set.annotations)
    arms, _ = compared(run_folder)
    ways = [[part["average_mAP"] for part in one["differences"][0]["ways"].values()] for one in (got, arms)]
    assert ways[0] == ways[1]
    assert got["stages"] == got["settings"] == {}
    assert all(system["chosen_here"] for system in got["systems"])
    assert "--annotations" in lofi("compare", first, second).stderr
    assert "No setting differs" not in lofi("compare", run_folder, second, *FEW).stderr, "a file has no settings"
    fewer = tmp_path / "fewer.json"
    shutil.copy(second, fewer)
    change_json(fewer, lambda content: content["results"].popitem())
    assert len(compared(first, fewer, "--annotations", benchmark_set.annotations, status=4)[0]["left_out"]) == 1
    whole, _ = compared(first, fewer, "--annotations", benchmark_set.annotations, "--all-videos")
    assert whole["videos"] == got["videos"]
    change_json(fewer, lambda content: content["results"].update({next(iter(content["results"])): [
        {"label": "no such class", "score": 0.5, "segment": [0, 1]}]}))  # fmt: skip
    refused = lofi("compare", first, fewer, "--annotations", benchmark_set.annotations)
    assert refused.exit_code == 3
    assert "no such class" in refused.stderr


def test_python_gives_the_same_comparison(run_folder):
    found = lofi_tal.compare_runs(run_folder, f"{run_folder}:baseline", replicates=20)
    got, _ = compared(run_folder, f"{run_folder}:baseline")
    assert json.loads(json.dumps(found.to_json())) == got
