"""The commands as a user types them: what they print, what they write, and how they refuse."""

import json
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

import lofi_tal.planning.measure
from lofi_tal.cli.app import app
from lofi_tal.cli.common import command_line
from lofi_tal.cli.plan import plan
from lofi_tal.config import make_recipe
from lofi_tal.recipes.writing import save_recipe
from tests import processes


def lofi(*arguments, cwd=None):
    """Run the command in a process of its own."""
    return processes.run("lofi_tal.cli", *arguments, cwd=cwd)


def test_every_command_explains_itself():
    runner = CliRunner()
    for command in (
        "run",
        "pretrain",
        "train",
        "extract",
        "head",
        "classify",
        "init",
        "demo",
        "models",
        "detect",
        "evaluate",
    ):
        result = runner.invoke(app, [command, "--help"])
        assert result.exit_code == 0, command
        assert "Usage" in result.output
    assert "synth" in runner.invoke(app, ["data", "--help"]).output


def test_the_demo_refuses_a_misspelt_setting_before_it_renders(tmp_path):
    result = lofi("demo", "-o", tmp_path / "run", "--set", "lofi.encoder_rl=1e-4")
    assert result.returncode == 2
    assert "'lofi.encoder_rl' is not a known setting. Did you mean 'encoder_lr'?" in result.stderr
    assert not (tmp_path / "run").exists()


def test_detect_writes_json_csv_subtitles_and_a_page(finished_run, benchmark_set, tmp_path):
    pipeline, _ = finished_run
    video = min(benchmark_set.videos.glob("validation*"))
    result = lofi("detect", video, "--model", pipeline.output, "--out", tmp_path, "--all", "-q")
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / f"{video.stem}.json").read_text())
    segments = found["results"][video.stem]
    assert found["external_data"] == {}
    assert len(segments) > 0
    assert all(0 <= s["segment"][0] <= s["segment"][1] for s in segments)
    csv = (tmp_path / f"{video.stem}.csv").read_text().splitlines()
    assert csv[0] == "video,start,end,label,score"
    assert len(csv) == len(segments) + 1
    assert " --> " in (tmp_path / f"{video.stem}.srt").read_text()
    assert video.name in (tmp_path / f"{video.stem}.html").read_text()
    assert segments[0]["label"] in result.stdout
    some, options = tmp_path / "some", ("--format", "srt", "--format", "csv", "-q")
    result = lofi("detect", video, "--model", pipeline.output, "--out", some, "--threshold", 0, *options)
    assert result.returncode == 0, result.stderr
    assert sorted(path.suffix for path in some.iterdir()) == [".csv", ".srt"]
    result = lofi("detect", video, "--model", pipeline.output, *options)
    assert (result.returncode, "--out" in result.stderr) == (2, True)


def test_detect_equals_the_runs_own_detections(finished_run, benchmark_set):
    """One sampler and one code path: videos detected afterwards give what the run found."""
    pipeline, results = finished_run
    videos = sorted(benchmark_set.videos.glob("validation*"))
    result = lofi("detect", *videos, "--model", results[-1].model, "--json", "-q")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)["results"]
    for video in videos:
        # by label and time: scores that differ in their last digits only may have changed places
        alone, together = (
            sorted(some, key=lambda one: (one["label"], *one["segment"]))
            for some in (found[video.stem], pipeline.detections("lofi")[video.stem].to_activitynet())
        )
        assert [one["label"] for one in alone] == [one["label"] for one in together]
        for a, b in zip(alone, together, strict=True):
            assert a.get("raw_score", a["score"]) == pytest.approx(b["score"], rel=1e-4)
            assert a["segment"] == pytest.approx(b["segment"], abs=0.01)


def test_one_bad_file_does_not_end_the_others(finished_run, benchmark_set, tmp_path):
    pipeline, _ = finished_run
    (tmp_path / "text.mp4").write_text("no video")
    video = min(benchmark_set.videos.glob("validation*"))
    result = lofi("detect", tmp_path / "text.mp4", video, "--model", pipeline.output, "--json", "-q")
    assert result.returncode == 4
    assert list(json.loads(result.stdout)["results"]) == [video.stem]
    assert "text.mp4" in result.stderr
    assert lofi("detect", tmp_path / "text.mp4", "--model", pipeline.output, "-q").returncode == 3


