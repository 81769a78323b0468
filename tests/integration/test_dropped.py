"""Annotations that a run cannot use are listed, counted and told by the exit status; too many stop it."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from lofi_tal.cli.app import app
from lofi_tal.errors import DataError, counted


@pytest.fixture
def run(tmp_path):
    """`lofi run` on features of ten videos of 20 s, two classes, with some segments added or changed by id."""
    generator = np.random.default_rng(0)
    (tmp_path / "features").mkdir()
    database = {}
    for i in range(10):
        np.save(tmp_path / "features" / f"v{i}.npy", generator.normal(size=(16, 8)).astype(np.float32))
        records = [{"segment": [2.0, 9.0], "label": "jump"}, {"segment": [10.0, 15.0], "label": "run"}]
        database[f"v{i}"] = {"subset": "training" if i < 7 else "validation", "duration": 20.0, "annotations": records}
    (tmp_path / "recipe.yaml").write_text(
        "data: {annotations: labels.json, workers: 0, selection_share: 0.3}\nfeatures: {sources: [features]}\n"
        "snippets: {count: 16}\nclassifier: {epochs: 2}\n"
        "head: {options: {hidden_1d: 32, hidden_2d: 16, hidden_3d: 32}, epochs: 1, batch: 4, lrs: [2.0e-3]}\n"
    )

    def start(change, *options):
        change(database)
        (tmp_path / "labels.json").write_text(json.dumps({"database": database}))
        arguments = ["run", tmp_path / "recipe.yaml", "-o", tmp_path / "run", "--device", "cpu", "-q", *options]
        return CliRunner().invoke(app, list(map(str, arguments))), tmp_path / "run"

    return start


def add(name, segment, label="jump"):
    return lambda database: database[name]["annotations"].append({"segment": segment, "label": label})


def scaled(database, factor, names, label=None):
    for name in names:
        for record in database[name]["annotations"]:
            if label in (None, record["label"]):
                record["segment"] = [factor * time for time in record["segment"]]


@pytest.mark.parametrize(
    ("change", "dropped", "reason"),
    [
        (add("v0", [25, 30]), [("v0", "jump")], "the video has only [0, 20] s"),
        (add("v8", [7, 7], "run"), [("v8", "run")], "does not end after its start"),
        (lambda d: scaled(d, 1000, ["v1", "v9"]), [("v1", "jump"), ("v1", "run"), ("v9", "jump"), ("v9", "run")],
         "are these milliseconds?"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_listed_counted_and_told(run, change, dropped, reason):
    result, folder = run(change, "--json")
    assert result.exit_code == 4, result.output
    assert f"Not used: {counted(len(dropped), 'annotation')};" in result.stderr
    told = json.loads(result.stdout)["data"]["dropped"]
    assert [(one["video_id"], one["label"]) for one in told] == dropped
    assert all(reason in one["outcome"] for one in told)
    assert json.loads((folder / "data.json").read_text())["dropped"] == told
    notes = json.loads((folder / "report.json").read_text())["notes"]
    assert sum(reason in note and dropped[0][0] in note for note in notes) >= 1
    assert dropped[0][0] in (folder / "report.html").read_text()


def test_a_segment_that_is_only_clipped_is_no_loss(run):
    result, folder = run(add("v0", [18, 20.4]))
    assert result.exit_code == 0, result.output
    assert json.loads((folder / "data.json").read_text())["dropped"] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: scaled(d, 1000, [f"v{i}" for i in range(7)]), "segments of 'training' lies outside"),
        (lambda d: scaled(d, 25, ["v7", "v8", "v9"]), "segments of 'validation' lies outside"),
        (lambda d: scaled(d, 1e6, d, "run"), "class 'run' in 'training'"),
        (add("v0", [3, 2], "wave"), "class 'wave' in 'training'"),
    ],
)
def test_a_subset_or_class_of_which_nothing_is_left_stops_a_run_before_it_trains(run, change, said):
    result, folder = run(change)
    assert isinstance(result.exception, DataError)
    assert said in str(result.exception)
    assert not (folder / "arms").exists()
