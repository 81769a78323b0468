"""A package of somebody else's (examples/own_encoder), installed with pip, adds components without any change here."""

import json
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tests import processes

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "own_encoder"

IN_PYTHON = """
import sys
from pathlib import Path

import torch

from lofi_tal.config import make_recipe
from lofi_tal.encoders import create_encoder, list_encoders, load_encoder, save_encoder
from lofi_tal.fidelity import create_schedule, full_fidelity, list_schedules
from lofi_tal.heads import create_head, list_heads, load_head, save_head, takes_classes
from lofi_tal.segments import Segments
from lofi_tal.tasks import create_task, list_tasks
from lofi_tal.tracking import create_logger, list_loggers
from lofi_tal.showing import Shown
from lofi_tal.writers import check_formats, detection_files, write_detections

folder = Path(sys.argv[1])
torch.manual_seed(0)
clips = torch.randint(0, 256, (3, 4, 3, 33, 47), dtype=torch.uint8)

encoder = create_encoder("own_encoder", channels=16).eval()
features = encoder(clips)
assert features.shape == (3, 16)
changed = clips.clone()
changed[2] = 255 - changed[2]
assert torch.equal(encoder(changed)[:2], features[:2])  # nothing passes between clips
frames = encoder.normalise(clips.flatten(0, 1))
by_hand = frames
for block in encoder.blocks():
    by_hand = block(by_hand)
assert torch.allclose((clips.flatten(0, 1) / 255 - encoder.mean) / encoder.std, frames, atol=1e-5)
assert torch.allclose(by_hand.mean((2, 3)).view(3, 4, 16).mean(1), features, atol=1e-6)
with torch.autocast("cpu", torch.bfloat16):
    assert encoder(clips).dtype == torch.float32  # what heads need
save_encoder(encoder, "own_encoder", folder / "encoder")
assert torch.equal(load_encoder(folder / "encoder").eval()(clips), features)
again = create_encoder("own_encoder", channels=16, pretrained=folder / "encoder").eval()
assert torch.equal(again(clips), features)
joined = create_encoder("joined", parts=[{"name": "own_encoder"}, {"name": "tsm_resnet18_narrow", "width": 8}])
save_encoder(joined, "joined", folder / "joined")
assert load_encoder(folder / "joined").channels == 32 + 64

head = create_head("own_head", 16, hidden_1d=32, hidden_2d=16, hidden_3d=32).eval()
plain = create_head("gtad", 16, hidden_1d=32, hidden_2d=16, hidden_3d=32).eval()
plain.load_state_dict(head.state_dict())
inputs = torch.randn(1, 16, 12)
ours, theirs = (one.proposals(one(inputs))[0] for one in (head, plain))
assert torch.allclose(ours.scores, theirs.scores**2)
save_head(head, folder / "head")
assert type(load_head(folder / "head")) is type(head)
assert not takes_classes("own_head")

schedule = create_schedule("own_schedule", full_fidelity(100, 224), r_s=2, c_l=3)
assert [schedule.at(epoch=epoch, step=0).size for epoch in (0, 2, 3, 5, 6)] == [112, 112, 224, 224, 112]
recipe = make_recipe({"data": {"annotations": "a.json", "videos": "v"}, "lofi": {"schedule": "own_schedule"}})
assert recipe.lofi.fidelities_over(full_fidelity(100, 224)).at(epoch=0, step=0).size == 112

found = Segments("clip", [1.0, 2.5], [2.0, 4.0], ("jump", "run"), [0.9, 0.1], 5.0)
write_detections(found, folder, Shown(0.5), check_formats(["audacity", "json"]))
(labels, results) = detection_files(folder, "clip", ["audacity", "json"])
assert labels.name == "clip.labels.txt"
assert labels.read_text() == "1.000\\t2.000\\tjump\\n"  # the second one is below the threshold
assert results.exists()

task = create_task("upside_down")
shown, answers = task.examples(torch.arange(2)[:, None, None, None, None].expand(2, 4, 8, 8, 3), torch.zeros(2))
assert shown.shape == (4, 4, 8, 8, 3) and answers.tolist() == [0, 0, 1, 1]
recipe = make_recipe({"data": recipe.data.model_dump(), "pretrain": {"task": "upside_down"}})
assert recipe.pretrain.task == "upside_down"
tracker = create_logger("own_log", {"name": "x.log"}, folder=folder, stage="lofi", start=0)
tracker.log_metrics({"loss": 1.0}, 3)
tracker.finalize("success")
assert (folder / "x.log").read_text() == "3 {'loss': 1.0}\\n"
assert list_tasks()[-1] == "upside_down" and list_loggers()[-1] == "own_log"

for names, name in ((list_encoders(), "own_encoder"), (list_heads(), "own_head"), (list_schedules(), "own_schedule")):
    assert names[-1] == name
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder with the installed example, and a second package with an encoder that needs an option, and broken ones."""
    target = tmp_path_factory.mktemp("site")
    if can_build():
        source = tmp_path_factory.mktemp("source") / "own_encoder"
        shutil.copytree(EXAMPLE, source)  # building leaves files beside the sources
        options = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", target, source]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
    else:
        shutil.copy(EXAMPLE / "own_encoder.py", target)
        install_by_hand(target, "own-encoder", tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"])
    code = "from own_encoder import OwnEncoder\ndef needy(*, size): return OwnEncoder(channels=size)\nnothing = 3\n"
    (target / "odd_things.py").write_text(code)
    encoders = {"needy": "odd_things:needy", "not_there": "odd_things:missing"}
    odd = {"lofi_tal.encoders": encoders, "lofi_tal.importers": {"odd": "odd_things:nothing"}}
    install_by_hand(target, "odd-things", {"entry-points": odd})
    return target


def can_build():
    """Say whether pip can build the example without a network."""
    try:
        return tuple(map(int, version("setuptools").split(".")[:2])) >= (70, 1)
    except PackageNotFoundError:
        return False


def install_by_hand(target, name, project):
    info = target / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def lofi(site, *arguments):
    """Run a command with the outside packages on its path."""
    return processes.run("lofi_tal.cli", *arguments, path=site)


def test_its_components_keep_the_contracts(site, tmp_path):
    (tmp_path / "in_python.py").write_text(IN_PYTHON)
    result = processes.run("in_python", tmp_path, path=site, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_the_lists_name_its_components_and_package(site):
    result = lofi(site, "models", "list", "--json")
    assert result.returncode == 0, result.stderr
    listed = json.loads(result.stdout)
    row = listed["encoders"]["own_encoder"]
    assert (row["channels"], row["package"]) == (32, "own-encoder")
    assert "size" in listed["encoders"]["needy"]["error"]  # it needs an option, and does not break the list
    assert "'odd_things:missing'" in listed["encoders"]["not_there"]["error"]
    assert list(listed["encoders"])[-3:] == ["needy", "not_there", "own_encoder"]
    assert listed["packages"]["heads"] == {"own_head": "own-encoder"}
    assert listed["packages"]["schedules"] == {"own_schedule": "own-encoder"}
    assert listed["packages"]["tasks"] == {"upside_down": "own-encoder"}
    assert listed["packages"]["loggers"] == {"own_log": "own-encoder"}
    assert listed["packages"]["importers"] == {"odd": "odd-things", "own_format": "own-encoder"}
    assert listed["packages"]["writers"] == {"audacity": "own-encoder"}
    table = lofi(site, "models", "list").stdout
    assert "own-encoder" in table
    assert "cannot be built" in table


def test_an_encoder_is_described(site):
    result = lofi(site, "models", "info", "own_encoder", "--json")
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout)
    assert (facts["package"], facts["options"], facts["std"]) == (
        "own-encoder",
        {"channels": 32},
        [0.229, 0.224, 0.225],
    )
    assert lofi(site, "models", "info", "own_encoder:OwnEncoder").returncode == 0
    failed = lofi(site, "models", "info", "not_there")
    assert failed.returncode == 2
    assert "package 'odd-things' cannot be loaded" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize("named", [("--from", "own_format"), ()])
def test_annotations_are_read_by_name_and_by_suffix(named, site, tmp_path):
    (tmp_path / "a.own").write_text("clip 1 2 high jump\nclip 2.5 4 run\n")
    result = lofi(site, "data", "convert", tmp_path / "a.own", *named, "-o", tmp_path / "out.csv", "--to", "csv")
    assert result.returncode == 0, result.stderr
    rows = (tmp_path / "out.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:4] for row in rows] == [["clip", "1.0", "2.0", "high jump"], ["clip", "2.5", "4.0", "run"]]
    (tmp_path / "bad.own").write_text("clip 1 2\n")
    result = lofi(site, "data", "convert", tmp_path / "bad.own", *named, "-o", tmp_path / "out.csv", "--to", "csv")
    assert result.returncode == 3
    assert "line 1: expected video, start, end and label" in result.stderr


def test_docs_show_the_code_of_the_example():
    text = (ROOT / "docs" / "extending.md").read_text()
    code = (EXAMPLE / "own_encoder.py").read_text()
    blocks = [block.split("```")[0].strip() for block in text.split("```python\n")[1:]]
    shown = [block for block in blocks if block.startswith(("class ", "def ", "read_own", "audacity"))]
    assert len(shown) >= 5
    for block in shown:
        for part in block.split("\n\n\n"):
            assert part in code, part
