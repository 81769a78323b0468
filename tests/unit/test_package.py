"""The package itself: its version, its public names, and how little importing it loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import lofi_tal
from lofi_tal.cli.app import app

ROOT = Path(__file__).parents[2]


def test_importing_the_package_loads_neither_torch_nor_numpy():
    code = """
import sys, lofi_tal
dir(lofi_tal), lofi_tal.__version__
heavy = {"torch", "numpy", "av", "matplotlib", "pandas", "lightning_fabric"} & set(sys.modules)
assert not heavy, heavy
from lofi_tal import Segments
assert "numpy" in sys.modules
heavy = {"torch", "av", "matplotlib", "pandas", "lightning_fabric"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", lofi_tal.__all__)
def test_every_public_name_is_there_and_listed(name):
    assert getattr(lofi_tal, name).__name__ == name
    assert name in dir(lofi_tal)
    assert "__version__" in dir(lofi_tal)


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Localiser'"):
        lofi_tal.Localiser  # noqa: B018


def test_type_checkers_see_the_names_that_are_loaded():
    tree = ast.parse(Path(lofi_tal.__file__).read_text())
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name)]
    seen = {alias.asname: line.module for line in guarded.body for alias in line.names}
    assert seen == lofi_tal._MODULES


def test_there_is_one_version():
    assert CliRunner().invoke(app, ["--version"]).stdout == f"lofi-tal {lofi_tal.__version__}\n"
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == lofi_tal.__version__
