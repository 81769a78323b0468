"""The tiny benchmark and a run on it, made once for all integration tests."""

import contextlib
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from lofi_tal.cli.app import main
from lofi_tal.config import Recipe, make_recipe
from lofi_tal.demo import demo_recipe
from lofi_tal.run import ArmResult, Run, write_run_report
from lofi_tal.synthetic import SyntheticDataset, make_dataset
from tests.tiny import SETTINGS


def losses_of(stage: Path) -> list[float]:
    """Return the loss of each step that a stage noted."""
    return [json.loads(line)["loss"] for line in (stage / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def benchmark_set(tmp_path_factory) -> SyntheticDataset:
    return make_dataset(tmp_path_factory.mktemp("tiny"), preset="tiny", seed=0, workers=1)


@pytest.fixture(scope="session")
def tiny_recipe(benchmark_set) -> Recipe:
    return demo_recipe(benchmark_set, seed=0, overrides=SETTINGS)


@pytest.fixture(scope="session")
def finished_run(tiny_recipe, tmp_path_factory) -> tuple[Run, list[ArmResult]]:
    """A whole run; tests must not change its folder."""
    pipeline = Run(tiny_recipe, tmp_path_factory.mktemp("runs") / "whole", device="cpu", quiet=True)
    with pipeline.open("lofi run recipe.yaml"):
        results = pipeline.run()
        write_run_report(pipeline, results, command="lofi run recipe.yaml")
    return pipeline, results


@pytest.fixture(scope="session")
def parallel_recipe(tiny_recipe):
    """The tiny recipe without what processes legitimately do differently: dropout and statistics of a batch.

    With SGD, because adaptive steps turn the rounding of small gradients into differences of weights.
    """
    alike = {"batchnorm": "frozen_stats", "optimizer": "sgd", "lr": 0.01}
    return tiny_recipe.model_copy(update={
        "pretrain": tiny_recipe.pretrain.model_copy(update={**alike, "dropout": 0.0, "epochs": 1}),
        "lofi": tiny_recipe.lofi.model_copy(update={**alike, "class_loss": 0.5}),
        "baseline": False,
    })  # fmt: skip


@pytest.fixture(scope="session")
def one_process(parallel_recipe, tmp_path_factory) -> Path:
    """The folder of a whole run of that recipe by one process; tests must not change it."""
    pipeline = Run(
        parallel_recipe, tmp_path_factory.mktemp("alone") / "one", device="cpu", precision="fp32", quiet=True
    )  # a trial chooses bf16 on some CPUs, which is too coarse to compare
    with pipeline.open("lofi run recipe.yaml"):
        write_run_report(pipeline, pipeline.run(), command="lofi run recipe.yaml")
    return pipeline.output


STAGES = ["pretrain", "lofi", "arms/lofi/head/lr-0.001", "arms/lofi/head/refit"]


def assert_same_training(run: Path, expected: Path, stage: str) -> None:
    """Compare losses and weights of a stage of two runs, which may round differently."""
    ours, theirs = run / stage, expected / stage
    assert losses_of(ours) == pytest.approx(losses_of(theirs), rel=1e-3)
    name = "head.safetensors" if "head" in stage else "encoder.safetensors"
    weights = load_file(ours / name)
    for key, value in load_file(theirs / name).items():
        difference = (weights.pop(key).double() - value.double()).norm()
        allowed = 2e-2 if "head" in stage else 1e-3  # stage 3 is Adam's
        assert difference <= allowed * value.double().norm() + 1e-5, key
    assert not weights


@pytest.fixture
def changed(tiny_recipe):
    """Return a recipe with some values changed."""

    def change(**sections) -> Recipe:
        content = tiny_recipe.model_dump(mode="json")
        for name, values in sections.items():
            content[name] = {**content[name], **values} if isinstance(values, dict) and content[name] else values
        return make_recipe(content)

    return change


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the weights and results of a run, by relative path."""
    kept = [*folder.rglob("*.safetensors"), *folder.rglob("detections.json")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


def lofi(*arguments):
    """Run a command in this process, and say its errors as the command does; any other exception is a fault of ours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lofi", *map(str, arguments)])
        outputs = io.StringIO(), io.StringIO()
        redirected = contextlib.redirect_stdout(outputs[0]), contextlib.redirect_stderr(outputs[1])
        with redirected[0], redirected[1], pytest.raises(SystemExit) as end:
            main()
    return SimpleNamespace(exit_code=end.value.code or 0, stdout=outputs[0].getvalue(), stderr=outputs[1].getvalue())


LONG = (
    "test_gpu_benchmark",
    "test_hosts",
    "test_wheel",
    "test_sharing",
    "test_parallel",
    "test_cli",
    "test_run",
    "test_arms",
)
"""Files that take longest: they come first, so that no process gets one last and works alone at the end."""


def pytest_collection_modifyitems(items):
    """Put the longest files first, each in its own order."""
    rank = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONG)))


def own_scores(segments):
    """Return a model's own scores of segments, which a calibrated model keeps beside its probabilities."""
    return segments.score if segments.raw_score is None else segments.raw_score
