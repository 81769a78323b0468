"""What docstrings show is what happens: the examples of the modules listed here are run."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

MODULES = ("lofi_tal.segments",)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name):
    result = doctest.testmod(import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
