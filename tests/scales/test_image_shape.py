"""Shapes of images as requests state them."""

from __future__ import annotations

from typing import Any

import pytest
from tiny import refused

from nextscale.scales.aspect import BUDGETS, TEMPLATES
from nextscale.scales.image_shape import ANY_SHAPE, ImageShape, budget_of, follows_template
from nextscale.scales.schedule import ScaleSchedule

MEGAPIXEL = ScaleSchedule.infinity()
SQUARE = (1024, 1024)


@pytest.mark.parametrize(
    "shape, budget, template",
    [
        ({"aspect": "16:9"}, "1M", 0.571),
        ({"aspect": "9:16"}, "1M", 1.75),
        ({"aspect": 0.5}, "1M", 0.5),
        ({"aspect": "3:1"}, "1M", 0.333),
        ({"aspect": "1:100"}, "1M", 3.0),
        ({"budget": "0.25M"}, "0.25M", 1.0),
        ({"aspect": "4:3", "budget": "0.06M"}, "0.06M", 0.75),
        ({"size": "1024x768"}, "0.60M", 0.75),
        ({"size": "512x512"}, "0.25M", 1.0),
        ({"size": "16x16"}, "0.06M", 1.0),
        ({"size": "4000x4000"}, "1M", 1.0),
    ],
)
def test_the_nearest_template_and_budget(shape, budget, template):
    assert ImageShape(**shape).schedule(MEGAPIXEL, SQUARE) == ScaleSchedule.infinity(budget, template)


def test_missing_parts_are_those_of_the_model():
    own = ScaleSchedule.infinity("0.25M", 2.0)
    assert ANY_SHAPE.schedule(own, (720, 352)) is own
    assert ImageShape(aspect="1:1").schedule(own, (720, 352)) == ScaleSchedule.infinity("0.25M")
    assert ImageShape(budget="1M").schedule(own, (720, 352)) == ScaleSchedule.infinity("1M", 2.0)


def test_the_size_of_every_template_is_its_own():
    for template in TEMPLATES:
        for budget in BUDGETS:
            schedule = ScaleSchedule.infinity(budget, template)
            h, w = schedule.final_size
            assert ImageShape(size=f"{16 * w}x{16 * h}").schedule(MEGAPIXEL, SQUARE) == schedule
            assert ImageShape(size=f"{2 * w}x{2 * h}").schedule(MEGAPIXEL, (128, 128)) == schedule  # 2 pixels per token
            assert follows_template(schedule) and budget_of(schedule) == budget


def test_the_shape_for_a_given_image():
    own = ScaleSchedule.infinity("0.25M")
    wide, size = (90, 160), (512, 512)
    assert ANY_SHAPE.schedule_for(wide, own, size) == ScaleSchedule.infinity("0.25M", 0.571)
    assert ImageShape(budget="1M").schedule_for(wide, own, size) == ScaleSchedule.infinity("1M", 0.571)
    assert ImageShape(aspect="1:2").schedule_for(wide, own, size) == ScaleSchedule.infinity("0.25M", 2.0)
    assert ImageShape(size="1024x1024").schedule_for(wide, own, size) == ScaleSchedule.infinity("1M")
    one_size = ScaleSchedule.square((1, 2, 4))
    assert ANY_SHAPE.schedule_for(wide, one_size, (64, 64)) is one_size


def test_a_model_of_one_size():
    for own in (ScaleSchedule.square((1, 2, 4)), ScaleSchedule(((1, 1), (2, 2), (4, 4)), 1.0)):
        assert not follows_template(own)
        assert ImageShape(size="64x64").schedule(own, (64, 64)) is own
        shape: dict[str, Any]
        for shape, wanted in (({"size": "64x32"}, "64x32"), ({"aspect": "2:1", "budget": "1M"}, "2:1 1M")):
            with refused("64x64 pixels", f"not {wanted}"):
                ImageShape(**shape).schedule(own, (64, 64))


@pytest.mark.parametrize(
    "shape, word",
    [
        ({"aspect": "16x9"}, "16x9"),
        ({"aspect": "0:1"}, "0:1"),
        ({"aspect": -1}, "-1"),
        ({"aspect": "nan"}, "nan"),
        ({"aspect": True}, "True"),
        ({"aspect": None}, "None"),
        ({"budget": "2M"}, "2M"),
        ({"budget": 1}, "1"),
        ({"size": "64"}, "64"),
        ({"size": "0x64"}, "0x64"),
        ({"size": "64x64", "budget": "1M"}, "both"),
        ({"size": "64x64", "aspect": "1:1"}, "both"),
    ],
)
def test_bad_shapes(shape, word):
    with refused(word):
        ImageShape(**shape)
