"""Labels that changed, and runs that start from the weights of another: what is said, kept, trained and refused."""

import json
import shutil

import pytest
import torch

from conftest import files_of, lofi
from lofi_tal.artefacts import sealed
from lofi_tal.errors import DataError, LofiError
from lofi_tal.files import read_json, write_json
from lofi_tal.heads import create_head, load_head
from lofi_tal.localizer import Localizer
from lofi_tal.recipes.writing import save_recipe
from lofi_tal.run import Run
from lofi_tal.run.outlook import outlook
from lofi_tal.run.report import run_facts
from lofi_tal.run.timing import Trial


@pytest.fixture
def quick(changed):
    """Return the tiny recipe with one epoch of stage 2, and one arm."""
    return lambda **sections: changed(**{"lofi": {"epochs": 1}, "head": {"epochs": 1, "lrs": [1e-3]}, "baseline": False,
                                         **sections})  # fmt: skip


@pytest.fixture
def relabelled(benchmark_set, tmp_path):
    """Write the benchmark's labels after a change, and return the file."""

    def write(change):
        document = read_json(benchmark_set.annotations)
        change(document["database"])
        write_json(tmp_path / "changed.json", document)
        return tmp_path / "changed.json"

    return write


def moved(database):
    """Move an end, and take an action away."""
    database["training_00000"]["annotations"][0]["segment"][1] -= 0.3
    del database["training_00001"]["annotations"][-1]


def searched(run):
    """Return the folder of the head that the search of a run chose."""
    chosen = read_json(run / "arms/lofi/evaluation/stage.json")["result"]["chosen"]
    return run / "arms/lofi/head" / f"lr-{chosen['lr']:g}"


def started(recipe, folder, source, **options):
    run = Run(recipe, folder, device="cpu", quiet=True, start_from=source, **options)
    with run.open("lofi run"):
        return run, run.run()


def test_a_run_starts_from_another_and_goes_on_without_it(finished_run, quick, tmp_path):
    source = shutil.copytree(finished_run[0].output, tmp_path / "first")
    recipe, output = quick(), tmp_path / "deep/run"  # no caches lie beside it
    run, _ = started(recipe, output, source)
    assert run.cache.misses == 0  # every frame comes from the other run
    assert not (output / "pretrain").exists()
    assert run.origin.run == str(source)
    for part, own in ((searched(source), output / "origin"),
                      (source / "arms/lofi/model", output / "origin/refit")):  # fmt: skip
        assert (own / "head.safetensors").read_bytes() == (part / "head.safetensors").read_bytes()
    assert [v.video_id for v in run.data().selection] == [v.video_id for v in finished_run[0].data().selection]

    facts = {"run": str(source), "arm": "lofi", "hash": run.origin.hash}
    assert json.loads((output / "environment.json").read_text())["from"] == facts
    assert json.loads((output / "arms/lofi/model/localizer.json").read_text())["facts"]["from"] == facts
    assert run_facts(run, "")["starts from"] == str(run.origin)
    for stage in ("lofi", "arms/lofi/head/refit", "arms/lofi/evaluation"):
        assert json.loads((output / stage / "stage.json").read_text())["inputs"]["from"] == run.origin.hash

    before = files_of(output)
    source.rename(tmp_path / "moved")
    for stage in ("lofi", "arms/lofi/head/refit", "arms/lofi/evaluation"):  # as if it had been killed there
        (output / stage / "stage.json").unlink()
    again, _ = started(recipe, output, None, resume=True)
    assert again.origin.hash == run.origin.hash
    assert files_of(output) == before
    known, _ = started(recipe, output, source)  # the command that began it, though the other run is gone
    assert known.folder.skipped == {output / "lofi", output / "arms/lofi/evaluation"}


def test_weights_start_where_those_of_the_other_run_ended(finished_run, quick, tmp_path):
    source = finished_run[0].output
    run = Run(quick(), tmp_path / "run", device="cpu", quiet=True, start_from=source)
    with run.open():
        assert run.ensure("finetune") == tmp_path / "run/origin"
        first = run.first_head(64).state_dict()
        final = run.first_head(64, final=True).state_dict()
    for head, folder in ((first, searched(source)), (final, source / "arms/lofi/model")):
        expected = load_head(folder).state_dict()
        assert all(torch.equal(value, head[name]) for name, value in expected.items())
    ours, theirs = (run.saved_encoder(path).state_dict() for path in (tmp_path / "run/origin", source / "lofi"))
    assert all(torch.equal(value, ours[name]) for name, value in theirs.items())
    baseline = Run(quick(), tmp_path / "other", device="cpu", quiet=True, start_from=source / "arms/baseline")
    assert baseline.origin.arm == "baseline"
    assert baseline.origin.hash != run.origin.hash


