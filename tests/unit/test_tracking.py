"""Metrics go to the loggers that a recipe names; one that fails costs itself."""

import csv
import logging
import sys
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lofi_tal.errors import LofiError
from lofi_tal.tracking import LOGGERS, Trackers, check_tracking, create_logger, list_loggers


def trackers(folder, tracking, start=0):
    return Trackers(tracking, folder=folder, stage="lofi", start=start)


def test_tensorboard_and_csv_hold_what_was_logged(tmp_path):
    loggers = trackers(tmp_path, {"tensorboard": {}, "csv": {"flush_logs_every_n_steps": 1}})
    for step in range(3):
        loggers.log({"loss": 1.0 / (step + 1), "lr": 0.1}, step)
    loggers.close(success=True)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, round(event.value, 4)) for event in board.Scalars("loss")] == [(0, 1.0), (1, 0.5), (2, 0.3333)]
    rows = list(csv.DictReader((tmp_path / "csv/from-step-0/metrics.csv").open()))
    assert [float(row["loss"]) for row in rows] == [1.0, 0.5, pytest.approx(1 / 3)]


def test_a_resumed_stage_leaves_the_lines_before_it(tmp_path):
    for start in (0, 2):
        loggers = trackers(tmp_path, {"csv": {}}, start)
        loggers.log({"loss": float(start)}, start)
        loggers.close(success=True)
    assert sorted(path.parent.name for path in tmp_path.rglob("metrics.csv")) == ["from-step-0", "from-step-2"]


def test_a_logger_that_fails_is_dropped_with_one_warning(tmp_path, caplog, monkeypatch):
    ended = []

    class Broken:
        def log_metrics(self, metrics, step=None):
            raise ConnectionError("no network")

        def finalize(self, status):
            ended.append(status)

    monkeypatch.setitem(LOGGERS._registered, "broken_for_test", Broken)
    with caplog.at_level(logging.WARNING, "lofi_tal"):
        loggers = trackers(tmp_path, {"broken_for_test": {}, "csv": {}})
        loggers.log({"loss": 1.0}, 0)
        loggers.log({"loss": 1.0}, 1)
        loggers.close(success=False)
    assert [record.getMessage() for record in caplog.records] == [
        "tracking.broken_for_test: ConnectionError: no network; it gets no more metrics of this stage."
    ]
    assert ended == ["failed"]
    assert len(list(csv.DictReader((tmp_path / "csv/from-step-0/metrics.csv").open()))) == 2


def test_a_logger_that_cannot_be_built_costs_itself_and_a_wrong_option_the_command(tmp_path, caplog, monkeypatch):
    def unreachable(folder):
        raise ValueError("no server")

    monkeypatch.setitem(LOGGERS._registered, "unreachable_for_test", unreachable)
    with caplog.at_level(logging.WARNING, "lofi_tal"):
        assert list(trackers(tmp_path, {"unreachable_for_test": {}, "csv": {}}).loggers) == ["csv"]
    assert "ValueError: no server" in caplog.text
    for tracking, words in (({"csv": {"foo": 1}}, "tracking.csv: .*'foo'"), ({"os:getcwd": {}}, "log_metrics")):
        with pytest.raises(LofiError, match=words):
            trackers(tmp_path, tracking)
    with pytest.raises(LofiError, match="'foo'"):
        check_tracking({"csv": {"foo": 1}})  # before a stage is begun


def test_weights_and_biases_goes_on_with_its_run(tmp_path, monkeypatch):
    asked, logged = [], []
    run = SimpleNamespace(log=lambda metrics, step: logged.append((metrics, step)), finish=lambda exit_code: None)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **options: asked.append(options) or run))
    for _ in range(2):
        loggers = trackers(tmp_path, {"wandb": {"project": "mine"}})
        loggers.log({"loss": 0.5}, 7)
        loggers.close(success=True)
    assert asked[0]["id"] == asked[1]["id"]
    assert (asked[0]["project"], asked[0]["name"], asked[0]["resume"]) == ("mine", "lofi", "allow")
    assert logged == [({"loss": 0.5}, 7)] * 2


def test_mlflow_gets_a_run_for_each_stage(tmp_path, monkeypatch):
    calls = []

    class Client:
        def __init__(self, uri):
            calls.append(uri)

        def get_experiment_by_name(self, name):
            return None

        def create_experiment(self, name):
            return name + "-1"

        def create_run(self, number, run_name):
            return SimpleNamespace(info=SimpleNamespace(run_id=f"{number}/{run_name}"))

        def log_metric(self, run_id, key, value, step):
            calls.append((run_id, key, value, step))

        def set_terminated(self, run_id, status):
            calls.append((run_id, status))

    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=Client))
    loggers = trackers(tmp_path, {"mlflow": {"experiment": "tal"}})
    loggers.log({"loss": 0.5}, 7)
    loggers.close(success=False)
    assert calls == [
        (tmp_path / "mlruns").as_uri(),
        ("tal-1/lofi", "loss", 0.5, 7),
        ("tal-1/lofi", "KILLED"),
    ]


def test_what_is_wrong_is_named(tmp_path):
    assert {"tensorboard", "csv", "wandb", "mlflow"} <= set(list_loggers())
    for name, options, words in (
        ("csv", {"folders": 3}, "tracking.csv: .*unexpected keyword argument 'folders'"),
        ("tensorbord", {}, "Did you mean 'tensorboard'"),
    ):
        with pytest.raises(LofiError, match=words):
            create_logger(name, options, folder=tmp_path, stage="lofi", start=0)


def test_a_package_that_is_missing_is_said_before_a_stage_begins(monkeypatch):
    monkeypatch.setattr("lofi_tal.tracking.find_spec", lambda name: None)
    check_tracking({"csv": {}, "tensorboard": {}})
    with pytest.raises(LofiError, match="pip install mlflow"):
        check_tracking({"csv": {}, "mlflow": {}})
