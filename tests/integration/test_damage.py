"""What was written is what is read: files of a run that are damaged are named, and made anew or refused.

Files of a finished run and of an interrupted one are emptied, cut in half, changed in one bit, deleted, and replaced by
another run's. Commands then say so or give the same results; their advice leads to the same results.

Each file meets one damage and one way to go on, in turns. `LOFI_DAMAGE=1` tries every file with every
damage, `LOFI_DAMAGE=3` these with every way.
"""

import os
import re
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import files_of, lofi
from lofi_tal.demo import demo_recipe
from lofi_tal.files import read_json, write_json
from lofi_tal.recipes.writing import save_recipe
from lofi_tal.runtime import TrainingRun
from tests.tiny import SETTINGS

SMALL = (
    "pretrain.epochs=1",
    "lofi.epochs=1",
    "lofi.watch=0",
    "head.epochs=1",
    "head.lrs=[0.001]",
    "classifier.epochs=1",
    "baseline=false",
    "tracking={}",
)
DAMAGES = ("empty", "half", "bit", "deleted", "foreign")
ENCODER = ("encoder.safetensors", "encoder.json", "stage.json", "started.json", "contents.json", "metrics.jsonl")
HEAD = ("head.safetensors", "head.json", "stage.json", "started.json", "metrics.jsonl")
MODEL = tuple(f"{part}.{kind}" for part in ("encoder", "head", "classifier") for kind in ("safetensors", "json"))
FINISHED = (
    *("recipe.yaml", "environment.json", "command.txt", "videos.jsonl", "data.json", "report.html", "report.json"),
    *(f"{stage}/{name}" for stage in ("pretrain", "lofi") for name in (*ENCODER, "first-batch.html")),
    *(f"arms/lofi/head/{training}/{name}" for training in ("lr-0.001", "refit") for name in HEAD),
    *(f"arms/lofi/evaluation/{name}" for name in ("stage.json", "started.json", "contents.json")),
    *(f"arms/lofi/model/{name}" for name in (*MODEL, "localizer.json", "scores.json")),
    *("arms/lofi/detections.json", "arms/lofi/features.json", "arms/lofi/features/validation_00000.safetensors"),
)
INTERRUPTED = (
    *("recipe.yaml", "environment.json", "videos.jsonl", "pretrain/stage.json", "pretrain/encoder.safetensors"),
    *(f"lofi/{name}" for name in ("checkpoint.pt", "started.json", "contents.json", "metrics.jsonl")),
)
UNREAD = ("recipe.yaml", "command.txt", "videos.jsonl", "data.json", "report.html", "report.json", "started.json")
"""Files that are made anew from others, or that a finished run has no use for: there is nothing to say of them."""


