"""Dispatch of verbs."""

from __future__ import annotations

import gc

import pytest

from nextscale.cli.main import import_all


@pytest.mark.parametrize("name", ["json", "no_such_module"])
def test_garbage_is_looked_for_again_after_an_import(name):
    assert gc.isenabled()
    try:
        assert import_all(name).__name__ == name
    except ModuleNotFoundError:
        assert name == "no_such_module"
    assert gc.isenabled()
