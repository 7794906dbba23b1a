"""The Pareto frontier of many training runs: the lowest loss for each amount of compute (VAR, figure 6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nextscale.errors import InputError
from nextscale.scaling_laws.power_law import (
    LEAST,
    LEVEL,
    RESAMPLES,
    PowerLaw,
    check_points,
    fit_line,
    make_law,
)

Curve = tuple[np.ndarray, np.ndarray]
"""X and L of a run, (n,) each."""


def find_frontier(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the indices of the points with a lower y than every point of smaller or equal x, by ascending x."""
    order = np.lexsort((y, x))
    least = np.fmin.accumulate(np.concatenate([[np.inf], y[order][:-1]]))
    return order[y[order] < least]


def fit_frontier(
    curves: Sequence[Curve], start: float = 0, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> tuple[np.ndarray, PowerLaw]:
    """Fit a law to the frontier of some curves.

    Neighbouring points of the frontier often belong to the same run and are not independent. Whole runs are therefore
    resampled, the frontier of each resample is fitted, and the intervals are percentiles of these fits (cluster
    bootstrap). Each resample has fewer distinct runs. With few runs the interval is rough, and the fit may lie near one
    of its ends.

    Args:
        start: points with a smaller X are skipped. The steep start of the smallest run is on the frontier only because
            no smaller model was trained.
        resamples: number of resamples.
        level: confidence level of the intervals.
        seed: seed of the resamples.

    Returns:
        The indices of the points of the frontier in the concatenated curves, and the law.

    Raises:
        InputError: the frontier has fewer than 3 points, or `check_points` rejects them.
    """
    x, y = (np.concatenate(parts) for parts in zip(*curves, strict=True))
    best = find_frontier(x, y)
    best = best[x[best] >= start]
    if len(best) < LEAST:
        raise InputError(
            f"the frontier of {len(curves)} runs has {len(best)} points{f' from {start:g} on' if start else ''}, "
            f"expected at least {LEAST}: validate more often in training"
        )
    check_points(x[best], y[best], resamples, level)
    rng = np.random.default_rng(seed)
    fits = [fit for _ in range(resamples) if (fit := _resample(curves, start, rng)) is not None]
    if not fits:
        raise InputError(f"no resample of the {len(curves)} runs has a frontier of {LEAST} points: expected more runs")
    ends = np.quantile(fits, [(1 - level) / 2, (1 + level) / 2], axis=0).T.tolist()
    alphas, shifts = ((float(low), float(high)) for low, high in ends)
    return best, make_law(np.log(x[best]), np.log(y[best]), alphas, shifts)


def _resample(curves: Sequence[Curve], start: float, rng: np.random.Generator) -> tuple[float, float] | None:
    """Fit alpha and log beta to a resample of the runs; None if its frontier has too few points for a law."""
    chosen = [curves[i] for i in np.unique(rng.integers(len(curves), size=len(curves)))]
    x, y = (np.concatenate(parts) for parts in zip(*chosen, strict=True))
    best = find_frontier(x, y)
    best = best[x[best] >= start]
    if len(best) < LEAST:
        return None
    line = fit_line(np.log(x[best]), np.log(y[best]))
    return float(line.slope), float(line.shift)
