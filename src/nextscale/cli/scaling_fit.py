"""``nextscale scaling fit``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from nextscale.cli.plot import distinct_names
from nextscale.curves.plot import check_out, save
from nextscale.errors import InputError
from nextscale.io.files import beside, check_writable_file
from nextscale.scaling_laws.laws import fit_laws
from nextscale.scaling_laws.plot import plot_compute, plot_parameters
from nextscale.scaling_laws.points import find_runs, read_points
from nextscale.scaling_laws.power_law import LEVEL, RESAMPLES
from nextscale.scaling_laws.report import describe, write_fits, write_points


@dataclass(frozen=True, kw_only=True)
class Options:
    """Fit scaling laws L = (beta X)^alpha to finished transformer runs of at least 3 sizes.

    X is the number of parameters or the training compute. Prints the laws with confidence intervals, and the distance
    of each run from them. Writes a plot over parameters to OUT. Files with similar names in the same folder contain a
    plot over compute, all points (.csv), and the laws (.json).

    Example: nextscale scaling fit ladder --out scaling.png
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs, or folders that contain runs, such as the output folder of "scaling run"."""
    out: Path = Path("scaling.png")
    """File to write: .png, .svg or .pdf."""
    compute_from: float = 0
    """Exclude points below this compute (PFLOP) from the laws over compute, because losses fall faster at the start of
    training."""
    resamples: int = RESAMPLES
    """Number of bootstrap resamples for the intervals."""
    level: float = LEVEL
    """Confidence level of the intervals."""
    seed: int = 0
    """Seed of the resamples."""


def run(options: Options) -> None:
    if not options.runs:
        raise InputError("expected the folder of at least one run, got none")
    if options.seed < 0:
        raise InputError(f"seed must be at least 0, not {options.seed}")
    check_out(options.out)
    compute = beside(options.out, "compute")
    points, fits = (beside(options.out, "", suffix) for suffix in (".csv", ".json"))
    for path in (compute, points, fits):
        check_writable_file(path)
    folders = find_runs(options.runs)
    runs = [read_points(folder, name) for folder, name in zip(folders, distinct_names(folders), strict=True)]
    laws, missing = fit_laws(runs, options.resamples, options.level, options.seed, options.compute_from)
    images = {options.out: plot_parameters(runs, laws)}
    if any(law.over == "compute" for law in laws):
        images[compute] = plot_compute(runs, laws)
    for path, figure in images.items():
        save(figure, path)
    write_points(points, runs)
    write_fits(fits, laws, options.resamples, options.level, options.seed)
    print("\n".join([describe(runs, laws, options.level), "", *missing]))
    print("\n".join(str(path) for path in (*images, points, fits)))
