"""The description of an edit."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from tiny import refused

from nextscale.editing.spec import EditSpec, parse_box


def test_a_box_is_four_floats():
    assert EditSpec(box=[0, 0.5, 1, 1]).box == (0.0, 0.5, 1.0, 1.0) == parse_box("0,0.5,1,1")  # type: ignore[arg-type]


def test_softness_counts_only_with_compositing():
    assert EditSpec(softness=2).softness == 2.0 and EditSpec(softness=2, composite=False).softness == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": "paint"}, ["'paint'", "inpaint, outpaint, class"]),
        ({"mode": ["class"]}, ["unknown mode"]),
        ({"box": (0, 0, 1)}, ["box must be four numbers"]),
        ({"box": "0,0,1,1"}, ["box must be four numbers"]),
        ({"box": (0, 0, 1, True)}, ["box must be four numbers"]),
        ({"softness": -1}, ["softness", -1]),
        ({"softness": float("nan")}, ["softness", "nan"]),
        ({"softness": "2"}, ["softness", "'2'"]),
        ({"leak_free": 1}, ["leak_free must be true or false", 1]),
        ({"composite": None}, ["composite must be true or false"]),
        ({"fit": "stretch"}, ["'stretch'", "crop, pad"]),
        ({"full_size": 1}, ["full_size must be true or false"]),
        ({"full_size": True, "composite": False}, ["full_size", "cannot be combined with composite=False"]),
        ({"full_size": True, "scales_kept": 2}, ["full_size: only for"]),
        ({"softness": 10**400}, ["softness"]),
        ({"box": (0, 0, 1, 10**400)}, ["box must be four numbers"]),
        ({"upscale": "yes"}, ["upscale must be true or false"]),
        ({"scales_kept": 2.5}, ["scales_kept must be an integer", 2.5]),
        ({"scales_kept": True}, ["scales_kept must be an integer"]),
        ({"scales_kept": 2, "mode": "class"}, ["mode: only for"]),
        ({"upscale": True, "softness": 1, "leak_free": False}, ["leak_free, softness: only for"]),
    ],
)
def test_bad_fields(changes: dict[str, Any], words: list[Any]):
    with refused(*words):
        EditSpec(**changes)


@pytest.mark.parametrize("has_mask", [False, True])
@pytest.mark.parametrize(
    "changes", [{}, {"box": (0, 0, 1, 1)}, {"scales_kept": 2}, {"upscale": True}, {"upscale": True, "scales_kept": 2}]
)
def test_one_region(changes: dict[str, Any], has_mask: bool):
    if has_mask + len(changes) == 1:
        EditSpec(**changes).check_region(has_mask)
        return
    named = [name for name in ("mask", *(field.name for field in fields(EditSpec))) if name in changes]
    with refused("one of mask, box, scales_kept and upscale", *(named or ["mask" if has_mask else "none"])):
        EditSpec(**changes).check_region(has_mask)
