"""What is foreseen of a run against what it did: steps, stages and the frame cache, exactly; nothing is timed."""

import json

import numpy as np
import pytest

from lofi_tal.cli.app import app
from lofi_tal.config import make_recipe
from lofi_tal.files import read_json
from lofi_tal.planning.work import work_of
from lofi_tal.recipes.writing import save_recipe
from lofi_tal.run import Run
from lofi_tal.run.forecast import cache_bytes
from lofi_tal.run.timing import Trial, amounts_of


def test_steps_and_disk_are_those_of_the_run(finished_run):
    run, _ = finished_run
    work = work_of(run.recipe, amounts_of(run))
    steps = {}
    for path in run.output.rglob("metrics.jsonl"):
        stage = "head" if "head" in path.parts else path.parent.name
        steps[stage] = steps.get(stage, 0) + len(path.read_text().splitlines())
    foreseen = {"pretrain": 0, "lofi": 0, "head": 0}
    for one in work:
        if one.unit == "steps" and not one.key.endswith("first"):
            foreseen[one.key.split()[0]] += one.count
    assert foreseen == steps
    lines = [json.loads(line) for line in (run.output / "lofi" / "metrics.jsonl").read_text().splitlines()]
    for one in work:
        if one.key.startswith("lofi ") and "px" in one.key:
            assert one.count == sum(one.key == f"lofi {r['fidelity']} {r['snippets']}×{r['size']}px" for r in lines)
    trainings = sum(one.count for one in work if one.key == "head start")
    assert trainings == len(list(run.output.glob("arms/*/head/*/stage.json")))
    assert cache_bytes(run) == run.cache.held_bytes()


def test_a_dry_run_writes_nothing_and_knows_every_time(tiny_recipe, tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(save_recipe(tiny_recipe))
    shared = [f"--set=data.cache={tmp_path / 'cache'}", f"--set=data.manifest={tmp_path / 'videos.jsonl'}"]
    output = ["-o", str(tmp_path / "run")]
    command = ["run", str(tmp_path / "recipe.yaml"), *output, *shared, "--device", "cpu", "--dry-run"]
    assert app([*command, "--json"], standalone_mode=False) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["unknown"] == []
    assert all(line["each"] >= 0 for line in document["work"])
    assert document["seconds"] == pytest.approx(sum(line["seconds"] for line in document["work"]))
    assert {path.name for path in tmp_path.iterdir()} == {"recipe.yaml"}


def test_features_are_read_as_a_run_reads_them(tiny_recipe, tmp_path):
    rng, folder = np.random.default_rng(0), tmp_path / "features"
    folder.mkdir()
    for number, video_id in enumerate(read_json(tiny_recipe.data.annotations)["database"]):
        np.save(folder / f"{video_id}.npy", rng.standard_normal((24, 30 + number)).astype(np.float32))  # channels first
    content = tiny_recipe.model_dump(mode="json")
    recipe = make_recipe({**content, "features": {"sources": [str(folder)]}, "baseline": False})
    seen = []
    run = Run(recipe, tmp_path / "run", device="cpu", quiet=True)
    trial = Trial(run, tmp_path / "trial")
    trial._stage3 = seen.append
    trial.run()
    assert seen == [24]
