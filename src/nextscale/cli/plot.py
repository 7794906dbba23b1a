"""``nextscale plot``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from nextscale.curves.compare import comparable, judge
from nextscale.curves.log import RunLog, read_run
from nextscale.curves.plot import check_out, draw, save
from nextscale.curves.reference import D16
from nextscale.errors import InputError

SMOOTH = 10


@dataclass(frozen=True, kw_only=True)
class Options:
    """Draw the curves of training runs, finished or not: a panel for each figure, the runs laid over each other.

    Example: nextscale plot runs/var --compare d16 --out curves.png
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of training runs."""
    out: Path = Path("curves.png")
    """Image to write: .png, .svg or .pdf."""
    compare: str | None = None
    """d16, the official training, or the folder of another run: what they have in common, and a verdict on the loss."""
    smooth: int = SMOOTH
    """Lines of the log that a point of a training curve is the mean of, but no more than one in 20 so far."""


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
    save(draw(runs, reference, options.smooth), options.out)
    if reference:
        print("\n".join(judge(run, reference, options.smooth) for run in runs))
    print(options.out)


def curves_beside(folder: Path, compare: str, out: Path) -> Callable[[], str]:
    """A function that draws a run beside ``compare`` as it is when called, and returns the verdict.

    Raises:
        InputError: nothing of that name to compare with, or no matplotlib.
    """
    reference = find_reference(compare)
    assert reference
    check_out(out)

    def draw_now() -> str:
        try:
            (run,), other = comparable([read_run(folder)], reference)
        except InputError as error:  # too early in the run, which is no reason to end it
            return f"nothing to draw beside {compare} yet: {error}"
        save(draw([run], other), out)
        return judge(run, other, SMOOTH)

    return draw_now


def find_reference(name: str | None) -> RunLog | None:
    """``d16``, or another run."""
    if name is None or name == "d16":
        return D16 if name else None
    if not Path(name).is_dir():
        raise InputError(f"nothing to compare with under the name {name}: expected d16 or the folder of a run")
    return read_run(Path(name))


def distinct_names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names, or as much of their paths as tells them apart."""
    parts = [folder.resolve().parts for folder in folders]
    depth = next((n for n in range(1, max(map(len, parts))) if len({p[-n:] for p in parts}) == len(set(parts))), 1)
    return ["/".join(p[-depth:]) for p in parts]
