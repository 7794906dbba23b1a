"""Plot laws as in the paper (VAR, figures 5 and 6), with matplotlib, which is imported on first use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nextscale.curves.plot import empty_figure, text
from nextscale.curves.verdict import count
from nextscale.scaling_laws.laws import Law
from nextscale.scaling_laws.points import MEASURES, ScalingRun
from nextscale.scaling_laws.report import SYMBOLS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURE_SIZE = (8.8, 7.2)
"""Width and height of four panels in inches, at 100 dots per inch."""
ROOM = 1.25
"""Laws are plotted beyond their points by this factor."""
NAMES_IN_ROW = 6
SHADES = "viridis_r"
LAW = "crimson"


def plot_parameters(runs: Sequence[ScalingRun], laws: Sequence[Law]) -> Figure:
    """Plot each metric over N: the final values of the runs, the law, and the residuals of the points.

    Raises:
        InputError: matplotlib cannot be imported.
    """
    figure = empty_figure(FIGURE_SIZE)
    colours = colours_of(runs)
    grid = figure.add_gridspec(4, 2, height_ratios=(3, 1, 3, 1))
    for i, law in placed(laws, "parameters"):
        factor = MEASURES[law.measure].factor
        row, column = 2 * (i // 2), i % 2
        axis = figure.add_subplot(grid[row, column])
        rest = figure.add_subplot(grid[row + 1, column], sharex=axis)
        x = law.x * 1e9
        shades = [colours[name] for name in law.runs]
        plot_law(axis, law, 1e9, x.min(), x.max())
        axis.scatter(x, law.y * factor, c=shades, s=34, edgecolors="black", linewidths=0.5, zorder=3)
        percent = 100 * np.expm1(law.residuals)
        rest.axhline(0, color=LAW, linewidth=1)
        rest.vlines(x, 0, percent, colors=shades, linewidth=1.5)
        rest.scatter(x, percent, c=shades, s=16, edgecolors="black", linewidths=0.4, zorder=3)
        rest.set_ylim(-(bound := 1.35 * max(abs(percent).max(), 0.01)), bound)
        rest.set_ylabel("% from the law", fontsize=8)
        axis.tick_params(labelbottom=False)
        finish(axis, law)
        finish_x(rest, "N, parameters of the blocks" if row else "", whole_numbers=True)
    add_legend(figure, runs, colours)
    return figure


def plot_compute(runs: Sequence[ScalingRun], laws: Sequence[Law]) -> Figure:
    """Plot each metric over C: all runs during training, their frontier, and the law fitted to the frontier.

    Raises:
        InputError: matplotlib cannot be imported.
    """
    figure = empty_figure(FIGURE_SIZE)
    colours = colours_of(runs)
    for i, law in placed(laws, "compute"):
        factor = MEASURES[law.measure].factor
        axis = figure.add_subplot(2, 2, i + 1)
        for run in runs:
            values = run.measures[law.measure] * factor
            axis.plot(run.compute, values, color=colours[run.name], linewidth=1.2, marker=".", markersize=3.5)
        axis.scatter(law.x, law.y * factor, s=26, facecolors="none", edgecolors="black", linewidths=0.9, zorder=3)
        plot_law(axis, law, 1, law.x.min(), law.x.max())
        finish(axis, law)
        finish_x(axis, "C, PFLOP of training" if i > 1 else "", whole_numbers=False)
    add_legend(figure, runs, colours, frontier=True)
    return figure


def placed(laws: Sequence[Law], over: str) -> list[tuple[int, Law]]:
    """Return each law with the number of its panel, 0 to 3, row by row."""
    return [(list(MEASURES).index(law.measure), law) for law in laws if law.over == over]


def colours_of(runs: Sequence[ScalingRun]) -> dict[str, Any]:
    """Return a colour for each run, from light for small models to dark for large ones, evenly spaced by rank."""
    from matplotlib import colormaps

    sizes = sorted({run.parameters for run in runs})
    rank = {size: i / max(len(sizes) - 1, 1) for i, size in enumerate(sizes)}
    return {run.name: colormaps[SHADES](0.08 + 0.87 * rank[run.parameters]) for run in runs}


def plot_law(axis: Axes, law: Law, unit: float, low: float, high: float) -> None:
    """Plot a law as a dashed line from ``low`` to ``high``, with X multiplied by ``unit``."""
    x = np.geomspace(low / ROOM, high * ROOM, 50)
    axis.plot(x, law.fit.predict(x / unit) * MEASURES[law.measure].factor, color=LAW, linewidth=1.2, linestyle="--")


def finish(axis: Axes, law: Law) -> None:
    """Set a panel's title, its logarithmic y axis, and ticks at round numbers."""
    from matplotlib.ticker import MaxNLocator, NullLocator, StrMethodFormatter

    measure = MEASURES[law.measure]
    axis.set_title(f"{measure.title} ({measure.unit})\n{formula(law)}", fontsize=9.5)
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)


