"""The commands on data sets as a user types them."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from lofi_tal.cli.app import app
from lofi_tal.errors import DataError, LofiError
from lofi_tal.features import PublishedFeatures


def lofi(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "labels.csv"
    lines = [f"p{i % 5}_{i},{i},{i + 1.5},{'run' if i % 2 else 'jump'},,60" for i in range(20)]
    path.write_text("\n".join(["video,start,end,label,subset,duration", *lines]) + "\n")
    return path


def test_what_they_write_is_told_as_json(table, tmp_path):
    told = json.loads(lofi("data", "convert", table, "-o", tmp_path / "all.json", "--json").stdout)
    assert (told["videos"], told["instances"], sorted(told["labels"])) == (20, 20, ["jump", "run"])
    told = json.loads(lofi("data", "split", tmp_path / "all.json", "-o", tmp_path / "split.json", "--json").stdout)
    assert told["subsets"] == {"training": 16, "validation": 4}
    assert sum(told["classes"]["run"].values()) == 10


@pytest.mark.parametrize("target", ["via", "boris", "elan", "audacity"])
def test_ids_with_folders_that_a_tool_does_not_keep_are_told(target, tmp_path):
    video = {"subset": "training", "duration": 9, "annotations": [{"segment": [1, 2], "label": "run"}]}
    (tmp_path / "labels.json").write_text(json.dumps({"database": {"a/1": video, "b/1": video, "c": video}}))
    result = lofi("data", "convert", tmp_path / "labels.json", "--to", target, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert f"{target} keeps no folders of ids: 'a/1' and 1 more come back under other ids." in result.stderr
    (tmp_path / "labels.json").write_text(json.dumps({"database": {"c": video}}))
    plain = lofi("data", "convert", tmp_path / "labels.json", "--to", target, "-o", tmp_path / "other")
    assert "folders of ids" not in plain.stderr


def test_convert_split_and_stats_follow_each_other(table, tmp_path):
    result = lofi("data", "convert", table, "-o", tmp_path / "all.json", "--subset", "train")
    assert result.exit_code == 0, result.output
    assert "20 videos (20 training), 20 instances, 2 classes" in result.output
    result = lofi("data", "split", tmp_path / "all.json", "-o", tmp_path / "split.json", "--group-by", "^(p.)_")
    assert result.exit_code == 0, result.output
    assert "20 videos in 5 groups" in result.output
    ungrouped = lofi("data", "split", tmp_path / "all.json", "-o", tmp_path / "other.json")
    assert "20 videos" in ungrouped.output
    assert "groups" not in ungrouped.output
    subsets = {
        name: one["subset"] for name, one in json.loads((tmp_path / "split.json").read_text())["database"].items()
    }
    assert sorted(subsets.values()).count("validation") == 4
    result = lofi("data", "stats", tmp_path / "split.json", "--subset", "validation", "--out", tmp_path / "page")
    assert result.exit_code == 0, result.output
    assert "4 videos (4 with segments), 4 instances of 2 classes" in result.output
    assert (tmp_path / "page" / "statistics.html").exists()
    figures = json.loads(lofi("data", "stats", tmp_path / "split.json", "--json").stdout)
    assert figures["instances"] == 20


def test_ambiguous_parts_travel_from_thumos_to_the_evaluation(tmp_path):
    """THUMOS14's files, a split and the exports keep them; an evaluation looks at them only if asked."""
    folder = tmp_path / "annotation"
    folder.mkdir()
    (folder / "Diving_test.txt").write_text("a 10 20\nb 10 20\n")
    (folder / "Ambiguous_test.txt").write_text("a 40 50\n")
    labels, other, found = tmp_path / "labels.json", tmp_path / "other.json", tmp_path / "found.json"
    result = lofi("data", "convert", folder, "-o", labels)
    assert "1 ambiguous parts do not count as instances; `lofi evaluate --ignore-ambiguous` uses them" in result.output
    result = lofi("data", "convert", labels, "-o", tmp_path / "labels.csv", "--to", "csv")
    assert "1 ambiguous parts do not count as instances; a table cannot hold them" in result.output
    assert lofi("data", "split", labels, "-o", other, "--shares", "training=1,validation=1").exit_code == 0
    ignored = {"a": [{"segment": [40.0, 50.0]}], "b": None}
    for path in (labels, other):
        entries = json.loads(path.read_text())["database"]
        assert {name: entry.get("ignored") for name, entry in entries.items()} == ignored
    rows = [("a", 45, 60, 0.9), ("a", 10, 20, 0.8), ("b", 10, 20, 0.7)]
    results = {name: [] for name in "ab"}
    for name, start, end, score in rows:
        results[name].append({"label": "Diving", "score": score, "segment": [start, end]})
    found.write_text(json.dumps({"results": results}))
    plain = json.loads(lofi("evaluate", labels, found, "--tiou", "thumos", "--json").stdout)
    assert plain["average_mAP"] == pytest.approx(2 / 3)
    assert (plain["ambiguous_parts"], plain["ambiguous_detections"]) == (None, [])
    page = tmp_path / "page.html"
    shown = lofi("evaluate", labels, found, "--tiou", "thumos", "--ignore-ambiguous", "--diagnose", "--bootstrap", 20,
                 "--page", page)  # fmt: skip
    assert shown.exit_code == 0, shown.output
    assert "1 ambiguous parts: detections that match nothing and overlap one of them are left out" in shown.output
    assert "left out as ambiguous" in shown.output
    assert "left out as ambiguous" in page.read_text()
    document = json.loads(page.with_suffix(".json").read_text())
    assert document["average_mAP"] == document["diagnosis"]["average_mAP"] == 1
    assert document["bootstrap"]["average_mAP"]["value"] == 1
    assert (document["ambiguous_parts"], document["ambiguous_detections"]) == (1, [1] * 5)
    refused = lofi("evaluate", labels, found, "--ignore-ambiguous", "--only", only(tmp_path, "b"))
    assert "none of the 1 evaluated videos of subset 'validation' has an ambiguous part" in str(refused.exception)