def test_evaluate_prints_the_keys_that_other_tools_read(finished_run):
    pipeline, results = finished_run
    result = lofi("evaluate", pipeline.recipe.data.annotations, pipeline.output / "arms/lofi/detections.json", "--json")
    document = json.loads(result.stdout)
    assert document["average_mAP"] == results[1].scores["fused"]["average_mAP"]
    assert {"average_mAP", "mAP", "tiou_thresholds", "videos", "instances"} <= document.keys()


def test_check_and_init_give_a_recipe_that_runs(benchmark_set, tmp_path):
    checked = lofi("data", "check", benchmark_set.annotations, "--videos", benchmark_set.videos, "--json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["ok"] is True
    recipe = tmp_path / "recipe.yaml"
    sources = ("--annotations", benchmark_set.annotations, "--videos", benchmark_set.videos)
    clips = ("--clips", benchmark_set.clips_csv, "--clips-root", benchmark_set.clips)
    written = lofi("init", *sources, *clips, "-o", recipe)
    assert written.returncode == 0, written.stderr
    assert lofi("init", "--annotations", "x", "--videos", "y", "-o", recipe).returncode == 2
    settings = ("snippets={count: 8, frames: 2, stride: 2, size: 32}", "pretrain.epochs=1", "lofi.epochs=1",
                "head.epochs=1", "head.lrs=[1e-3]", "lofi.r_s=1.5", "lofi.r_t=2")  # fmt: skip
    arguments = [part for setting in settings for part in ("--set", setting)]
    result = lofi("run", recipe, "-o", tmp_path / "run", "-q", *arguments)
    assert result.returncode == 0, result.stderr
    assert "average" in result.stdout
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("{}", "database"),
        ('{"database": {}}', "video"),
        ("not json", "line 1"),
        ('{"database": {"a": {"subset": "training", "annotations": [{"segment": [0, NaN], "label": "x"}]}}}', "a"),
    ],
)
def test_bad_annotations_end_in_one_message(content, message, tmp_path):
    (tmp_path / "labels.json").write_text(content)
    result = lofi("data", "check", tmp_path / "labels.json")
    assert result.returncode == 3
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("setting", "message"),
    [("lofi.schedul=t", "Did you mean 'schedule'"), ("lofi.r_t=-1", "lofi.r_t"), ("lofi.lr=fast", "lofi.lr")],
)
def test_a_bad_recipe_ends_in_one_message_and_changes_nothing(setting, message, tiny_recipe, tmp_path):
    (tmp_path / "recipe.yaml").write_text(save_recipe(tiny_recipe))
    result = lofi("run", tmp_path / "recipe.yaml", "-o", tmp_path / "run", "--set", setting)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


def test_an_unknown_label_in_detections_is_refused_with_its_place(finished_run, tmp_path):
    pipeline, _ = finished_run
    document = json.loads((pipeline.output / "arms/lofi/detections.json").read_text())
    video = next(iter(document["results"]))
    document["results"][video][0]["label"] = "no such class"
    (tmp_path / "detections.json").write_text(json.dumps(document))
    result = lofi("evaluate", pipeline.recipe.data.annotations, tmp_path / "detections.json")
    assert result.returncode == 3
    assert "no such class" in result.stderr
    assert video in result.stderr


def test_missing_paths_are_named(tmp_path):
    for arguments in (
        ("run", tmp_path / "none.yaml"),
        ("detect", tmp_path / "none.mp4", "--model", tmp_path),
        ("detect", __file__, "--model", tmp_path),
        ("evaluate", tmp_path / "a.json", tmp_path / "b.json"),
    ):
        result = lofi(*arguments)
        assert result.returncode in (2, 3), arguments
        assert str(tmp_path) in result.stderr
        assert "Traceback" not in result.stderr