def finish_x(axis: Axes, label: str, whole_numbers: bool) -> None:
    """Set the logarithmic x axis of a panel, its label and its ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1,)))
    low, high = axis.get_xlim()
    if high < 300 * low:
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: count(x) if whole_numbers else number(x)))
    axis.set_xlabel(label, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)


def formula(law: Law) -> str:
    r"""Return a formula for matplotlib, ``L = (2.0 N)^-0.23, Pearson -0.998``, N in billions and C in PFLOP."""
    beta = scientific(law.fit.log_beta / math.log(10))
    unit = SYMBOLS[law.over] + (r" / 10^9" if law.over == "parameters" else "")
    left = "L" if MEASURES[law.measure].unit == "nats" else r"\mathrm{Err}"
    return rf"${left} = ({beta} \cdot {unit})^{{{law.fit.alpha:.3g}}}$   Pearson {law.fit.pearson:.3f}".replace(
        " -", " −"
    )


def scientific(power: float) -> str:
    """Return 10^power with two digits, for a formula of matplotlib."""
    exponent = math.floor(power)
    mantissa = f"{10 ** (power - exponent):.1f}"
    if mantissa == "10.0":
        exponent, mantissa = exponent + 1, "1.0"
    if -3 <= exponent <= 3:
        return f"{float(mantissa) * 10.0**exponent:.{max(1 - exponent, 0)}f}"
    return rf"{mantissa} \cdot 10^{{{exponent}}}"


def number(x: float) -> str:
    """Return the label of a tick: ``0.03``, or a power of ten if that is shorter."""
    return (
        f"{x:g}" if 1e-3 <= x < 1e4 else f"${scientific(math.log10(x))}$".replace(r"1.0 \cdot ", "").replace(".0 ", " ")
    )


def add_legend(figure: Figure, runs: Sequence[ScalingRun], colours: dict[str, Any], frontier: bool = False) -> None:
    """Add a legend below the panels: the colour of each run."""
    from matplotlib.lines import Line2D

    def line(**style: Any) -> Line2D:
        return Line2D([], [], **style)

    ladder = sorted(runs, key=lambda run: run.parameters)
    entries = [
        (line(color=colours[run.name], linewidth=3), f"{text(run.name)}, {count(run.parameters)}") for run in ladder
    ]
    entries.append((line(color=LAW, linestyle="--", linewidth=1.2), "law"))
    if frontier:
        ring = line(color="none", marker="o", markersize=5, markerfacecolor="none", markeredgecolor="black")
        entries.append((ring, "frontier"))
    handles, labels = zip(*entries, strict=True)
    rows = -(-len(entries) // NAMES_IN_ROW)
    figure.legend(
        handles, labels, loc="outside lower center", ncols=-(-len(entries) // rows), fontsize=8, frameon=False
    )
