"""What `make audit` and `make floors` say of the packages that lofi-tal needs."""

import re
from email.message import Message
from types import SimpleNamespace

import pytest

from tools import audit, floors


def test_weaknesses_and_packages_that_were_passed_over_are_faults():
    clean = {"name": "rich", "version": "15.0", "vulns": []}
    weak = {"name": "jinja2", "version": "3.1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["3.1.3"]}]}
    assert audit.read_advisories([clean]) == []
    assert audit.read_advisories([clean, weak]) == ["jinja2 3.1.0: CVE-1, mended in 3.1.3"]
    (told,) = audit.read_advisories([clean, {"name": "av", "skip_reason": "not found"}])
    assert told.startswith("1 of 2 packages are unknown to the package index")


@pytest.mark.parametrize(
    ("stdout", "stderr", "told"),
    [
        ("", "No module named pip_audit", "pip-audit is not installed"),
        ("", "Traceback\nConnectionError: no route", "could not be asked for.*ConnectionError: no route"),
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', "", "^$"),
    ],
)
def test_what_cannot_be_asked_is_a_fault_with_a_reason(monkeypatch, stdout, stderr, told):
    done = SimpleNamespace(stdout=stdout, stderr=stderr, returncode=1)
    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: done)
    assert re.search(told, " ".join(audit.check_advisories()))


def test_a_licence_that_nobody_accepted_is_a_fault(monkeypatch, capsys):
    def package(licence):
        facts = Message()
        facts["License-Expression"] = licence
        return SimpleNamespace(version="1.0", metadata=facts)

    packages = {"good": package("BSD-3-Clause"), "bad": package("AGPL-3.0-only"), "nvidia-x": package("Proprietary")}
    monkeypatch.setattr(audit, "installed", lambda: packages)
    assert audit.check_licences() == ["bad 1.0: licence 'AGPL-3.0-only' is not in ACCEPTED"]
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_the_licences_of_all_that_is_installed_are_accepted():
    assert {"torch", "numpy", "av", "pydantic-core"} <= set(audit.installed())
    assert audit.check_licences() == []


def test_every_dependency_has_an_oldest_version():
    assert {"torch", "numpy", "av", "lightning-fabric"} <= set(floors.floors())
