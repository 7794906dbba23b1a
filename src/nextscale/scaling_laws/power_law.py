"""The power law L = (beta X)^alpha, a straight line in logarithms: log L = alpha (log X + log beta)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nextscale.errors import InputError

LEAST = 3
"""Minimum number of distinct X for a law."""
RESAMPLES = 2000
LEVEL = 0.95
TINY = 1e-9
"""Minimum standard error of a resample, as a fraction of that of the fit. Smaller errors are replaced by it."""

Pair = tuple[float, float]


@dataclass(frozen=True)
class PowerLaw:
    """A fitted law, with confidence intervals.

    Args:
        log_beta: natural logarithm of beta. For a small alpha, beta may exceed the range of a float. If the interval of
            alpha contains 0, every beta is possible, and its interval is infinite.
        pearson: correlation coefficient of log X and log L, in [-1, 1].
    """

    alpha: float
    log_beta: float
    pearson: float
    alpha_interval: Pair
    log_beta_interval: Pair

    @property
    def beta(self) -> float:
        """The value of beta. It may be 0 or infinite; see `log_beta`."""
        return _exp(self.log_beta)

    @property
    def beta_interval(self) -> Pair:
        """The confidence interval of beta."""
        low, high = self.log_beta_interval
        return _exp(low), _exp(high)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return L at X, both (n,)."""
        return np.exp(self.alpha * (np.log(x) + self.log_beta))

    def residuals(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return log L minus its prediction, (n,). A point 1 % above the law has 0.01."""
        return np.log(y) - np.log(self.predict(x))


@dataclass(frozen=True)
class Line:
    """A least-squares line y = slope (x - mean_x) + mean_y through one or more sets of points."""

    slope: np.ndarray
    mean_x: float
    mean_y: np.ndarray
    spread: float
    """Sum of (x - mean_x)^2."""
    variance: np.ndarray
    """Variance of the points around the line, with n - 2 degrees of freedom."""
    count: int

    @property
    def slope_error(self) -> np.ndarray:
        """Standard error of the slope."""
        return np.sqrt(self.variance / self.spread)

    @property
    def shift(self) -> np.ndarray:
        """log beta, from y = slope (x + shift)."""
        return self.mean_y / self.slope - self.mean_x

    @property
    def shift_error(self) -> np.ndarray:
        """Standard error of the shift, by the delta method: mean_y and slope are uncorrelated."""
        of_mean, of_slope = 1 / self.count, (self.mean_y / self.slope) ** 2 / self.spread
        return np.sqrt(self.variance * (of_mean + of_slope)) / abs(self.slope)


def fit_power_law(
    x: np.ndarray, y: np.ndarray, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> PowerLaw:
    """Fit a law to points, by least squares in logarithms.

    The intervals are bootstrapped. Residuals are resampled, because the X of a ladder are chosen, not random. Each
    residual is divided by sqrt(1 - leverage), because least squares underestimates the residuals of outer points
    (Davison and Hinkley, Bootstrap Methods and their Application, 1997, algorithm 6.1). The quantiles are those of
    studentised estimates (ibid., section 5.2.1), which gives suitably wide intervals for few points. The intervals
    cover random errors only. If the points do not follow a power law, the intervals do not apply to larger models.

    Args:
        x, y: (n,), with at least 3 distinct x.
        resamples: number of resamples.
        level: confidence level of the intervals.
        seed: seed of the resamples.

    Raises:
        InputError: all y are equal; see also `check_points`.
    """
    x, y = check_points(x, y, resamples, level)
    if np.ptp(y) == 0:
        raise InputError(f"all {len(y)} points have the value {y[0]:g}: expected values that change")
    log_x, log_y = np.log(x), np.log(y)
    line = fit_line(log_x, log_y)
    fitted = line.mean_y + line.slope * (log_x - line.mean_x)
    leverage = 1 / line.count + (log_x - line.mean_x) ** 2 / line.spread
    residuals = (log_y - fitted) / np.sqrt(1 - leverage)
    resampled = np.random.default_rng(seed).choice(residuals - residuals.mean(), (resamples, len(x)))
    again = fit_line(log_x, fitted + resampled)
    alphas = studentised(line.slope, line.slope_error, again.slope, again.slope_error, level)
    shifts = studentised(line.shift, line.shift_error, again.shift, again.shift_error, level)
    return make_law(log_x, log_y, alphas, shifts)


def make_law(log_x: np.ndarray, log_y: np.ndarray, alpha_interval: Pair, log_beta_interval: Pair) -> PowerLaw:
    """Fit a law to points (n,), and return it with the given intervals."""
    line = fit_line(log_x, log_y)
    if alpha_interval[0] <= 0 <= alpha_interval[1]:
        log_beta_interval = (-math.inf, math.inf)
    return PowerLaw(float(line.slope), float(line.shift), pearson(log_x, log_y), alpha_interval, log_beta_interval)


def fit_line(x: np.ndarray, y: np.ndarray) -> Line:
    """Fit a line to x (n,) and y (..., n)."""
    mean_x, mean_y, count = x.mean(), y.mean(axis=-1), len(x)
    spread = ((x - mean_x) ** 2).sum()
    slope = y @ (x - mean_x) / spread
    rest = y - mean_y[..., None] - slope[..., None] * (x - mean_x)
    return Line(slope, mean_x, mean_y, spread, (rest**2).sum(axis=-1) / max(count - 2, 1), count)


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Return the correlation coefficient, in [-1, 1]."""
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1, 1))


def studentised(value: np.ndarray, error: np.ndarray, values: np.ndarray, errors: np.ndarray, level: float) -> Pair:
    """Return the interval of a studentised bootstrap, from quantiles of (resampled value - value) / standard error."""
    distances = (values - value) / np.maximum(errors, TINY * error + np.finfo(float).tiny)
    low, high = np.quantile(distances, [(1 + level) / 2, (1 - level) / 2])
    return float(value - low * error), float(value - high * error)


def check_points(
    x: np.ndarray, y: np.ndarray, resamples: int = RESAMPLES, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Check points, and return them as float64.

    Raises:
        InputError: there are fewer than 3 distinct x, a value is not positive and finite, or ``resamples`` or ``level``
            is out of range.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.ndim != 1 or x.shape != y.shape:
        raise InputError(f"expected as many x as y, got shapes {x.shape} and {y.shape}")
    for name, values in (("x", x), ("y", y)):
        if not (np.isfinite(values) & (values > 0)).all():
            wrong = values[~(np.isfinite(values) & (values > 0))][0]
            raise InputError(f"a power law needs positive, finite numbers: {name} has {wrong:g}")
    if len(np.unique(x)) < LEAST:
        raise InputError(f"a power law needs at least {LEAST} distinct x, got {len(np.unique(x))} in {len(x)} points")
    if resamples < 1:
        raise InputError(f"resamples must be at least 1, not {resamples}")
    if not 0 < level < 1:
        raise InputError(f"level must be above 0 and below 1, not {level}")
    return x, y


def _exp(value: float) -> float:
    with np.errstate(over="ignore", under="ignore"):
        return float(np.exp(value))