def test_classes_keep_their_weights_by_name_from_a_model_folder_too(finished_run, quick, relabelled, tmp_path, caplog):
    model = Localizer.from_pretrained(finished_run[0].output, device="cpu")
    small = {"hidden": 16, "heads": 2, "levels": 3, "stem_blocks": 1, "window": 5, "head_layers": 1}
    labels = [f"gone {number}" for number in range(3)] + list(model.labels[:2])
    head = create_head("anchor_free", model.encoder.channels, num_classes=len(labels), **small)
    Localizer(
        encoder=model.encoder, encoder_name="tsm_resnet18_narrow", head=head, classifier=None, labels=labels,
        snippets={"count": 12, "frames": 4, "stride": 2, "size": 32}, detect=model.detect, device="cpu",
    ).save_pretrained(tmp_path / "model")  # fmt: skip
    recipe = quick(head={"name": "anchor_free", "options": small})
    run = Run(recipe, tmp_path / "run", device="cpu", quiet=True, start_from=tmp_path / "model")
    with caplog.at_level("INFO", "lofi_tal"), run.open():
        given = run.first_head(head.in_channels).state_dict()
    rows = [run.data().labels.index(label) for label in model.labels[:2]]
    for name in head.class_tensors:
        assert torch.equal(given[name][rows], head.state_dict()[name][3:])
        assert len(given[name]) == 4
    assert f"Classes of {tmp_path / 'model'}: 2 kept, 2 new" in caplog.text
    assert "3 gone (gone 0, gone 1, gone 2); new ones start from random weights" in caplog.text
    assert "does not say which videos it was trained on" in caplog.text


