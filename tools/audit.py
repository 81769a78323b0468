"""Known weaknesses and licences of what lofi-tal installs.

    python -m tools.audit [--licences]

Licences are read from what is installed; one that is not in ``ACCEPTED`` fails. Known weaknesses come from the Python
Package Index through pip-audit. Without the network, or where a mirror has no advisories, nothing is known of them,
which fails too. ``--licences`` needs no network and leaves them out.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

PACKAGE = "lofi-tal"
ACCEPTED = re.compile(
    r"MIT|BSD|Apache|PSF|Python Software Foundation|ISC|MPL|Mozilla|HPND|0BSD|Zlib|Unlicense|CNRI|MIT-CMU|matplotlib",
    re.IGNORECASE,
)
"""Licences under which everybody may use and pass on a package that calls them."""

KNOWN = {"nvidia-": "proprietary: CUDA libraries that torch brings on Linux", "cuda-toolkit": "a list of nvidia's"}
"""Packages by the beginning of their name whose licence is another one, and why they are there all the same."""

NOTES = {
    "av": "BSD itself; its wheel holds FFmpeg with x264 and x265, which are GPL",
    "lofi-tal": "this project",
}
"""What a licence field does not say."""


def installed(package: str = PACKAGE) -> dict[str, metadata.Distribution]:
    """Return what a package requires to run, and all that these require, by name; extras are left out."""
    found: dict[str, metadata.Distribution] = {}
    todo = [package]
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            print(f"{name}: required, but not installed here", file=sys.stderr)
            continue
        for line in found[name].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)
    return dict(sorted(found.items()))


def licence(distribution: metadata.Distribution) -> str:
    """Return the licence that a package declares, on one line, or an empty string."""
    facts = distribution.metadata
    classifiers = [one.split(" :: ")[-1] for one in facts.get_all("Classifier") or () if one.startswith("License ::")]
    text = facts.get("License-Expression") or ", ".join(classifiers) or (facts.get("License") or "").strip()
    return (text.splitlines() or [""])[0][:70]


def check_licences() -> list[str]:
    """Print the licence of every package, and return what is wrong with some."""
    wrong = []
    for name, distribution in installed().items():
        declared = licence(distribution)
        note = NOTES.get(name) or next((why for start, why in KNOWN.items() if name.startswith(start)), "")
        print(f"{name:28} {distribution.version:18} {declared or 'not declared':40} {note}".rstrip())
        if not note and not ACCEPTED.search(declared):
            wrong.append(f"{name} {distribution.version}: licence {declared or 'not declared'!r} is not in ACCEPTED")
    return wrong


def check_advisories() -> list[str]:
    """Ask for known weaknesses of the versions that are installed, and return what is wrong or could not be asked."""
    pinned = [f"{name}=={one.version}" for name, one in installed().items() if name != PACKAGE]
    public = [line.partition("+")[0] for line in pinned]  # a build for another CUDA is the same version
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "installed.txt"
        listed.write_text("\n".join(public) + "\n", encoding="utf-8")
        command = ["pip_audit", "--requirement", str(listed), "--no-deps", "--disable-pip", "--format=json"]
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    if "No module named pip_audit" in done.stderr:
        return ["pip-audit is not installed: make audit installs it (pip install 'lofi-tal[audit]')"]
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, LookupError):
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return [f"known weaknesses could not be asked for, so none is ruled out (is there a network?): {reason}"]
    return read_advisories(found)


def read_advisories(found: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong by pip-audit's list: packages with known weaknesses, and those that it passed over."""
    wrong = []
    for one in found:
        for weakness in one.get("vulns", ()):
            mended = ", ".join(weakness["fix_versions"]) or "no version"
            wrong.append(f"{one['name']} {one['version']}: {weakness['id']}, mended in {mended}")
    skipped = [one["name"] for one in found if "skip_reason" in one]
    if skipped:
        listed = f"{', '.join(skipped[:5])}{', ...' if len(skipped) > 5 else ''}"
        wrong.append(
            f"{len(skipped)} of {len(found)} packages are unknown to the package index that was asked, so no weakness "
            f"of them is ruled out ({listed}): a mirror may have no advisories"
        )
    if not wrong:
        print(f"No weakness of the {len(found)} packages is known.")
    return wrong


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--licences", action="store_true", help="only licences, which needs no network")
    options = parser.parse_args()
    wrong = check_licences()
    if not options.licences:
        wrong += check_advisories()
    for line in wrong:
        print(f"audit: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
