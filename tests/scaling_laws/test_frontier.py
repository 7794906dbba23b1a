"""The frontier contains no dominated points, and its law is that of the best runs."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import refused

from nextscale.scaling_laws.frontier import find_frontier, fit_frontier

ALPHA, BETA = -0.1, 1e-3


def test_no_point_beats_one_of_the_frontier_and_one_beats_each_other():
    rng = np.random.default_rng(0)
    x, y = rng.integers(1, 30, 200).astype(float), rng.integers(1, 30, 200).astype(float)
    best = find_frontier(x, y)
    assert (np.diff(x[best]) > 0).all() and (np.diff(y[best]) < 0).all()
    chosen = set(best.tolist())
    points = {(x[i], y[i]) for i in chosen}
    for i in range(len(x)):
        better = ((x <= x[i]) & (y <= y[i]) & ((x < x[i]) | (y < y[i]))).any()
        assert better == ((x[i], y[i]) not in points)


def touching_runs(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Parabolas in logarithms, each above a law but for one point in its middle."""
    runs = []
    for middle in np.linspace(0, 6, count):
        log_x = middle + np.linspace(-1, 1, 5)
        log_y = ALPHA * (log_x + np.log(BETA)) + 0.5 * (log_x - middle) ** 2
        runs.append((np.exp(log_x), np.exp(log_y)))
    return runs


def test_the_law_of_the_frontier_is_the_one_that_all_runs_touch():
    """Once the beginning of the first run is left out, which no smaller run beats."""
    runs = touching_runs(9)
    best, law = fit_frontier(runs, start=0.99, resamples=300)
    assert len(best) == len(runs)
    assert (law.alpha, law.beta, law.pearson) == pytest.approx((ALPHA, BETA, -1.0))
    assert law.alpha_interval[0] <= ALPHA + 1e-9 and law.alpha_interval[1] >= ALPHA - 1e-9
    assert law.alpha_interval[0] < law.alpha_interval[1]


def test_the_seed_repeats_the_interval():
    runs = touching_runs(5)
    laws = [fit_frontier(runs, resamples=50, seed=seed)[1] for seed in (0, 0, 1)]
    assert laws[0] == laws[1] != laws[2]


def test_runs_worse_throughout_change_nothing():
    runs = touching_runs(6)
    worse = (runs[3][0], 2 * runs[3][1])
    best, law = fit_frontier(runs, resamples=50)
    again, same = fit_frontier([*runs, worse], resamples=50)
    assert best.tolist() == again.tolist()
    assert (law.alpha, law.log_beta, law.pearson) == (same.alpha, same.log_beta, same.pearson)


def test_the_steep_beginning_is_left_out():
    runs = touching_runs(6)
    x = np.concatenate([x for x, _ in runs])
    best, law = fit_frontier(runs, start=5.0, resamples=50)
    all_best, with_beginning = fit_frontier(runs, resamples=50)
    assert best.tolist() == [i for i in all_best.tolist() if x[i] >= 5]
    assert len(best) < len(all_best) and law.alpha != with_beginning.alpha


def test_a_frontier_too_short_for_a_law():
    falling = (np.array([1.0, 2.0]), np.array([2.0, 1.0]))
    with refused("2 points", "validate more often"):
        fit_frontier([falling, falling])
    with refused("from 100 on"):
        fit_frontier(touching_runs(2), start=100)
