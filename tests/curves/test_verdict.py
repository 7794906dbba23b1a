"""Verdicts agree with the reference table, and do not extrapolate."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from tiny import refused
from tiny_logs import transformer_lines, write_run

from nextscale.curves.compare import verdict_line
from nextscale.curves.log import read_run
from nextscale.curves.reference import D16, IMAGES_PER_EPOCH, TABLE
from nextscale.curves.verdict import count, verdict

POINTS = [(epoch * IMAGES_PER_EPOCH, loss) for epoch, loss, *_ in TABLE if epoch]


def expected(images: float) -> float:
    """The official loss that the verdict compares with, by bisection on what it says."""
    low, high = 5.0, 9.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if "above" in verdict(images, middle, 4096) else (middle, high)
    return low


@pytest.mark.parametrize(("images", "loss"), POINTS)
def test_the_table_agrees_with_itself(images, loss):
    assert verdict(images, loss, 4096).endswith("at the same point (0 % apart)")
    assert "(1.1 % above)" in verdict(images, 1.011 * loss, 4096)
    assert "(20.0 % below)" in verdict(images, 0.8 * loss, 4096)


def test_the_untrained_loss_is_that_of_guessing():
    assert TABLE[0][1] == pytest.approx(math.log(4096), abs=1e-3)


def test_between_its_points_the_reference_falls():
    images = np.geomspace(POINTS[0][0], POINTS[-1][0], 12)
    losses = [expected(n) for n in images]
    assert losses == sorted(losses, reverse=True)
    (a, first), (b, second) = POINTS[:2]
    assert expected(math.sqrt(a * b)) == pytest.approx((first + second) / 2, abs=0.01)


def test_beyond_its_points_the_reference_says_nothing():
    early, late = verdict(144_000, 3.77, 4096), verdict(2e9, 6.0, 4096)
    assert early == "after 144 k images: loss 3.77, official d16 has no earlier point than 1.28 M images, 8.03 there"
    assert late == "after 2 G images: loss 6.00, official d16 has no later point than 256 M images, 6.05 there"
    assert "no earlier point" in verdict(0, 8.3, 4096)


def test_other_codebooks_are_compared_by_shares_of_guessing():
    images, loss = POINTS[2]
    share = loss / math.log(4096)
    said = verdict(images, share * math.log(1024), 1024)
    assert f"({share:.3f} of ln 1024)" in said and f"({share:.3f} of ln 4096)" in said and "0 % apart" in said


def test_a_run_is_as_good_as_itself(tmp_path):
    run = read_run(write_run(tmp_path / "run", transformer_lines(200)))
    assert verdict_line(run, run, smooth=10).endswith("(0 % apart)")
    worse = read_run(write_run(tmp_path / "worse", transformer_lines(200, scale=1.5)))
    assert verdict_line(worse, run, smooth=10).endswith("(50.0 % above)")
    assert verdict_line(run, worse, smooth=10).endswith("(33.3 % below)")


def test_a_reference_needs_a_loss_over_images():
    for reference in (replace(D16, series={}), replace(D16, batch_size=None)):
        with refused("official d16"):
            verdict(1e6, 5.0, 4096, reference)


@pytest.mark.parametrize(("images", "said"), [(0, "0"), (640, "640"), (144_000, "144 k"), (1_281_167, "1.28 M")])
def test_counts(images, said):
    assert count(images) == said


def test_one_sentence():
    assert not re.search(r"[.\n]$|\n", verdict(38e6, 6.61, 4096))
