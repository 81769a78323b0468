"""Whether the oldest versions that ``pyproject.toml`` allows really work: import everything, and run the unit tests.

    python -m tools.floors [--torch-too] [--keep] [pytest arguments]

A virtual environment with the floor of every dependency is made in ``build/floors`` and removed again. torch and
torchvision, which are large, come from the environment that runs this, unless ``--torch-too`` installs their floors.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
LARGE = ("torch", "torchvision")
USERS = ("pandas",)
"""Packages that the project only tests with, but users may have: where they are too old, calls fail."""

_IMPORT_ALL = (
    "import importlib, pkgutil, lofi_tal; "
    "names = [m.name for m in pkgutil.walk_packages(lofi_tal.__path__, 'lofi_tal.') if '__main__' not in m.name]; "
    "[importlib.import_module(name) for name in names]; print(len(names), 'modules imported')"
)


def floors() -> dict[str, str]:
    """Return the oldest version of each dependency that ``pyproject.toml`` allows.

    Raises:
        SystemExit: If a dependency has none.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = map(Requirement, project["optional-dependencies"]["dev"])
    found = {}
    for requirement in [*map(Requirement, project["dependencies"]), *(one for one in optional if one.name in USERS)]:
        lowest = [one.version for one in requirement.specifier if one.operator == ">="]
        if not lowest:
            sys.exit(f"floors: {requirement} has no oldest version: write {requirement.name}>=...")
        found[requirement.name] = lowest[0]
    return found


def make_environment(folder: Path, versions: dict[str, str], *, borrow: bool) -> Path:
    """Install versions into a new virtual environment and return its Python.

    Args:
        folder: Of the environment.
        versions: By name.
        borrow: Everything else comes from the environment that runs this.
    """
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    if borrow:
        own = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
        (Path(own) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    pinned = [f"{name}=={version}" for name, version in versions.items()]
    constraints = folder / "floors.txt"
    constraints.write_text("\n".join(pinned) + "\n", encoding="utf-8")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", constraints]
    subprocess.run([*install, *pinned], check=True)
    if not borrow:
        subprocess.run([*install, "--editable", f"{ROOT}[dev]"], check=True)
    return python


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-too", action="store_true", help="install the floors of torch and torchvision as well")
    parser.add_argument("--keep", action="store_true", help="keep build/floors")
    options, arguments = parser.parse_known_args()
    versions = {name: floor for name, floor in floors().items() if options.torch_too or name not in LARGE}
    print("\n".join(f"{name} {version}" for name, version in versions.items()), flush=True)
    folder = ROOT / "build" / "floors"
    try:
        python = make_environment(folder, versions, borrow=not options.torch_too)
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *(arguments or ["tests/unit"])]
        for command in (["-c", _IMPORT_ALL], tests):
            status = subprocess.run([python, *command], cwd=ROOT, env=environment, check=False).returncode
            if status:
                return status
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print("The oldest versions that are allowed work.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
