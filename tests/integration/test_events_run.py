"""Point events from end to end: the middles of the tiny benchmark's segments are trained on, found and evaluated."""

import json
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest

from lofi_tal.annotations import load_annotations
from lofi_tal.annotations.soccernet import read_game
from lofi_tal.demo import demo_recipe
from lofi_tal.evaluation.agreement import label_changes
from lofi_tal.run import Run, write_run_report
from lofi_tal.studio.run_mistakes import VideoLabels, mistakes_of
from lofi_tal.studio.runs import find_runs
from tests.integration.conftest import lofi
from tests.tiny import SETTINGS

WIDTH = 1.0
SHORT = ("pretrain.epochs=1", "lofi.epochs=1", "head.lrs=[0.002]", "head.refit=false")


def as_events(document):
    """Return labels with each segment as an event at its middle."""
    for video in document["database"].values():
        for one in video["annotations"]:
            one["segment"] = [sum(one["segment"]) / 2] * 2
    return document


@pytest.fixture(scope="module")
def events_run(benchmark_set, tmp_path_factory):
    """Return labels, run folder and what the run found by arm."""
    folder = tmp_path_factory.mktemp("events")
    labels = folder / "labels.json"
    labels.write_text(json.dumps(as_events(json.loads(Path(benchmark_set.annotations).read_text()))))
    more = (f"data.annotations={labels}", f"data.events={WIDTH}", *SHORT)
    run = Run(
        demo_recipe(benchmark_set, seed=0, overrides=(*SETTINGS, *more)), folder / "run", device="cpu", quiet=True
    )
    with run.open("lofi run recipe.yaml"):
        results = run.run()
        write_run_report(run, results)
    return labels, folder / "run", {result.arm: result for result in results}


def test_a_run_reports_the_map_of_events_as_evaluate_computes_it(events_run):
    labels, run, results = events_run
    for arm, result in results.items():
        assert list(result.events) == ["tight", "close"]
        for name, scores in result.events.items():
            told = lofi("evaluate", labels, run / "arms" / arm / "detections.json", "--events", name, "--json")
            assert json.loads(told.stdout) == json.loads(json.dumps(scores))
    report = json.loads((run / "report.json").read_text())
    assert [set(arm["events"]) for arm in report["arms"]] == [{"tight", "close"}] * len(results)
    page = (run / "report.html").read_text()
    label = next(iter(results["lofi"].events["tight"]["events"]))
    table = page.split("<h3>Classes of events")[1].split("</table>")[0]
    assert "Point events" in page
    assert label in table


def test_a_run_keeps_the_labels_as_they_were_and_the_studio_judges_it_by_them(events_run):
    labels, run, _ = events_run
    kept, original = load_annotations(run / "labels.json"), load_annotations(labels)
    assert not list(label_changes(original, kept))
    (facts,) = find_runs([run.parent]).values()
    rows = [VideoLabels(one.video_id, [row[:3] for row in one.segments]) for one in original.subset("validation")]
    found = mistakes_of(*facts.detections("lofi"), rows, facts.events())["counts"]
    told = json.loads((run / "report.json").read_text())["judgement"]["assessments"]["lofi"]["mistakes"]["counts"]
    names = {"wrong label": "mislabelled", "boundaries": "misplaced", "false alarm": "false", "double": "doubled"}
    assert found == {names.get(kind, kind): count for kind, count in told.items()}


def test_the_command_shows_them_and_says_them_as_json(events_run):
    _, run, results = events_run
    again = lofi("run", run / "recipe.yaml", "-o", run, "--resume", "--quiet")
    assert again.exit_code == 0, again.stderr
    assert "events, tight tolerances" in again.stdout
    assert "0.5 s" in again.stdout
    told = json.loads(lofi("run", run / "recipe.yaml", "-o", run, "--resume", "--quiet", "--json").stdout)
    assert told["lofi"]["events"]["close"]["mAP"] == list(results["lofi"].events["close"]["mAP"])


def test_a_model_of_events_remembers_them_and_detect_says_their_times(events_run, benchmark_set, tmp_path):
    _, run, _ = events_run
    record = json.loads((run / "arms/lofi/model/localizer.json").read_text())
    assert record["events"] == WIDTH
    for video in json.loads((run / "arms/lofi/detections.json").read_text())["results"].values():
        by_class = {}
        for one in video:
            assert 0 <= one["segment"][0] <= one["time"] <= one["segment"][1]
            by_class.setdefault(one["label"], []).append(one["time"])
        assert all(b - a >= WIDTH - 1e-5 for times in by_class.values() for a, b in pairwise(sorted(times)))
    game = tmp_path / "videos" / "league" / "game"
    game.mkdir(parents=True)
    paths = sorted(benchmark_set.videos.iterdir())[:2]
    for half, path in enumerate(paths, start=1):
        (game / f"{half}_224p{path.suffix}").symlink_to(path)
    wanted = [part for name in ("json", "csv", "srt", "html", "soccernet") for part in ("--format", name)]
    told = lofi("detect", tmp_path / "videos", "--recursive", "-m", run, "-o", tmp_path / "out", "--all", *wanted)
    assert told.exit_code == 0, told.stderr
    assert " events" in told.stdout
    assert "time" in told.stdout
    assert (tmp_path / "out/1_224p.csv").read_text().startswith("video,time,label,score\n")
    assert " at 0:" in (tmp_path / "out/1_224p.srt").read_text()
    assert '"events":true' in (tmp_path / "out/1_224p.html").read_text().replace(" ", "")
    found = json.loads((tmp_path / "out/1_224p.json").read_text())["results"]["1_224p"]
    results = read_game(tmp_path / "out/league/game/results_spotting.json")
    assert list(results) == ["league/game/1", "league/game/2"]
    times = sorted(results["league/game/1"].start)
    assert times == pytest.approx(sorted(one["time"] for one in found), abs=1e-3)


