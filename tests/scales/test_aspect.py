"""Infinity's templates, and which of them a size or an aspect takes."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import refused

import nextscale as ns
from nextscale.scales.aspect import (
    BUDGETS,
    TEMPLATES,
    UNIT,
    nearest_budget,
    nearest_template,
    parse_aspect,
    parse_size,
    template_sizes,
)

few = settings(deadline=None, max_examples=50)
IN_ORDER = [1.0, 1.25, 0.8, 1.333, 0.75, 1.5, 0.666, 1.75, 0.571, 2.0, 0.5, 2.5, 0.4, 3.0, 0.333]

SIZES = {
    1.0: {"0.06M": (256, 256, 521), "0.25M": (512, 512, 2521), "0.60M": (768, 768, 6425), "1M": (1024, 1024, 10521)},
    1.25: {"0.06M": (320, 256, 614), "0.25M": (560, 448, 2814), "0.60M": (880, 704, 6854), "1M": (1120, 896, 10774)},
    0.571: {"0.06M": (192, 336, 472), "0.25M": (384, 672, 2628), "0.60M": (640, 1120, 7220), "1M": (768, 1344, 11252)},
    3.0: {"0.06M": (432, 144, 509), "0.25M": (864, 288, 2588), "0.60M": (1440, 480, 7016), "1M": (1776, 592, 11123)},
}
"""Template -> budget -> (height, width in pixels, number of tokens)."""

NEAREST = {
    0.2: 0.333,
    0.366: 0.333,
    0.3665: 0.333,
    0.45: 0.5,
    0.5355: 0.571,
    0.6: 0.571,
    0.62: 0.666,
    0.708: 0.666,
    0.775: 0.8,
    0.9: 1.0,
    1.0: 1.0,
    1.125: 1.0,
    1.2915: 1.333,
    1.41: 1.333,
    1.6: 1.5,
    1.625: 1.5,
    1.9: 2.0,
    2.25: 2.0,
    2.75: 2.5,
    5.0: 3.0,
}
"""Results of the reference; 0.9, 1.125, 1.625, 2.25 and 2.75 lie in the middle between two."""


def test_there_are_15_templates_in_the_official_order():
    assert list(TEMPLATES) == IN_ORDER
    assert BUDGETS == {"0.06M": 7, "0.25M": 10, "0.60M": 12, "1M": 13}


@pytest.mark.parametrize("template", IN_ORDER)
def test_every_template_has_13_growing_grids_of_its_ratio(template):
    grids = TEMPLATES[template]
    assert len(grids) == 13 and grids[0] == (1, 1) and grids[1] == (2, 2)
    for (h, w), (next_h, next_w) in pairwise(grids):
        assert h <= next_h and w <= next_w and h * w < next_h * next_w
    for h, w in grids[6:]:
        assert h / w == pytest.approx(template, rel=0.04)
    h, w = grids[-1]
    assert math.floor(1000 * h / w) / 1000 == template
    assert h * w * UNIT**2 == pytest.approx(1024**2, rel=0.06)


@pytest.mark.parametrize(("tall", "wide"), list(zip(IN_ORDER[1::2], IN_ORDER[2::2], strict=True)))
def test_the_other_way_round_height_and_width_are_swapped(tall, wide):
    assert wide == math.floor(1000 / (TEMPLATES[tall][-1][0] / TEMPLATES[tall][-1][1])) / 1000
    assert TEMPLATES[wide] == tuple((w, h) for h, w in TEMPLATES[tall])


@pytest.mark.parametrize("template", SIZES)
def test_sizes_and_numbers_of_tokens(template):
    for budget, (height, width, tokens) in SIZES[template].items():
        schedule = ns.ScaleSchedule.infinity(budget, template)
        assert (schedule.final_size[0] * UNIT, schedule.final_size[1] * UNIT) == (height, width)
        assert (schedule.num_tokens, schedule.num_scales) == (tokens, BUDGETS[budget])
        assert schedule.sizes == template_sizes(template, budget)
        assert (schedule.template, schedule.frame) == (template, TEMPLATES[template][-1])


@pytest.mark.parametrize("template", IN_ORDER)
@pytest.mark.parametrize("budget", BUDGETS)
def test_every_template_is_nearest_to_itself_and_to_its_images(template, budget):
    assert nearest_template(template) == template
    schedule = ns.ScaleSchedule.infinity(budget, template)
    h, w = schedule.final_size
    assert nearest_budget(h * UNIT, w * UNIT) == (template, budget)


@pytest.mark.parametrize("ratio", NEAREST)
def test_the_first_of_the_nearest_templates_is_taken(ratio):
    assert nearest_template(ratio) == NEAREST[ratio]


@given(st.floats(1e-6, 1e6))
@few
def test_no_template_is_nearer(ratio):
    found = nearest_template(ratio)
    distances = [abs(ratio - template) for template in IN_ORDER]
    assert IN_ORDER.index(found) == distances.index(min(distances))


@pytest.mark.parametrize("ratio", [0, -1.0, math.nan, math.inf, "1", None, True])
def test_what_is_no_ratio(ratio):
    with refused("positive", repr(ratio)):
        nearest_template(ratio)


@pytest.mark.parametrize("budget", ["0.6M", "2M", 1, None, ["1M"]])
def test_unknown_budgets(budget):
    with refused(repr(budget), "0.06M, 0.25M, 0.60M, 1M"):
        ns.ScaleSchedule.infinity(budget)


def test_an_unknown_template():
    with refused(1.1, 1.25, 0.333):
        ns.ScaleSchedule(((1, 1), (2, 2)), 1.1)


@pytest.mark.parametrize(
    ("text", "ratio"),
    [("16:9", 9 / 16), ("9:16", 16 / 9), ("1:1", 1.0), ("1.5", 1.5), (" 2 : 1 ", 0.5), ("2.35:1", 1 / 2.35)],
)
def test_aspects_are_width_to_height(text, ratio):
    assert parse_aspect(text) == pytest.approx(ratio)


@pytest.mark.parametrize(
    "text", ["", ":", "16:", ":9", "0:1", "1:0", "-1:2", "a:b", "nan", "inf", "16:9:1", "1e999:1", "1x1"]
)
def test_what_is_no_aspect(text):
    with refused("WIDTH:HEIGHT", "16:9", repr(text)):
        parse_aspect(text)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
@few
def test_sizes_there_and_back(height, width):
    assert parse_size(f"{width}x{height}") == parse_size(f"{width}X{height}") == (height, width)


@pytest.mark.parametrize(
    "text", ["", "x", "1024", "1024x", "x768", "0x5", "5x0", "-5x5", "1.5x2", "1024x768x3", "²x2", "1 x 2"]
)
def test_what_is_no_size(text):
    with refused("WIDTHxHEIGHT", "1024x768", repr(text)):
        parse_size(text)


def test_sizes_of_many_digits():
    assert nearest_budget(*parse_size(f"{'9' * 9}x{'9' * 9}")) == (1.0, "1M")
    for digits in (10, 400, 5000):
        with refused("WIDTHxHEIGHT", "99999"):
            parse_size(f"{'9' * digits}x1")
    with refused("WIDTH:HEIGHT", "99999"):
        parse_aspect(f"1:{'9' * 5000}")


@given(st.integers(1, 20000), st.integers(1, 20000))
@few
def test_the_nearest_budget_of_a_size(height, width):
    template, budget = nearest_budget(height, width)
    assert template == nearest_template(height / width)

    def pixels(budget: str) -> float:
        h, w = template_sizes(template, budget)[-1]
        return h * w * UNIT**2

    apart = {b: max(pixels(b), height * width) / min(pixels(b), height * width) for b in BUDGETS}
    assert apart[budget] <= min(apart.values()) * (1 + 1e-9)


def test_examples_of_sizes():
    assert nearest_budget(768, 1024) == (0.75, "0.60M")
    assert nearest_budget(1024, 1024) == (1.0, "1M")
    assert nearest_budget(1, 1) == (1.0, "0.06M")
    assert nearest_budget(1080, 1920) == (0.571, "1M")
