"""Every benchmark that the documentation names starts."""

from pathlib import Path

import pytest

from tests import processes

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if "__main__" in path.read_text())


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_says_how_it_is_used(name):
    shown = processes.run(name, "--help", path=FOLDER)
    assert shown.returncode == 0, shown.stderr
    assert "usage:" in shown.stdout
