"""The names at `lofi_tal` are the documented ones."""

import re
from pathlib import Path

import lofi_tal

API = (Path(__file__).parents[2] / "docs/api.md").read_text()


def test_the_table_names_every_public_name_and_no_other():
    table = API[API.index("## Names") :]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == set(lofi_tal.__all__)
    assert len(named) <= 30


def test_every_public_name_says_what_it_is():
    assert all(getattr(lofi_tal, name).__doc__.strip() for name in lofi_tal.__all__)


def test_examples_on_the_page_use_names_that_exist():
    assert set(re.findall(r"lofi\.([A-Za-z_]+)", API)) <= set(lofi_tal.__all__)
