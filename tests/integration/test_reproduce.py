"""Rows of the tables on the tiny benchmark: the same twice, shared, resumed, and not stopped by a row that fails."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

import lofi_tal.reproduce.runner
from lofi_tal.cli.app import app
from lofi_tal.config import make_recipe
from lofi_tal.demo import demo_recipe
from lofi_tal.errors import LofiError
from lofi_tal.evaluation import bootstrap_detections
from lofi_tal.locks import locked
from lofi_tal.recipes.writing import save_recipe
from lofi_tal.reproduce import ROWS, Runner, open_base
from lofi_tal.reproduce.results import REPLICATES, read_result, result_path, unpack
from lofi_tal.run.training import Training
from tests.tiny import SETTINGS
from tests.waiting import until

QUICK = ("pretrain.epochs=1", "lofi.epochs=1", "head.lrs=[1e-3]", "head.epochs=1", "classifier.epochs=1")
PICKED = [ROWS[name] for name in ("motion", "acp", "long", "bmn_acp")]


@pytest.fixture(scope="module")
def base_file(benchmark_set, tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "tiny.yaml"
    path.write_text(save_recipe(demo_recipe(benchmark_set, seed=0, overrides=(*SETTINGS, *QUICK))))
    return path


@pytest.fixture(scope="module")
def done(base_file, tmp_path_factory):
    """Four rows of one seed; tests must not change the folders."""
    folder = tmp_path_factory.mktemp("reproduce")
    command = f"lofi reproduce --data {base_file} --device cpu"
    base, out = open_base(str(base_file), folder / "out"), folder / "out"
    runner = Runner(base, out, folder / "results", "cpu", command=command, quiet=True)
    return runner, {row.id: result for row, _, result in runner.run(PICKED, [0])}


def test_two_encoders_are_those_of_the_rows_that_have_one_each(base_file, tmp_path):
    base = open_base(str(base_file), tmp_path)
    runner = Runner(base, tmp_path / "out", tmp_path / "results", "cpu", quiet=True)
    rows = [ROWS[name] for name in ("acp", "arrow", "acp_arrow")]
    results = {row.id: result for row, _, result in runner.run(rows, [0])}
    assert len(list((tmp_path / "out/shared").glob("*/encoder.safetensors"))) == 2
    stages = {name: result["stages"] for name, result in results.items()}
    assert stages["acp_arrow"]["pretrain"] == stages["acp"]["pretrain"]
    assert stages["acp_arrow"]["second"] == stages["arrow"]["pretrain"]


def test_rows_leave_small_results_with_all_that_the_tables_need(done):
    runner, results = done
    assert list(results) == ["motion", "acp", "long", "bmn_acp"]
    for name, result in results.items():
        assert "failed" not in result, result
        path = result_path(runner.results, name, 0)
        assert path.stat().st_size < 50_000
        assert read_result(path) == json.loads(json.dumps({"format": 1, **result}))
        assert set(result["scores"]) == {"fused", "agnostic", "oracle"}
        assert 0 <= result["proposals"]["AR@1"] <= result["proposals"]["AR@100"] <= 1
        assert 0 <= result["probe"]["inside_auc"] <= 1
    assert [grid["snippets"] for grid in results["long"]["grids"]] == [12, 3, 6]
    assert set(results["motion"]["stages"]) == {"motion", "head"}
    assert set(results["long"]["stages"]) == {"pretrain", "lofi", "extract", "head"}


def test_rows_share_stage_1_and_the_features_of_equal_encoders(done):
    runner, results = done
    names = [path.name.split("-")[0] for path in (runner.out / "shared").iterdir() if path.is_dir()]
    assert sorted(names) == ["cache", "features", "features", "lofi", "motion", "pretrain"]
    assert results["acp"]["probe"] == results["bmn_acp"]["probe"]
    assert results["acp"]["stages"]["pretrain"] == results["long"]["stages"]["pretrain"]


def test_replicates_are_those_of_the_bootstrap(done):
    runner, results = done
    detections = json.loads((runner.out / "tiny/acp/seed-0/arms/baseline/detections.json").read_text())
    truth = json.loads(open_base_annotations(runner).read_text())
    found = bootstrap_detections(truth, detections, replicates=REPLICATES)
    draws = unpack(results["acp"]["replicates"]["fused"])
    assert len(draws) == REPLICATES
    assert draws.std(ddof=1) == pytest.approx(found.average_mAP.deviation, abs=1e-5)


def open_base_annotations(runner):
    return runner.base.recipe(ROWS["acp"], 0).data.annotations


def test_the_same_row_gives_the_same_figures_again(done, base_file, tmp_path):
    _, before = done
    runner = Runner(open_base(str(base_file), tmp_path), tmp_path / "out", tmp_path / "results", "cpu", quiet=True)
    again = {row.id: result for row, _, result in runner.run([ROWS["long"], ROWS["motion"]], [0])}
    for name, result in again.items():
        for key in ("scores", "proposals", "probe", "replicates", "settings", "data_hash"):
            assert result[key] == before[name][key]


def test_the_command_of_a_result_makes_it_again(done, tmp_path, monkeypatch):
    """In another folder, with nothing but the recipe; the command line is split as a shell does it."""
    _, before = done
    threads, *command = shlex.split(before["bmn_acp"]["command"])
    monkeypatch.chdir(tmp_path)
    assert threads == f"OMP_NUM_THREADS={torch.get_num_threads()}"
    assert command[:2] == ["lofi", "reproduce"]
    outcome = CliRunner().invoke(app, [*command[1:], "-q"])
    assert outcome.exit_code == 0, outcome.output
    (again,) = (read_result(path) for path in tmp_path.glob("results/tiny/*/seed-*.json"))
    for key in ("row", "seed", "scores", "proposals", "replicates", "settings", "data_hash", "command"):
        assert again[key] == before["bmn_acp"][key]


def test_motion_in_windows_with_other_thresholds_and_class_scores(base_file, tmp_path):
    """The floor runs on whatever the other rows run on."""
    content = make_recipe(yaml.safe_load(base_file.read_text())).model_dump(mode="json")
    truth = json.loads(Path(content["data"]["annotations"]).read_text())["database"]
    validation = {key: entry for key, entry in truth.items() if entry["subset"] == "validation"}
    names = sorted({part["label"] for entry in truth.values() for part in entry["annotations"]})
    classes = {key: entry["annotations"][0]["label"] for key, entry in validation.items()}
    scores = {key: [float(label == name) for name in names] for key, label in classes.items()}
    (tmp_path / "scores.json").write_text(json.dumps({"results": scores, "class": names}))
    content["data"]["tiou"] = "thumos"
    content["snippets"] |= {"window": 6.0, "overlap": 0.5}
    content["classifier"]["scores"] = str(tmp_path / "scores.json")
    (tmp_path / "windows.yaml").write_text(save_recipe(make_recipe(content)))
    base = open_base(str(tmp_path / "windows.yaml"), tmp_path)
    runner = Runner(base, tmp_path / "out", tmp_path / "results", "cpu", quiet=True)
    ((_, _, result),) = runner.run([ROWS["motion"]], [0])
    assert "failed" not in result, result
    assert result["grids"] == []
    for way in ("external", "oracle"):
        assert result["scores"][way]["tiou_thresholds"] == [0.3, 0.4, 0.5, 0.6, 0.7]
    (features,) = (tmp_path / "out" / "shared").glob("motion-*/features")
    for key, entry in validation.items():
        assert len(np.load(features / f"{key}.npy")) == round(entry["duration"] * 12 / 6.0)
    detections = json.loads((runner.folder(ROWS["motion"], 0) / "arms/features/detections-external.json").read_text())
    found = bootstrap_detections(
        {"database": truth}, detections, tiou_thresholds=(0.3, 0.4, 0.5, 0.6, 0.7), replicates=REPLICATES
    )
    assert unpack(result["replicates"]["external"]).std(ddof=1) == pytest.approx(found.average_mAP.deviation, abs=1e-5)


def test_what_is_done_is_not_run_again_and_other_settings_are_refused(done, base_file, tmp_path, monkeypatch):
    runner, _ = done
    shutil.copytree(runner.results, tmp_path / "results")

    def nothing(*args, **kwargs):
        raise AssertionError("a row was run")

    monkeypatch.setattr(lofi_tal.reproduce.runner, "Run", nothing)
    again = Runner(runner.base, tmp_path / "out", tmp_path / "results", "cpu", quiet=True)
    assert list(again.run(PICKED, [0])) == []
    changed = base_file.read_text().replace("epochs: 1", "epochs: 2")
    (tmp_path / "tiny.yaml").write_text(changed)
    other = Runner(
        open_base(str(tmp_path / "tiny.yaml"), tmp_path), tmp_path / "out", tmp_path / "results", "cpu", quiet=True
    )
    with pytest.raises(LofiError, match="other settings"):
        list(other.run(PICKED, [0]))


def test_an_interrupted_row_goes_on_in_the_shared_folder(done, monkeypatch, tmp_path):
    """The run stops in stage 2; another row has finished stage 1 by then, and only stage 2 is done again."""
    runner, _ = done
    out = tmp_path / "out"
    shutil.copytree(runner.out / "shared", out / "shared", ignore=shutil.ignore_patterns("lofi-*"))
    again = Runner(runner.base, out, tmp_path / "results", "cpu", quiet=True)
    real = Training._finish

    def stop(self, stage, encoder, outcome):
        raise KeyboardInterrupt

    monkeypatch.setattr(Training, "_finish", stop)
    with pytest.raises(KeyboardInterrupt):
        list(again.run([ROWS["long"]], [0]))
    assert again.state(ROWS["long"], 0) == "missing"
    monkeypatch.setattr(Training, "_finish", real)
    ((_, _, result),) = again.run([ROWS["long"]], [0])
    assert result["scores"] == done[1]["long"]["scores"]


def test_a_signal_to_the_whole_group_interrupts_a_row_and_does_not_fail_it(base_file, tmp_path):
    """`timeout`, batch systems and closed terminals signal the loader processes as well."""
    text = re.sub(r"(?m)^pretrain:\n  epochs: 1$", "pretrain:\n  epochs: 1000", base_file.read_text(), count=1)
    (tmp_path / "tiny.yaml").write_text(text.replace("workers: 0", "workers: 1"))
    options = ["--data", "tiny.yaml", "--rows", "acp", "--seeds", "1", "--out", "out", "--device", "cpu", "-q"]
    command = [sys.executable, "-m", "lofi_tal.cli", "reproduce", *options]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until(lambda: any((tmp_path / "out").glob("shared/pretrain-*/metrics.jsonl")))
    time.sleep(0.5)  # now it trains
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate()
    assert "the same command goes on" in errors
    assert process.returncode == 130
    assert any((tmp_path / "out").glob("shared/pretrain-*/checkpoint.pt"))
    assert not list(tmp_path.glob("results/**/*.json"))


def test_a_row_that_fails_is_recorded_and_the_others_go_on(base_file, tmp_path, monkeypatch):
    real = lofi_tal.reproduce.runner.motion_features

    def fail(*args, **kwargs):
        raise RuntimeError("no motion today")

    monkeypatch.setattr(lofi_tal.reproduce.runner, "motion_features", fail)
    command = ["reproduce", "1", "--rows", "motion,icp", "--data", str(base_file), "--seeds", "1", "--device", "cpu"]
    command += ["-q", "--out", str(tmp_path / "out"), "--results", str(tmp_path / "results")]
    outcome = CliRunner().invoke(app, command)
    assert outcome.exit_code == 4
    failed = read_result(tmp_path / "results/tiny/motion/seed-0.json")
    assert failed["failed"] == "RuntimeError: no motion today"
    assert "Traceback" not in str(failed)  # it has paths of the machine, and results are shown to others
    report = tmp_path / "out/tiny/motion/seed-0/failed.txt"
    assert "Traceback" in report.read_text()
    assert str(report) in outcome.output.replace("\n", "")
    assert "scores" in read_result(tmp_path / "results/tiny/icp/seed-0.json")
    assert "| frame differences, no network | 0 | – |" in (tmp_path / "results/tiny/table-1.md").read_text()
    shown = CliRunner().invoke(app, [*command, "--show"])
    assert "failed: 0" in shown.output
    assert "done: 0" in shown.output
    monkeypatch.setattr(lofi_tal.reproduce.runner, "motion_features", real)
    assert CliRunner().invoke(app, command).exit_code == 0  # what failed is run again
    assert "scores" in read_result(tmp_path / "results/tiny/motion/seed-0.json")
    assert not report.exists()


def test_a_row_at_which_another_process_is_at_work_is_left_to_it(done, tmp_path):
    runner, _ = done
    again = Runner(runner.base, tmp_path / "out", tmp_path / "results", "cpu", quiet=True)
    with locked(again.folder(ROWS["acp"], 0) / ".row.lock", "held"):
        assert [row.id for row, _, _ in again.run([ROWS["acp"], ROWS["icp"]], [0])] == ["icp"]
    assert again.state(ROWS["acp"], 0) == "missing"


def test_processes_share_the_rows_of_a_seed_and_make_what_they_have_in_common_once(base_file, tmp_path):
    command = [sys.executable, "-m", "lofi_tal.cli", "reproduce", "--data", str(base_file), "--seeds", "1", "-o", "out"]
    command += ["--rows", "acp,bmn_acp,free_acp,icp", "--device", "cpu"]
    processes = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    rows = re.findall(r"seed 0, (\w+): mAP", "".join(part for both in told for part in both))
    assert sorted(rows) == ["acp", "bmn_acp", "free_acp", "icp"]
    (stage,) = (tmp_path / "out/shared").glob("pretrain-*/stage.json")
    steps = [json.loads(line)["step"] for line in (stage.parent / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, len(steps) + 1))
    features = list((tmp_path / "out/shared").glob("features-*.json"))
    assert len(features) == 2
    assert all(json.loads(path.read_text())["new"] == 12 for path in features)  # by the process that came first


def test_a_command_without_anything_to_do_says_what_there_is():
    outcome = CliRunner().invoke(app, ["reproduce"])
    assert isinstance(outcome.exception, LofiError)
    assert "budget" in str(outcome.exception)
