"""Write laws and points as text, CSV and JSON."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nextscale.curves.verdict import count
from nextscale.io.files import atomic_file, write_json
from nextscale.scaling_laws.laws import Law
from nextscale.scaling_laws.points import MEASURES, ScalingRun
from nextscale.scaling_laws.power_law import Pair
from nextscale.scaling_laws.published import PUBLISHED

UNITS = {"parameters": "billions", "compute": "PFLOP"}
SYMBOLS = {"parameters": "N", "compute": "C"}
INTERVALS = {
    "parameters": "studentised bootstrap of residuals",
    "compute": "percentile bootstrap of whole runs",
}
POINT_COLUMNS = ("run", "depth", "width", "heads", "parameters", "step", "images", "pflop", *MEASURES)


def describe(runs: Sequence[ScalingRun], laws: Sequence[Law], level: float) -> str:
    """Return a text: a summary of the runs, a line for each law, and the distance of each run from the laws over N."""
    sizes = sorted(run.parameters for run in runs)
    seen = sorted({run.images[-1] for run in runs})
    images = f"{count(seen[0])} images each" if len(seen) == 1 else f"{count(seen[0])} to {count(seen[-1])} images"
    compute = sorted(run.compute[-1] for run in runs)
    note = ["laws over N assume equal numbers of images, but these runs have different numbers", ""]
    lines = [
        f"{len(runs)} runs, {count(sizes[0])} to {count(sizes[-1])} parameters ({sizes[-1] / sizes[0]:.3g} times), "
        f"{images}, {compute[0]:.3g} to {compute[-1]:.3g} PFLOP",
        "",
        *(note if len(seen) > 1 else ()),
        f"L = (beta X)^alpha, N in billions, C in PFLOP, intervals of {level:.0%}",
        "",
    ]
    rows = [("law of", "over", "alpha", "interval", "beta", "interval", "Pearson", "alpha of the halves", "paper")]
    rows += [law_row(law) for law in laws]
    lines += [*columns(rows), "", "distance from the law over N, in %", ""]
    over_size = [law for law in laws if law.over == "parameters"]
    rows = [("run", "N", "images", *(MEASURES[law.measure].title for law in over_size))]
    for i, run in enumerate(sorted(runs, key=lambda run: run.parameters)):
        distances = (f"{100 * math.expm1(law.residuals[i]):+.2f}" for law in over_size)
        rows.append((run.name, count(run.parameters), count(run.images[-1]), *distances))
    return "\n".join([*lines, *columns(rows)])


def law_row(law: Law) -> tuple[str, ...]:
    """Return the row of a law in the table."""
    published = PUBLISHED.get((law.measure, law.over))
    return (
        MEASURES[law.measure].title,
        f"{SYMBOLS[law.over]} ({len(law.x)} points)",
        f"{law.fit.alpha:.4f}",
        f"{law.fit.alpha_interval[0]:.4f} .. {law.fit.alpha_interval[1]:.4f}",
        power_of_ten(law.fit.log_beta),
        " .. ".join(power_of_ten(end) for end in law.fit.log_beta_interval),
        f"{law.fit.pearson:.4f}",
        "{:.4f}, {:.4f}".format(*law.halves),
        f"{published[0]:.2f}" if published else "",
    )


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align the columns of a table: the first to the left, others to the right."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def power_of_ten(log: float) -> str:
    """Format exp(log), which may exceed the range of a float: ``2.2e-05``, ``3.1e-410``."""
    if math.isinf(log):
        return "0" if log < 0 else "inf"
    if abs(log) < math.log(1e3):
        return f"{math.exp(log):.3g}"
    exponent = math.floor(log / math.log(10))
    digits = f"{10 ** (log / math.log(10) - exponent):.2g}"
    return f"1e{exponent + 1:+03d}" if digits == "10" else f"{digits}e{exponent:+03d}"


def write_points(path: Path, runs: Sequence[ScalingRun]) -> None:
    """Write all validations of all runs as CSV."""
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(POINT_COLUMNS)
        for run in runs:
            c = run.config
            for i in range(len(run.steps)):
                figures = (run.images[i], run.compute[i], *(run.measures[measure][i] for measure in MEASURES))
                size = (run.name, c.depth, c.width, c.heads, run.parameters, int(run.steps[i]))
                table.writerow([*size, *(f"{figure:.8g}" for figure in figures)])


def write_fits(path: Path, laws: Sequence[Law], resamples: int, level: float, seed: int) -> None:
    """Write all laws as JSON, each with its points and their distances from the law."""
    settings = {"form": "L = (beta X)^alpha", "level": level, "resamples": resamples, "seed": seed}
    write_json(path, settings | {"intervals": INTERVALS, "laws": [law_fields(law) for law in laws]})


def law_fields(law: Law) -> dict[str, Any]:
    """Return a law as a JSON object."""
    fit = law.fit
    smaller, larger = law.halves
    rows = zip(law.runs, law.x.tolist(), law.y.tolist(), law.residuals.tolist(), strict=True)
    return {
        "measure": law.measure,
        "unit": "nats" if MEASURES[law.measure].unit == "nats" else "share of tokens",
        "over": law.over,
        "unit of X": UNITS[law.over],
        "alpha": fit.alpha,
        "alpha_interval": fit.alpha_interval,
        "beta": finite(fit.beta),
        "beta_interval": finite_pair(fit.beta_interval),
        "log_beta": fit.log_beta,
        "log_beta_interval": finite_pair(fit.log_beta_interval),
        "pearson": fit.pearson,
        "alpha_of_smaller_half": smaller,
        "alpha_of_larger_half": larger,
        "points": [{"run": name, "x": x, "y": y, "log_residual": rest} for name, x, y, rest in rows],
    }


def finite(value: float) -> float | None:
    """Return a number, or None if it is infinite, because JSON has no infinity."""
    return value if np.isfinite(value) else None


def finite_pair(pair: Pair) -> tuple[float | None, float | None]:
    """Apply `finite` to both numbers."""
    return finite(pair[0]), finite(pair[1])
