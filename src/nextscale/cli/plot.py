"""``nextscale plot``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from nextscale.curves.compare import comparable, verdict_lines
from nextscale.curves.log import RunLog, read_run
from nextscale.curves.plot import check_out, plot, save
from nextscale.curves.reference import BUNDLED
from nextscale.errors import InputError

SMOOTH = 10


@dataclass(frozen=True, kw_only=True)
class Options:
    """Plot the logs of finished or unfinished training runs, with a panel for each metric.

    Example: nextscale plot runs/var --compare d16 --out curves.png
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of training runs."""
    out: Path = Path("curves.png")
    """File to write: .png, .svg or .pdf."""
    compare: str | None = None
    """Compare with another run: its folder, d16 for the official training, or starter for that of the starter model.
    Plots the metrics that all runs have, and prints a comparison of the losses. If d16 has no value for so few images,
    it also compares with the starter where that is nearer."""
    smooth: int = SMOOTH
    """Number of log lines to average for each point of a training curve, at most 1/20 of the lines so far."""


def run(options: Options) -> None:
    if not options.runs:
        raise InputError("expected the folder of at least one run, got none")
    if options.smooth < 1:
        raise InputError(f"smooth must be 1 or more, not {options.smooth}")
    check_out(options.out)
    runs = [read_run(folder, name) for folder, name in zip(options.runs, distinct_names(options.runs), strict=True)]
    reference = find_reference(options.compare)
    if reference:
        runs, reference = comparable(runs, reference)
    save(plot(runs, reference, options.smooth), options.out)
    if reference:
        print("\n".join(line for run in runs for line in verdict_lines(run, reference, options.smooth)))
    print(options.out)


def curves_beside(folder: Path, compare: str, out: Path) -> Callable[[], str]:
    """Return a function that plots the current state of a run together with ``compare``, and returns the verdict.

    Raises:
        InputError: there is no run ``compare``, or matplotlib cannot be imported.
    """
    reference = find_reference(compare)
    assert reference
    check_out(out)

    def plot_now() -> str:
        try:
            (run,), other = comparable([read_run(folder)], reference)
        except InputError as error:  # too early in the run, which must continue
            return f"nothing to compare with {compare} yet: {error}"
        save(plot([run], other), out)
        return "\n".join(verdict_lines(run, other, SMOOTH))

    return plot_now


def find_reference(name: str | None) -> RunLog | None:
    """Return the run to compare with: a bundled reference such as ``d16``, or the run in a folder."""
    if name is None or name in BUNDLED:
        return BUNDLED[name] if name else None
    if not Path(name).is_dir():
        raise InputError(f"no run {name} to compare with: expected {', '.join(BUNDLED)} or the folder of a run")
    return read_run(Path(name))


def distinct_names(folders: Sequence[Path]) -> list[str]:
    """Return the folders' names, with as many parent folders as are needed to make them distinct."""
    parts = [folder.resolve().parts for folder in folders]
    depth = next((n for n in range(1, max(map(len, parts))) if len({p[-n:] for p in parts}) == len(set(parts))), 1)
    return ["/".join(p[-depth:]) for p in parts]
