"""Power laws are recovered from their points, and intervals have the stated coverage."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import refused
from tiny_ladder import noisy

from nextscale.scaling_laws.power_law import fit_power_law
from nextscale.scaling_laws.published import PUBLISHED

DEPTHS = np.arange(6, 31, 2)
BILLIONS = 73_728 * DEPTHS**3 / 1e9
PFLOP = np.geomspace(1e3, 1e7, 40)
X = {"parameters": BILLIONS, "compute": PFLOP}


@pytest.mark.parametrize(("which", "law"), PUBLISHED.items(), ids=str)
def test_the_papers_laws_come_back_within_the_interval(which, law):
    alpha, beta = law
    x = X[which[1]]
    fits = [fit_power_law(x, noisy(x, law, 0.01, seed), resamples=500) for seed in range(20)]
    assert sum(fit.alpha_interval[0] <= alpha <= fit.alpha_interval[1] for fit in fits) >= 16
    assert sum(fit.beta_interval[0] <= beta <= fit.beta_interval[1] for fit in fits) >= 16
    for fit in fits:
        assert fit.alpha == pytest.approx(alpha, abs=0.01) and fit.pearson < -0.99
        assert np.log(fit.beta) == pytest.approx(np.log(beta), abs=0.5)


def test_without_noise_the_law_is_exact():
    fit = fit_power_law(BILLIONS, (2 * BILLIONS) ** -0.23)
    assert (fit.alpha, fit.beta, fit.pearson) == pytest.approx((-0.23, 2.0, -1.0))
    assert fit.alpha_interval == pytest.approx((-0.23, -0.23)) and fit.beta_interval == pytest.approx((2.0, 2.0))
    np.testing.assert_allclose(fit.predict(BILLIONS), (2 * BILLIONS) ** -0.23)
    np.testing.assert_allclose(fit.residuals(BILLIONS, fit.predict(BILLIONS) * 1.01), np.log(1.01))


@pytest.mark.parametrize("count", [5, 7, 12])
def test_the_intervals_cover_as_often_as_they_say(count):
    """Of 400 laws with normal noise, 95 % and 80 %, give or take three standard errors and a little for few points."""
    x, law = np.geomspace(0.05, 3, count), (-0.05, 3.0)
    for level, slack in ((0.95, 0.033), (0.8, 0.06)):
        fits = [fit_power_law(x, noisy(x, law, 0.02, seed), 400, level) for seed in range(400)]
        for inside in (
            np.mean([fit.alpha_interval[0] <= law[0] <= fit.alpha_interval[1] for fit in fits]),
            np.mean([fit.log_beta_interval[0] <= np.log(law[1]) <= fit.log_beta_interval[1] for fit in fits]),
        ):
            assert inside == pytest.approx(level, abs=slack + 0.02)


def test_the_unit_of_x_moves_beta_alone():
    y = noisy(BILLIONS, (-0.2, 2.5), 0.02, seed=0)
    billions, millions = fit_power_law(BILLIONS, y), fit_power_law(1000 * BILLIONS, y)
    assert millions.alpha == pytest.approx(billions.alpha)
    assert millions.beta == pytest.approx(billions.beta / 1000)
    assert millions.alpha_interval == pytest.approx(billions.alpha_interval)
    assert millions.pearson == pytest.approx(billions.pearson)


def test_more_noise_makes_wider_intervals_and_the_seed_repeats_them():
    widths = []
    for noise in (0.001, 0.01, 0.1):
        low, high = fit_power_law(BILLIONS, noisy(BILLIONS, (-0.2, 2.5), noise, seed=1)).alpha_interval
        widths.append(high - low)
    assert widths[0] < widths[1] / 5 < widths[2] / 25
    y = noisy(BILLIONS, (-0.2, 2.5), 0.01, seed=1)
    assert (
        fit_power_law(BILLIONS, y, seed=3) == fit_power_law(BILLIONS, y, seed=3) != fit_power_law(BILLIONS, y, seed=4)
    )


def test_a_beta_beyond_floats_has_a_logarithm():
    fit = fit_power_law(BILLIONS, 5 * BILLIONS**-0.001)
    assert fit.beta == 0 and fit.log_beta == pytest.approx(np.log(5) / -0.001)


def test_where_alpha_may_be_0_beta_may_be_anything():
    fit = fit_power_law(BILLIONS, np.exp(np.random.default_rng(0).normal(0, 0.1, len(BILLIONS))))
    assert fit.alpha_interval[0] < 0 < fit.alpha_interval[1] and fit.beta_interval == (0, np.inf)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ([1, 2], [1, 2], ("at least 3", "got 2")),
        ([1, 1, 1, 1], [1, 2, 3, 4], ("at least 3", "got 1 in 4 points")),
        ([1, 2, 0], [1, 2, 3], ("positive", "x has 0")),
        ([1, 2, 3], [1, 2, -3], ("positive", "y has -3")),
        ([1, 2, 3], [1, 2, np.nan], ("finite", "y has nan")),
        ([1, 2, np.inf], [1, 2, 3], ("finite", "x has inf")),
        ([1, 2, 3], [2, 2, 2], ("all 3 points have the value 2",)),
        ([1, 2, 3], [1, 2], ("(3,) and (2,)",)),
    ],
)
def test_points_without_a_law(x, y, words):
    with refused(*words):
        fit_power_law(np.array(x), np.array(y))


@pytest.mark.parametrize(("resamples", "level", "word"), [(0, 0.95, "resamples"), (9, 1.0, "level"), (9, 0.0, "level")])
def test_bad_settings(resamples, level, word):
    with refused(word):
        fit_power_law(BILLIONS, (2 * BILLIONS) ** -0.23, resamples, level)