def test_detections_of_a_model_of_events_are_evaluated_as_events(events_run, benchmark_set, tmp_path):
    labels, run, _ = events_run
    content = json.loads(labels.read_text())["database"]
    names = [name for name, video in content.items() if video["subset"] == "validation"][:2]
    files = [path for path in benchmark_set.videos.iterdir() if path.stem in names]
    told = lofi("detect", *files, "-m", run, "--json")
    (tmp_path / "found.json").write_text(told.stdout)
    result = lofi("evaluate", labels, tmp_path / "found.json", "--events", "tight", "--json")
    assert 0 <= json.loads(result.stdout)["average_mAP"] <= 1


def test_the_learning_curve_is_that_of_events(events_run):
    _, run, results = events_run
    command = ("curve", run / "recipe.yaml", "-o", run, "-q", "--shares", "50,100", "--draws", "1", "--resume")
    told = json.loads(lofi(*command, "--json").stdout)
    for point in told["points"]:
        assert point["classes"].keys() == results["lofi"].events["tight"]["averages"].keys()
        assert point["scores"]["events"] == pytest.approx(fmean(point["classes"].values()))
    first, last = (point["scores"]["events"] for point in told["points"])
    assert (told["more"]["gain"] > 0) == (last > first)
    shown = lofi(*command)
    assert "of events" in shown.stderr + shown.stdout


def test_runs_of_events_are_compared_as_events_with_paired_intervals(events_run, tmp_path):
    _, run, results = events_run
    told = json.loads(lofi("compare", run, "--json", "--output", tmp_path / "page.html").stdout)
    for name, found in told["events"].items():
        values = [results[arm].events[name]["average_mAP"] for arm in ("baseline", "lofi")]
        assert [one["average_mAP"]["value"] for one in found["systems"]] == pytest.approx(values, abs=1e-9)
        assert found["differences"][0]["average_mAP"]["value"] == pytest.approx(values[1] - values[0], abs=1e-9)
    for one, arm in zip(told["systems"], ("baseline", "lofi"), strict=True):  # spans of the width, not points
        expected = results[arm].scores["agnostic"]["average_mAP"]
        assert one["scores"]["agnostic"]["average_mAP"] == pytest.approx(expected, abs=1e-9)
    assert "point events, tight tolerances" in (tmp_path / "page.html").read_text()
    assert "events, close tolerances" in lofi("compare", run).stdout


def test_result_files_of_events_are_evaluated_with_intervals_against_others_and_in_part(events_run, tmp_path):
    labels, run, results = events_run
    files = [run / "arms" / arm / "detections.json" for arm in ("lofi", "baseline")]
    command = ("evaluate", labels, files[0], "--events", "tight")
    told = json.loads(lofi(*command, "--against", files[1], "--bootstrap", "50", "--json").stdout)
    values = [results[arm].events["tight"]["average_mAP"] for arm in ("lofi", "baseline")]
    assert told["average_mAP"] == told["intervals"]["average_mAP"]["value"] == pytest.approx(values[0])
    assert told["intervals"]["difference"]["average_mAP"]["value"] == pytest.approx(values[0] - values[1])
    shown = lofi(*command, "--against", files[1], "--bootstrap", "50").stdout
    assert "paired 95 % interval" in shown
    names = list(json.loads(files[0].read_text())["results"])
    (tmp_path / "only.txt").write_text(f"{names[0]}\n{names[1]}\n")
    part = json.loads(lofi(*command, "--only", tmp_path / "only.txt", "--json").stdout)
    rest = json.loads(lofi(*command, "--exclude", tmp_path / "only.txt", "--json").stdout)
    assert sum(part["events"].values()) + sum(rest["events"].values()) == sum(told["events"].values())
    refused = lofi(*command, "--diagnose")
    assert refused.exit_code == 2
    assert "--diagnose does not go with --events: that takes --subset, --only" in refused.stderr
    assert "judge point events with --events tight" in lofi("evaluate", labels, files[0]).stderr
