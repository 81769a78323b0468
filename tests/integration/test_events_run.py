"""Point events from end to end: the middles of the tiny benchmark's segments are trained on, found and evaluated."""

import json
from pathlib import Path

import pytest

from lofi_tal.demo import demo_recipe
from lofi_tal.run import Run, write_run_report
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


def test_the_command_shows_them_and_says_them_as_json(events_run):
    _, run, results = events_run
    again = lofi("run", run / "recipe.yaml", "-o", run, "--resume", "--quiet")
    assert again.exit_code == 0, again.stderr
    assert "events, tight tolerances" in again.stdout
    assert "0.5 s" in again.stdout
    told = json.loads(lofi("run", run / "recipe.yaml", "-o", run, "--resume", "--quiet", "--json").stdout)
    assert told["lofi"]["events"]["close"]["mAP"] == list(results["lofi"].events["close"]["mAP"])
