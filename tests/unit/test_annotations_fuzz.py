"""Whatever a file holds, an importer reads it or says in one line why not. `make fuzz` looks longer."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.targets import SEEDS, SUFFIXES, attack, vary
from lofi_tal.annotations.formats import READERS, ImportOptions, import_annotations

json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def test_every_importer_has_a_target():
    assert {name.removesuffix("-json") for name in SUFFIXES} == set(READERS)
    assert SEEDS.keys() == SUFFIXES.keys()


@pytest.mark.parametrize("name", list(SUFFIXES))
def test_seeds_are_valid_files(name, folder):
    for seed in SEEDS[name]:
        path = folder / f"Jump_val{SUFFIXES[name]}"
        path.write_bytes(seed)
        found = import_annotations([path], name.removesuffix("-json"), ImportOptions(fps=25.0))
        assert found.annotations.labels


@pytest.mark.parametrize("name", list(SUFFIXES))
def test_any_bytes(name, folder):
    @given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode(errors="replace")))
    def check(data):
        attack(name, data, folder)

    check()


@pytest.mark.parametrize("name", list(SUFFIXES))
def test_valid_files_with_parts_exchanged(name, folder):
    @given(st.binary(max_size=8))
    def check(data):
        attack(name, vary(name, data), folder)

    check()


@pytest.mark.parametrize("name", [name for name, suffix in SUFFIXES.items() if suffix in (".json", ".boris")])
def test_any_json(name, folder):
    import json

    @given(
        json_values
        | st.dictionaries(
            st.sampled_from(
                (
                    "database",
                    "metadata",
                    "view",
                    "file",
                    "attribute",
                    "observations",
                    "behaviors_conf",
                    "annotation",
                )
            ),
            json_values,
        )
    )
    def check(value):
        attack(name, json.dumps(value).encode(), folder)

    check()
