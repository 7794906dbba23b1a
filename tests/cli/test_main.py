"""Dispatch of verbs."""

from __future__ import annotations

import gc

import pytest

from nextscale.cli.main import current_flag, import_all


@pytest.mark.parametrize("name", ["json", "no_such_module"])
def test_garbage_is_looked_for_again_after_an_import(name):
    assert gc.isenabled()
    try:
        assert import_all(name).__name__ == name
    except ModuleNotFoundError:
        assert name == "no_such_module"
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("former", "current"),
    [
        ("--validate-pictures", "--validate-images"),
        ("--validate_pictures=3", "--validate_images=3"),
        ("--pictures=my pictures", "--images=my pictures"),
        ("pictures", "pictures"),
        ("--out=--pictures", "--out=--pictures"),
        ("--num-images", "--num-images"),
    ],
)
def test_former_flags_have_their_current_name(former, current):
    assert current_flag(former) == current