def ruin(path, damage, other):
    data = path.read_bytes()
    path.unlink()
    if damage == "foreign":
        shutil.copy(other if other.exists() else other.with_name("head.json"), path)  # a run may have no scores.json
    elif damage == "bit":
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :])
    elif damage != "deleted":
        path.write_bytes(data[: len(data) // 2] if damage == "half" else b"")


@pytest.fixture(scope="module")
def small(benchmark_set, tmp_path_factory):
    """Commands on a small recipe; a finished run, one of another seed, and one that was interrupted in stage 2."""
    folder = tmp_path_factory.mktemp("damage")
    settings = (*SETTINGS, *SMALL, f"data.cache={folder / 'frames'}")
    recipe = demo_recipe(benchmark_set, seed=0, overrides=settings)
    (folder / "recipe.yaml").write_text(save_recipe(recipe))
    other = demo_recipe(benchmark_set, seed=1, overrides=settings)
    (folder / "other.yaml").write_text(save_recipe(other))
    made = SimpleNamespace(folder=folder, video=min(benchmark_set.videos.iterdir()))

    def command(name, run, *options):
        return lofi(name, folder / "recipe.yaml", "-o", run, "-q", *options)

    def stopping(training, step, wait):
        if training.folder.stage == "lofi":
            os.kill(os.getpid(), signal.SIGTERM)
        return record(training, step, wait)

    record = TrainingRun._record
    made.command = command
    for name, file in (("whole", "recipe.yaml"), ("other", "other.yaml")):
        assert lofi("run", folder / file, "-o", folder / name, "-q").exit_code == 0
    with pytest.MonkeyPatch.context() as patch:
        for name, file in (("cut", "recipe.yaml"), ("other-cut", "other.yaml")):
            patch.setattr(TrainingRun, "_record", stopping)
            assert lofi("train", folder / file, "-o", folder / name, "-q").exit_code == 130
    made.whole = files_of(folder / "whole")
    made.found = detected(made, folder / "whole").stdout
    return made


def detected(small, run):
    return lofi("detect", small.video, "-m", run, "--json", "-q", "--device", "cpu")


WAYS = ("report", "resume", "overwrite")
"""`lofi run`, which writes the report, and a command with --resume or --overwrite."""
EFFORT = int(os.environ.get("LOFI_DAMAGE", "0"))


def cases(names):
    """Return files, damages and ways to go on."""
    return [
        pytest.param(name, damage, way, id=f"{name}-{damage}-{way}")
        for i, name in enumerate(names)
        for j, damage in enumerate(DAMAGES)
        for k, way in enumerate(WAYS)
        if (EFFORT >= 1 or (i + 2 * j) % 5 < 1) and (EFFORT >= 3 or (i + j) % 3 == k)
    ]


def go_on(small, command, run, mode):
    """Give a command, and again with what it advises, until it succeeds; return all that was said, and how often."""
    options = [] if mode == "report" else [f"--{mode}"]
    said = ""
    for attempt in range(4):
        result = small.command(command, run, *options)
        said += result.stderr
        if result.exit_code == 0:
            return said, attempt
        assert result.exit_code in (2, 3)
        assert len(result.stderr.rstrip().splitlines()) <= 3, result.stderr
        assert re.search(r"--(resume|overwrite)", result.stderr), result.stderr
        options = ["--overwrite" if "--resume" in options or "--resume" not in result.stderr else "--resume"]
    raise AssertionError(said)


@pytest.fixture
def without_page(monkeypatch):
    """Reports of which only the numbers are written: drawing takes longer than all the rest."""
    monkeypatch.setattr("lofi_tal.report.page.report_page", lambda *_, **__: "<html></html>")
    monkeypatch.setattr("lofi_tal.run.live.report_page", lambda *_, **__: "<html></html>")


@pytest.mark.usefixtures("without_page")
@pytest.mark.parametrize(("name", "damage", "way"), cases(FINISHED))
def test_a_damaged_file_of_a_finished_run_is_named_and_the_advice_leads_to_the_same_results(
    name, damage, way, small, tmp_path
):
    run = tmp_path / "run"
    shutil.copytree(small.folder / "whole", run)
    ruin(run / name, damage, small.folder / "other" / name)
    same = damage == "foreign" and (run / name).read_bytes() == (small.folder / "whole" / name).read_bytes()
    if "/model/" in name:
        check_refusal(small, run, name, same)
    said, _ = go_on(small, "run" if way == "report" else "head", run, way)
    assert files_of(run) == small.whole, said
    if not (same or is_unnoticed(name, damage, way)):
        assert str(run / name) in said or str((run / name).parent) in said, said
    if "/model/" in name:
        assert detected(small, run).stdout == small.found


def is_unnoticed(name, damage, way):
    """Say whether there is nothing to tell: a file without use, or what is left could have come about by itself."""
    file = Path(name).name
    if file in UNREAD or (file in ("environment.json", "features.json") and damage == "foreign"):
        return True
    if way == "overwrite" and (file == "environment.json" or (file == "stage.json" and damage == "foreign")):
        return "/head/" not in name  # what is of other inputs is replaced, as asked
    if file == "metrics.jsonl" and "/head/" in name and way != "report":  # which alone reads it
        return True
    interrupted = file in ("stage.json", "features.json") and way != "report"
    return damage == "deleted" and (interrupted or file == "environment.json") and "/head/" not in name


def check_refusal(small, run, name, same):
    """A damaged model is refused in one line, by the name of the file."""
    result = detected(small, run)
    if same:
        assert result.stdout == small.found
        return
    assert result.exit_code == 3
    assert len(result.stderr.rstrip().splitlines()) == 1
    assert str(run / name) in result.stderr or str((run / name).parent) in result.stderr, result.stderr


@pytest.mark.usefixtures("without_page")
@pytest.mark.parametrize(("name", "damage", "way"), cases(INTERRUPTED))
def test_a_damaged_file_of_an_interrupted_run_is_named_and_the_advice_leads_to_the_same_results(
    name, damage, way, small, tmp_path
):
    run = tmp_path / "run"
    shutil.copytree(small.folder / "cut", run)
    ruin(run / name, damage, small.folder / "other-cut" / name)
    refused = detected(small, run)
    assert (refused.exit_code, len(refused.stderr.rstrip().splitlines())) == (3, 1)
    said, attempts = go_on(small, "train", run, way)
    for stage in ("pretrain", "lofi"):
        weights = f"{stage}/encoder.safetensors"
        assert (run / weights).read_bytes() == small.whole[weights], said
    if Path(name).name in ("checkpoint.pt", "encoder.safetensors") and way == "resume" and damage != "deleted":
        assert str(run / name) in said
        assert attempts == (name == "lofi/checkpoint.pt")


def test_the_report_leaves_damaged_lines_of_metrics_out_and_says_so(small, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(small.folder / "whole", run)
    path = run / "lofi/metrics.jsonl"
    lines = path.read_text().splitlines()
    count = len(lines)
    lines[1:2] = ["[]", "{", '{"step": "x"}', '{"step": 2, "epoch": [], "loss": 1}']
    path.write_bytes(b"\xff\n" + "\n".join(lines).encode() + b"\n")
    result = small.command("run", run)
    assert result.exit_code == 0
    assert f"{path} is damaged" in result.stderr
    assert f"lofi: not shown, for they are damaged: 5 lines of {path}" in (run / "report.html").read_text()
    (stage,) = [stage for stage in read_json(run / "report.json")["stages"] if stage["name"] == "lofi"]
    assert [row["step"] for row in stage["metrics"]] == [1, *range(3, count + 1)]


def test_no_other_model_is_taken_for_one_that_is_damaged(small, tmp_path):
    shutil.copytree(small.folder / "whole/arms/lofi/model", tmp_path / "arms/lofi/model")
    shutil.copytree(small.folder / "whole/arms/lofi/model", tmp_path / "arms/baseline/model")
    (tmp_path / "arms/lofi/model/localizer.json").unlink()
    result = detected(small, tmp_path)
    assert result.exit_code == 3
    assert f"{tmp_path / 'arms/lofi/model'} holds no localizer.json" in result.stderr
    shutil.rmtree(tmp_path / "arms/lofi")  # which is not made yet
    assert detected(small, tmp_path).stdout == small.found


def test_a_run_folder_without_hashes_still_opens(small, tmp_path):
    """As versions before wrote it."""
    run = tmp_path / "run"
    shutil.copytree(small.folder / "whole", run)
    for name in ("stage.json", "started.json", "contents.json", "localizer.json", "features.json", "environment.json"):
        for path in run.rglob(name):
            content = read_json(path)
            write_json(path, {key: content[key] for key in content if key not in ("check", "files", "notes")})
    before = files_of(run)
    result = small.command("head", run)
    assert (result.exit_code, result.stderr) == (0, "")
    assert files_of(run) == before
    assert detected(small, run).stdout == small.found
