"""The wheel as a user gets it: what it needs is declared, its data files are in it, nothing comes from the checkout.

Installing torch anew would take minutes. Instead a fresh virtual environment gets links to the distributions that the
wheel requires, directly or through others, and to nothing else of the environment that runs the tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from email import message_from_string
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

import lofi_tal
from tests.tiny import SETTINGS

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "lofi_tal"


def requirements(texts, extras=frozenset()):
    """Return those of some Requires-Dist that hold here, with these extras."""
    every = map(Requirement, texts)
    return [r for r in every if not r.marker or any(r.marker.evaluate({"extra": extra}) for extra in (extras or {""}))]


def required(texts) -> dict[str, metadata.Distribution]:
    """Return the distributions that are required, directly or not; one that is missing or too old is an error."""
    found = {}
    open_ = requirements(texts)
    seen = set()
    while open_:
        requirement = open_.pop()
        key = (requirement.name.lower(), frozenset(requirement.extras))
        distribution = metadata.distribution(requirement.name)
        assert requirement.specifier.contains(distribution.version, prereleases=True), str(requirement)
        if key not in seen:
            seen.add(key)
            found[distribution.metadata["Name"]] = distribution
            open_ += requirements(distribution.requires or (), frozenset({"", *requirement.extras}))
    return found


def link(distribution: metadata.Distribution, site: Path) -> None:
    """Link the modules, packages and metadata of a distribution into a folder."""
    for name in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
        target = site / name
        if not target.is_symlink() and not name.endswith(".pth"):  # packages of several, such as nvidia, are there once
            target.symlink_to(Path(distribution.locate_file(name)).resolve())


class Environment:
    """A virtual environment with what the wheel requires, but without the wheel."""

    def __init__(self, folder: Path, requires: list[str]) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.bin = folder / "bin"
        self.site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
        for distribution in required(requires).values():
            link(distribution, self.site)

    def run(self, program, *arguments, **variables) -> str:
        """Run a program of the environment away from the checkout, and return what it prints."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        environment = {**kept, "PYTHONNOUSERSITE": "1", "OMP_NUM_THREADS": "1", **variables}
        command = [self.bin / program, *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.bin, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def python(self, code: str, **variables) -> str:
        """Run a program text."""
        return self.run("python", "-c", code, **variables)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel that pip builds from the source distribution, as an index has them."""
    sources, folder = tmp_path_factory.mktemp("sdist"), tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    for command in ([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", sources], [*pip, "-w", folder]):
        command += sources.iterdir()
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stderr
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def described(wheel):
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_string(archive.read(name).decode())


@pytest.fixture(scope="module")
def installed(wheel, described, tmp_path_factory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("installed"), described.get_all("Requires-Dist"))
    command = [sys.executable, "-m", "pip", "--python", environment.bin / "python", "install", "--quiet", "--no-deps"]
    subprocess.run([*command, "--no-index", wheel], check=True)
    return environment


def test_the_wheel_holds_the_package_and_nothing_else(wheel, described):
    with ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {path for path in SOURCES.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert packed == {path.relative_to(SOURCES.parent).as_posix() for path in files}
    assert described["Version"] == lofi_tal.__version__


def test_the_environment_has_the_wheel_but_neither_the_checkout_nor_tools_of_developers(installed):
    code = """
import importlib.util, json, sys
import lofi_tal
tools = ("pytest", "hypothesis", "ruff", "mypy", "pandas", "hatchling", "pip")
tools = [name for name in tools if importlib.util.find_spec(name)]
print(json.dumps({"file": lofi_tal.__file__, "path": sys.path, "tools": tools}))
"""
    found = json.loads(installed.python(code))
    assert Path(found["file"]).is_relative_to(installed.site)
    assert not [entry for entry in found["path"] if Path(entry).is_relative_to(ROOT)]
    assert found["tools"] == []


def test_every_module_of_the_wheel_can_be_imported(installed):
    code = """
import importlib, pkgutil
import lofi_tal
optional = {"lofi_tal.cli.__main__", "lofi_tal.video.torchcodec"}
for module in pkgutil.walk_packages(lofi_tal.__path__, "lofi_tal."):
    try:
        if module.name not in optional:
            importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        if not module.name.startswith("lofi_tal.studio.") or error.name.split(".")[0] not in ("starlette", "uvicorn"):
            raise
print(*(name for name in lofi_tal.__all__ if getattr(lofi_tal, name).__module__.startswith("lofi_tal.")))
"""
    assert installed.python(code).split() == lofi_tal.__all__


def test_without_its_extra_the_studio_says_what_to_install(installed):
    code = """
from typer.testing import CliRunner
from lofi_tal.cli.app import app
print(CliRunner().invoke(app, ["studio", "."]).exception)
"""
    assert "pip install 'lofi-tal[studio]'" in installed.python(code)


def test_the_version_needs_no_installation(described, tmp_path):
    environment = Environment(tmp_path / "bare", described.get_all("Requires-Dist"))
    said = environment.run("python", "-m", "lofi_tal.cli", "--version", PYTHONPATH=str(SOURCES.parent))
    assert said == f"lofi-tal {lofi_tal.__version__}\n"


def test_a_recipe_runs_from_data_to_report_and_detects(installed, tmp_path):
    assert installed.run("lofi", "--version") == f"lofi-tal {lofi_tal.__version__}\n"
    assert "tsm_resnet18" in installed.run("lofi", "models", "list", "--json")
    run, out = tmp_path / "run", tmp_path / "out"
    chosen = [part for setting in SETTINGS for part in ("--set", setting)]
    scratch = ("--from-scratch", "--preset", "tiny", "--device", "cpu", "-q")
    installed.run("lofi", "demo", "-o", run, *scratch, *chosen)
    recipe = ("run", run / "recipe.yaml", "-o", run, "--device", "cpu", "-q", "--json")
    assert json.loads(installed.run("lofi", *recipe)).keys() == {"baseline", "lofi", "data"}
    assert "<svg" in (run / "report.html").read_text()
    assert "What LoFi changes" in (run / "demo.html").read_text()
    video = min((run / "data" / "videos").iterdir())
    installed.run("lofi", "detect", video, "--model", run / "arms/lofi/model", "--out", out, "--device", "cpu", "-q")
    assert "<script" in (out / f"{video.stem}.html").read_text()


def test_it_detects_in_the_video_that_it_brings(installed):
    assert installed.run("lofi", "detect", "--demo", "-q").count("shake_horizontal") >= 4


def test_the_demonstration_begins_with_the_encoder_that_it_brings(installed, tmp_path):
    small = ("lofi.epochs=1", "head.epochs=1", "classifier.epochs=1", "data.workers=0")
    chosen = [part for setting in small for part in ("--set", setting)]
    installed.run("lofi", "demo", "-o", tmp_path / "run", "--preset", "tiny", "--device", "cpu", "-q", *chosen)
    assert not (tmp_path / "run/data/clips").exists()
    start = json.loads((tmp_path / "run/pretrain/stage.json").read_text())
    assert start["stage"] == "start"
