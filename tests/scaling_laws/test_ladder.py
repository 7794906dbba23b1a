"""The official ladder has 64 channels per block."""

from __future__ import annotations

import pytest
from tiny import refused

import nextscale as ns
from nextscale.analysis.flops import block_parameters
from nextscale.scaling_laws.ladder import make_ladder


def test_the_official_proportions():
    for rung in make_ladder((30, 16, 20, 24)):
        official = ns.VARConfig.of_depth(rung.depth)
        assert (rung.width, rung.heads) == (official.width, official.heads)
    assert [rung.name for rung in make_ladder((10, 6))] == ["d06", "d10"]


def test_small_ladders_span_as_much():
    ladder = make_ladder((2, 3, 4, 5, 6, 7, 8, 9), width_per_depth=16)
    sizes = [block_parameters(ns.VARConfig(depth=r.depth, width=r.width, heads=r.heads)) for r in ladder]
    assert sizes == sorted(sizes) and sizes[-1] / sizes[0] == pytest.approx((9 / 2) ** 3)
    assert {rung.width // rung.heads for rung in ladder} == {16}


def test_learning_rates_fall_with_the_width():
    small, large = make_ladder((2, 8), 16)
    assert small.learning_rate(1e-3, 128, 0.5) == pytest.approx(2 * large.learning_rate(1e-3, 128, 0.5))
    assert large.learning_rate(1e-3, 128, 0.5) == 1e-3 == small.learning_rate(1e-3, 128, 0)


def test_no_ladder():
    for depths, width, word in (((), 64, "[]"), ((0, 2), 64, "at least 1"), ((2, 2), 64, "differ"), ((2,), 0, "width")):
        with refused(word):
            make_ladder(depths, width)
