"""Fit the eight laws of the paper to runs: two losses and two errors, over parameters and over compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nextscale.errors import InputError
from nextscale.scaling_laws.frontier import fit_frontier
from nextscale.scaling_laws.points import MEASURES, ScalingRun, check_alike
from nextscale.scaling_laws.power_law import LEAST, LEVEL, RESAMPLES, PowerLaw, fit_line, fit_power_law

OVER = ("parameters", "compute")


@dataclass(frozen=True)
class Law:
    """A metric over parameters or compute: the points, and the fitted law.

    Args:
        measure: a key of `MEASURES`.
        over: ``parameters``, in billions, or ``compute``, in PFLOP.
        runs: name of the run of each of the n points.
        x, y: (n,), by ascending x.
        fit: the law.
    """

    measure: str
    over: str
    runs: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray
    fit: PowerLaw

    @property
    def residuals(self) -> np.ndarray:
        """The log-residuals of the points, (n,): 0.01 means 1 % above the law."""
        return self.fit.residuals(self.x, self.y)

    @property
    def halves(self) -> tuple[float, float]:
        """alpha of the smaller and of the larger half of the distinct x, with a middle x in both halves. The two values
        differ if the points are not on a straight line in logarithms."""
        sizes = np.unique(self.x)
        parts = (self.x <= sizes[(len(sizes) - 1) // 2], self.x >= sizes[len(sizes) // 2])
        smaller, larger = (float(fit_line(np.log(self.x[part]), np.log(self.y[part])).slope) for part in parts)
        return smaller, larger


def fit_laws(
    runs: Sequence[ScalingRun],
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    compute_from: float = 0,
) -> tuple[list[Law], list[str]]:
    """Fit a law of each of `MEASURES` over parameters (final values of runs) and over compute (frontier of all values).

    Args:
        resamples: number of bootstrap resamples.
        level: confidence level of the intervals.
        seed: seed of the resamples.
        compute_from: points of the frontier below this compute, in PFLOP, are skipped.

    Returns:
        The laws, and a sentence for each law that could not be fitted.

    Raises:
        InputError: there are fewer than 3 sizes, the runs cannot be compared, or no law over parameters (or, with
            ``compute_from``, over compute) can be fitted.
    """
    check_alike(runs)
    sizes = sorted({run.parameters for run in runs})
    if len(sizes) < LEAST:
        raise InputError(f"a scaling law needs at least {LEAST} sizes, got {len(sizes)} in {len(runs)} runs")
    ladder = sorted(runs, key=lambda run: run.parameters)
    laws: list[Law] = []
    failed: dict[tuple[str, str], InputError] = {}
    for over in OVER:
        for measure in MEASURES:
            try:
                if over == "parameters":
                    laws.append(_over_parameters(ladder, measure, resamples, level, seed))
                else:
                    laws.append(_over_compute(ladder, measure, compute_from, resamples, level, seed))
            except InputError as error:
                failed[over, measure] = error
        if not any(law.over == over for law in laws) and (over == "parameters" or compute_from):
            raise failed[over, next(iter(MEASURES))]
    return laws, [
        f"no law of the {MEASURES[measure].title} over {over}: {why}" for (over, measure), why in failed.items()
    ]


def _over_parameters(ladder: Sequence[ScalingRun], measure: str, resamples: int, level: float, seed: int) -> Law:
    x = np.array([run.parameters / 1e9 for run in ladder])
    y = np.array([run.measures[measure][-1] for run in ladder])
    names = tuple(run.name for run in ladder)
    return Law(measure, "parameters", names, x, y, fit_power_law(x, y, resamples, level, seed))


def _over_compute(
    ladder: Sequence[ScalingRun], measure: str, start: float, resamples: int, level: float, seed: int
) -> Law:
    curves = [(run.compute, run.measures[measure]) for run in ladder]
    best, fit = fit_frontier(curves, start, resamples, level, seed)
    x, y = (np.concatenate(parts)[best] for parts in zip(*curves, strict=True))
    names = [run.name for run in ladder for _ in run.compute]
    return Law(measure, "compute", tuple(names[i] for i in best), x, y, fit)