def only(folder, name):
    path = folder / "only.txt"
    path.write_text(f"{name}\n")
    return path


def test_convert_is_strict_unless_told_otherwise(table, tmp_path):
    with table.open("a") as text:
        text.write("broken,5,4,run\n")
    out = tmp_path / "all.json"
    result = lofi("data", "convert", table, "-o", out)
    assert isinstance(result.exception, DataError)
    assert "line 22" in str(result.exception)
    assert not out.exists()
    result = lofi("data", "convert", table, "-o", out, "--lenient")
    assert result.exit_code == 4
    assert "line 22: the segment [5, 4] s does not end after its start" in result.output
    assert len(json.loads(out.read_text())["database"]) == 21  # the video itself is known, without an action


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("convert", "{table}", "-o", "x.json", "--to", "opentat"), "Did you mean 'opentad'"),
        (("convert", "{table}", "-o", "x.json", "--from", "cvs"), "Did you mean 'csv'"),
        (("split", "{table}", "-o", "x.json", "--shares", "training"), "expected name=number"),
    ],
)
def test_misspelt_wishes_are_refused(table, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "split":
        lofi("data", "convert", table, "-o", table.with_suffix(".json"))
        table = table.with_suffix(".json")
    result = lofi("data", *(str(table) if argument == "{table}" else argument for argument in arguments))
    assert isinstance(result.exception, LofiError)
    assert said in str(result.exception)


def test_features_of_a_run_are_read_by_others(finished_run, tmp_path):
    """The arrays are those of the run, and this package reads them back as it reads those of others."""
    pipeline, _ = finished_run
    result = lofi("data", "export-features", pipeline.output, "-o", tmp_path / "npy", "--arm", "baseline")
    assert result.exit_code == 0, result.output
    folder = pipeline.output / "arms" / "baseline" / "features"
    files = sorted((tmp_path / "npy").iterdir())
    assert [file.stem for file in files] == sorted(file.stem for file in folder.iterdir())
    array = np.load(files[0], allow_pickle=False)
    assert (array.dtype, array.shape[0]) == (np.float32, 12)
    own, exported = PublishedFeatures([folder], 12), PublishedFeatures([tmp_path / "npy"], 12)
    assert own.read(files[0].stem).equal(exported.read(files[0].stem))


def test_features_of_another_encoder_and_damaged_ones_are_listed(tmp_path):
    folder = tmp_path / "arms" / "lofi" / "features"
    folder.mkdir(parents=True)
    folder.with_suffix(".json").write_text("{}")
    save_file({"features": np.zeros((4, 8), np.float16)}, folder / "a.safetensors")
    save_file({"features": np.zeros((5, 8), np.float16)}, folder / "b.safetensors")
    (folder / "c.safetensors").write_bytes(b"cut short")
    result = lofi("data", "export-features", tmp_path, "-o", tmp_path / "npy")
    assert result.exit_code == 4
    assert "c.safetensors cannot be read" in result.output
    assert sorted(file.name for file in (tmp_path / "npy").iterdir()) == ["a.npy", "b.npy"]
    save_file({"features": np.zeros((5, 9), np.float16)}, folder / "b.safetensors")
    result = lofi("data", "export-features", tmp_path, "-o", tmp_path / "npy")
    assert result.exit_code == 4  # most files decide
    assert "9 channels" in result.output


def test_features_that_are_not_finished_are_refused(tmp_path):
    result = lofi("data", "export-features", tmp_path, "-o", tmp_path / "npy")
    assert isinstance(result.exception, DataError)
    assert "holds no finished extraction" in str(result.exception)
