"""``nextscale scaling fit``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from nextscale.cli.plot import distinct_names
from nextscale.curves.plot import check_out, save
from nextscale.errors import InputError
from nextscale.scaling_laws.laws import fit_laws
from nextscale.scaling_laws.plot import plot_compute, plot_parameters
from nextscale.scaling_laws.points import find_runs, read_points
from nextscale.scaling_laws.power_law import LEVEL, RESAMPLES
from nextscale.scaling_laws.report import describe, write_fits, write_points


@dataclass(frozen=True, kw_only=True)
class Options:
    """Fit L = (beta X)^alpha to finished runs of "train var" of at least 3 sizes, over parameters and over compute.

    Prints the laws, with confidence intervals, and how far each run lies from them; writes OUT, the panels over
    parameters, and beside it those over compute, all points as .csv, and the laws as .json.

    Example: nextscale scaling fit ladder --out scaling.png
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs, or of several, such as that of "scaling run"."""
    out: Path = Path("scaling.png")
    """Image to write: .png, .svg or .pdf."""
    compute_from: float = 0
    """PFLOP below which points are left out of the laws over compute: training begins steeper than any law."""
    resamples: int = RESAMPLES
    """How often points or runs are drawn again, for the intervals."""
    level: float = LEVEL
    """Probability of the intervals."""
    seed: int = 0
    """Of the draws."""


def run(options: Options) -> None:
    if not options.runs:
        raise InputError("expected the folder of at least one run, got none")
    if options.seed < 0:
        raise InputError(f"seed must be at least 0, not {options.seed}")
    check_out(options.out)
    folders = find_runs(options.runs)
    runs = [read_points(folder, name) for folder, name in zip(folders, distinct_names(folders), strict=True)]
    laws, missing = fit_laws(runs, options.resamples, options.level, options.seed, options.compute_from)
    images = {options.out: plot_parameters(runs, laws)}
    if any(law.over == "compute" for law in laws):
        images[beside(options.out, f"-compute{options.out.suffix}")] = plot_compute(runs, laws)
    for path, figure in images.items():
        save(figure, path)
    points, fits = beside(options.out, ".csv"), beside(options.out, ".json")
    write_points(points, runs)
    write_fits(fits, laws, options.resamples, options.level, options.seed)
    print("\n".join([describe(runs, laws, options.level), "", *missing]))
    print("\n".join(str(path) for path in (*images, points, fits)))


def beside(path: Path, ending: str) -> Path:
    """``a-compute.png`` or ``a.csv`` of ``a.png``."""
    return path.with_name(f"{path.stem}{ending}")