REFUSED = {
    "encoder options": ({"encoder": {"options": {"width": 16}}}, r"encoder has width=8, .* recipe width=16"),
    "encoder": ({"encoder": {"name": "tsm_resnet18", "options": {}}}, r"'tsm_resnet18_narrow', .* 'tsm_resnet18'"),
    "head": ({"head": {"name": "bmn", "options": {}}}, r"head is 'gtad', that of the recipe 'bmn'"),
    "head options": ({"head": {"options": {"hidden_1d": 64, "hidden_2d": 16, "hidden_3d": 32}}},
                     r"hidden_1d=32, that of the recipe hidden_1d=64"),
    "features": ({"features": {"sources": ["features"]}}, r"trained on videos, the recipe is for published features"),
    "second": ({"second": {"epochs": 1}}, r"set second=null"),
    "checkpoint": ({"head": {"weights": "checkpoint.pth"}}, r"checkpoint.pth: set head.weights=null"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_weights_that_do_not_fit_are_refused_before_anything_is_written(what, finished_run, changed, tmp_path):
    change, message = REFUSED[what]
    run = Run(changed(**change), tmp_path / "run", device="cpu", quiet=True, start_from=finished_run[0].output)
    with pytest.raises(LofiError, match=f"{finished_run[0].output} cannot be started from: .*{message}"), run.open():
        pass
    assert not (tmp_path / "run/origin").exists()
    assert not (tmp_path / "run/recipe.yaml").exists()


def test_a_run_that_is_unfinished_damaged_or_none_is_refused_with_what_to_do(finished_run, tiny_recipe, tmp_path):
    source = shutil.copytree(finished_run[0].output, tmp_path / "first")

    def refused(start, error=LofiError, output=tmp_path / "run"):
        with pytest.raises(error) as found:
            Run(tiny_recipe, output, device="cpu", quiet=True, start_from=start)
        return str(found.value)

    assert "holds neither a run nor a model" in refused(tmp_path / "nowhere")
    assert "is the folder of this run itself" in refused(source, output=source)
    assert f"holds a run that began without other weights, not from {source}" in refused(
        source, output=shutil.copytree(source, tmp_path / "copy")
    )
    weights = source / "arms/lofi/model/head.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    finish = f"lofi run {source / 'recipe.yaml'} -o {source} --resume"
    assert "head.safetensors is damaged" in (told := refused(source))
    assert finish in told
    assert "is damaged" in refused(source / "arms/lofi/model")
    (source / "arms/lofi/evaluation/stage.json").unlink()
    assert "is not finished" in (told := refused(source))
    assert finish in told


def test_videos_that_the_weights_have_seen_are_not_evaluated(finished_run, quick, relabelled, tmp_path):
    source = finished_run[0]
    seen = source.data().train[0].video_id
    labels = relabelled(lambda database: database[seen].update(subset="validation"))
    run = Run(quick(data={"annotations": str(labels)}), tmp_path / "run", device="cpu", start_from=source.output)
    with pytest.raises(DataError, match=rf"was trained on 1 video to be evaluated \({seen}\)"):
        run.data()
    held_out = source.data().selection[0].video_id  # of which the refit knows
    labels = relabelled(lambda database: database[held_out].update(subset="validation"))
    run = Run(quick(data={"annotations": str(labels)}), tmp_path / "run", device="cpu", start_from=source.output)
    with pytest.raises(DataError, match=held_out):
        run.data()


def test_a_run_says_which_labels_changed_what_runs_again_and_what_is_kept(
    finished_run, tiny_recipe, benchmark_set, relabelled, tmp_path, monkeypatch
):
    output = shutil.copytree(finished_run[0].output, tmp_path / "run")
    labels = relabelled(moved)
    (tmp_path / "recipe.yaml").write_text(save_recipe(tiny_recipe))
    command = ("run", tmp_path / "recipe.yaml", "-o", output, "--set", f"data.annotations={labels}", "--device", "cpu")
    stopped = lofi(*command)
    assert stopped.exit_code == 2
    compared = lofi("data", "diff", benchmark_set.annotations, labels)
    words = compared.stderr.splitlines()[:3]  # two changes and the counts
    assert "videos differ: 1 moved, 1 removed." in words[-1]
    told = stopped.stderr.splitlines()
    begin = told.index(f"Labels changed since {output}:")
    assert told[begin + 1 : begin + 4] == words
    assert told[begin + 4].startswith("To run: stage 2; head (baseline); evaluation (baseline); features (lofi)")
    assert told[begin + 5].startswith("Kept: stage 1; features (baseline) of 11 videos; decoded frames (frame cache)")
    assert "Add --overwrite to replace what is there, or keep it and retrain from its weights" in told[begin + 6]
    monkeypatch.setattr(Trial, "run", lambda trial: trial)  # time and memory are the claims of other tests
    monkeypatch.setattr("lofi_tal.run.forecast.predicted_peak", lambda recipe, fabric: 0.0)
    foreseen = lofi(*command, "--dry-run", "--json")
    document = json.loads(foreseen.stdout)["outlook"]
    assert document["labels_since"] == str(output)
    assert [change["kind"] for change in document["changes"]] == ["moved", "removed"]
    assert document["to_run"][0] == "stage 2"
    assert document["kept"][0] == "stage 1"
    assert document["replaces"]


def test_labels_of_validation_alone_leave_all_training_as_it_is(finished_run, changed, relabelled, tmp_path):
    def change(database):
        name = next(name for name, video in database.items() if video["subset"] == "validation")
        del database[name]["annotations"][-1]

    output = shutil.copytree(finished_run[0].output, tmp_path / "run")
    recipe = changed(data={"annotations": str(relabelled(change))})
    run = Run(recipe, output, device="cpu", quiet=True)
    with run.open():
        found = outlook(run, output, recipe, None)
        run.data()
    assert [change.kind for change in found.changes] == ["removed"]
    assert found.again == ("evaluation (baseline)", "evaluation (lofi)")
    assert found.kept[:2] == ("stage 1", "stage 2")
    assert found.replaces
    assert outlook(run, output, recipe, None).changes == ()  # the folder knows the new ones now


def test_a_folder_of_an_earlier_version_has_no_labels_and_says_nothing(finished_run, tiny_recipe, relabelled, tmp_path):
    output = shutil.copytree(finished_run[0].output, tmp_path / "run")
    (output / "labels.json").unlink()
    (tmp_path / "recipe.yaml").write_text(save_recipe(tiny_recipe))
    setting = f"data.annotations={relabelled(moved)}"
    stopped = lofi("run", tmp_path / "recipe.yaml", "-o", output, "--set", setting, "-q", "--device", "cpu")
    assert stopped.exit_code == 2
    assert "Labels changed" not in stopped.stderr
    assert "1 segment of training_00000 changed" in stopped.stderr


def test_a_damaged_copy_is_refused_and_made_again_when_it_is_named(finished_run, quick, tmp_path):
    source = finished_run[0].output
    run = Run(quick(), tmp_path / "run", device="cpu", quiet=True, start_from=source)
    with run.open():
        pass
    record = tmp_path / "run/origin/stage.json"
    content = {key: value for key, value in read_json(record).items() if key != "check"}
    write_json(record, sealed({**content, "files": {"head.safetensors": {"bytes": 1, "xxh3": "0"}}}))
    with pytest.raises(DataError, match=r"origin is damaged .*Say again what the run starts from, with --from"):
        Run(quick(), tmp_path / "run", device="cpu", quiet=True)
    run = Run(quick(), tmp_path / "run", device="cpu", quiet=True, start_from=source)
    with run.open():
        pass
    assert Run(quick(), tmp_path / "run", device="cpu", quiet=True).origin.hash == run.origin.hash