def test_a_recorded_command_starts_with_lofi_however_it_was_started(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/there/lofi_tal/cli/__main__.py", "compare", "a b", "c"])
    assert command_line() == "lofi compare 'a b' c"


def test_importing_the_package_is_light():
    code = "import sys, lofi_tal; assert not {'torch', 'av', 'matplotlib', 'lightning_fabric'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_evaluate_shows_recall_errors_and_intervals_and_writes_a_page(finished_run, tmp_path):
    pipeline, results = finished_run
    truth, arms = pipeline.recipe.data.annotations, pipeline.output / "arms"
    page = tmp_path / "evaluation.html"
    ours, base = arms / "lofi/detections.json", arms / "baseline/detections.json"
    result = lofi("evaluate", truth, ours, "--proposals", "--diagnose", "--against", base, "--bootstrap", 50,
                  "--page", page)  # fmt: skip
    assert result.returncode == 0, result.stderr
    for text in ("AR@100", "double detection", "coverage", "difference", "50 draws"):
        assert text in result.stdout + result.stderr, text
    document = json.loads(page.with_suffix(".json").read_text())
    assert document["average_mAP"] == results[1].scores["fused"]["average_mAP"]
    assert {"proposals", "diagnosis", "bootstrap"} <= document.keys()
    difference = document["average_mAP"] - results[0].scores["fused"]["average_mAP"]
    assert document["bootstrap"]["average_mAP"]["value"] == pytest.approx(difference)
    text = page.read_text()
    assert text.count("<svg") == 10
    warning = document["bootstrap"]["warning"]
    assert f"Do not trust the intervals: they are over {document['videos']} videos" in warning
    for said in (" ".join(result.stderr.split()), text, (pipeline.output / "report.html").read_text()):
        assert warning in said


def test_evaluate_names_the_videos_that_were_left_out(finished_run, tmp_path):
    pipeline, _ = finished_run
    truth, found = pipeline.recipe.data.annotations, pipeline.output / "arms/lofi/detections.json"
    ids = sorted(pipeline.detections("lofi"))
    (tmp_path / "out.txt").write_text(ids[0] + "\n")
    result = lofi("evaluate", truth, found, "--exclude", tmp_path / "out.txt")
    assert f"Left out on request: 1 video ({ids[0]})" in result.stderr
    assert f"{len(ids) - 1} videos" in result.stdout
    assert lofi("evaluate", truth, found, "--protocol", "4728").returncode == 3
    assert "a:step:b" in lofi("evaluate", truth, found, "--tiou", "1.5").stderr


def test_head_on_published_features_equals_the_head_on_the_runs_own(finished_run, tmp_path):
    """The same features through .npy files and through HDF5 give the detections of the arm they come from."""
    pipeline, results = finished_run
    arm = next(result for result in results if result.arm == "lofi")
    folder = tmp_path / "npy"
    folder.mkdir()
    with h5py.File(tmp_path / "all.h5", "w") as handle:
        for path in (pipeline.output / "arms/lofi/features").glob("*.safetensors"):
            (array,) = load_file(path).values()
            np.save(folder / f"v_{path.stem}.npy", array)
            handle[f"v_{path.stem}"] = array
    for source in ("npy", "all.h5"):
        content = pipeline.recipe.model_dump(mode="json")
        content["data"]["videos"] = None
        recipe = make_recipe({**content, "features": {"sources": [str(tmp_path / source)]}})
        (tmp_path / "recipe.yaml").write_text(save_recipe(recipe))
        run = tmp_path / f"run-{source}"
        result = lofi("head", tmp_path / "recipe.yaml", "-o", run, "--json", "-q", "--device", "cpu")
        assert result.returncode == 0, result.stderr
        scores = json.loads(result.stdout)["features"]["scores"]
        assert scores["fused"]["mAP"] == arm.scores["fused"]["mAP"]
        assert (run / "arms/features/detections.json").exists()
    (folder / min(folder.iterdir()).name).write_bytes(b"damaged")
    content["features"] = {"sources": [str(folder)]}
    (tmp_path / "recipe.yaml").write_text(save_recipe(make_recipe(content)))
    damaged = lofi("head", tmp_path / "recipe.yaml", "-o", tmp_path / "run", "-q")
    assert damaged.returncode == 4
    assert "cannot be read" in damaged.stderr


def test_class_scores_go_out_and_come_back(finished_run, tmp_path):
    """The built-in classifier alone writes CUHK and HACS files, and a recipe takes them instead of its own scores."""
    pipeline, _ = finished_run
    (tmp_path / "recipe.yaml").write_text(save_recipe(pipeline.recipe))
    run = shutil.copytree(pipeline.output, tmp_path / "run")
    for layout in ("cuhk", "hacs"):
        path = tmp_path / f"{layout}.json"
        how = ("--scores", path, "--layout", layout, "-q", "--json")
        result = lofi("classify", tmp_path / "recipe.yaml", "-o", run, *how)
        assert result.returncode == 0, result.stderr
        assert set(json.loads(result.stdout)["labels"]) == set(pipeline.data().labels)
        options = [f"--set=classifier.scores={path}", f"--set=classifier.layout={layout}"]
        result = lofi("head", tmp_path / "recipe.yaml", "-o", run, "--overwrite", "--json", "-q", *options)
        assert result.returncode == 0, result.stderr
        external = json.loads(result.stdout)["lofi"]["scores"]["external"]
        assert external["videos"] == len(pipeline.data().evaluation)
        assert external["detections"] > 0
    cuhk = json.loads((tmp_path / "cuhk.json").read_text())
    assert set(cuhk["results"]) == {video.video_id for video in pipeline.data().evaluation}
    del cuhk["results"][pipeline.data().evaluation[0].video_id]
    (tmp_path / "cuhk.json").write_text(json.dumps(cuhk))
    options = [f"--set=classifier.scores={tmp_path / 'cuhk.json'}"]
    refused = lofi("head", tmp_path / "recipe.yaml", "-o", run, "--overwrite", "-q", *options)
    assert refused.returncode == 3
    assert pipeline.data().evaluation[0].video_id in refused.stderr


def test_plan_shows_what_fits_and_fails_if_nothing_does(tiny_recipe, tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(save_recipe(tiny_recipe))

    def planned(*options):
        """Plan in this process, which counts the step of encoder and head once."""
        status = app(["plan", str(tmp_path / "recipe.yaml"), "--memory", *options], standalone_mode=False)
        return status, capsys.readouterr()

    status, said = planned("1GiB", "--devices", "2")
    assert not status
    for text in ("chunked by 8", "least compute for each memory"):
        assert text in said.out
    for text in ("Recommended: lofi.schedule=long", "Training segments shorter", "phases of the cycle differ"):
        assert text in said.err
    document = json.loads(planned("1GiB", "--json")[1].out)
    assert document["recommended"]["strategy"]["name"] == "plain"
    assert {"parameters", "gradients", "optimizer", "input", "activations", "head", "peak"} == document["rows"][0][
        "step"
    ].keys()
    status, said = planned("1MiB")
    assert status == 2
    assert "Nothing fits" in said.err
    assert "such as 24GiB" in lofi("plan", tmp_path / "recipe.yaml", "--memory", "much").stderr


def test_plan_shows_the_phases_of_a_cycle_and_measures_the_heads_of_the_data(changed, tmp_path, monkeypatch, capsys):
    recipe = changed(lofi={"cycle": [[1, 2], [3, 1]]}, head={"name": "anchor_free", "options": {"hidden": 16}})
    (tmp_path / "recipe.yaml").write_text(save_recipe(recipe))
    asked = []
    monkeypatch.setattr(
        lofi_tal.planning.measure,
        "measure_step",
        lambda **request: asked.append(request) or {"peak": 1e9, "seconds": 1.0},
    )
    plan(tmp_path / "recipe.yaml", memory="1GiB", measure=True, as_json=True)
    shown = {(request["snippets"], request["size"]) for request in asked}
    assert shown == {(12, 32), (12, 16), (4, 32)}  # full fidelity and the two phases, not S, T and ST
    assert {request["head"]["num_classes"] for request in asked} == {4}
    document = json.loads(capsys.readouterr().out)
    assert {choice["schedule"] for choice in document["choices"]} >= {"long"}
