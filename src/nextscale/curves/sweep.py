"""Compare the reports of one model with several sampling settings: a table, a CSV file, and a plot."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nextscale.curves.plot import PANEL_SIZE, empty_figure
from nextscale.evaluation.report import LABELS, Report, formatted
from nextscale.io.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SETTINGS = ("cfg", "top_k", "top_p")
TEMPERATURE = "temperature"
"""Reports contain the temperature only if it is not 1. The table then has a column for it."""
PANELS = (("inception_score", "fid"), ("recall", "precision"))
"""The metrics on the two axes of each panel."""


def rows(reports: Sequence[Report]) -> tuple[list[str], list[list[float]]]:
    """Return the names of the columns (settings, then metrics) and a row for each report."""
    measures = [name for name in LABELS if all(name in report.figures() for report in reports)]
    settings = [*SETTINGS, TEMPERATURE] if any(TEMPERATURE in report.settings for report in reports) else [*SETTINGS]
    lines = [
        [report.settings.get(name, 1.0) for name in settings] + [report.figures()[name] for name in measures]
        for report in reports
    ]
    return [*settings, *measures], lines


def table(reports: Sequence[Report]) -> str:
    """Return a table as text. A star marks the best value of each metric."""
    names, lines = rows(reports)
    best = {
        i: (min if LABELS[name][1].startswith("lower") else max)(line[i] for line in lines)
        for i, name in enumerate(names)
        if name in LABELS
    }
    settings = [name for name in names if name not in LABELS]
    cells = [[LABELS[name][0] if name in LABELS else name.replace("_", "-") for name in names]]
    for line in lines:
        figures = (f"{formatted(value)}{'*' if value == best[i] else ' '}" for i, value in enumerate(line) if i in best)
        cells.append([f"{value:g}" for value in line[: len(settings)]] + list(figures))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(f"{c:>{w}}" for c, w in zip(row, widths, strict=True)) for row in cells)


def write_csv(path: Path, reports: Sequence[Report]) -> None:
    """Write a CSV file with a row for each report, with all digits."""
    names, lines = rows(reports)
    with atomic_file(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([names, *lines])


def plot(reports: Sequence[Report]) -> Figure:
    """Plot FID over Inception Score and precision over recall, if they were computed.

    A line connects reports that differ only in cfg, by ascending cfg. The numbers at the points are cfg.
    """
    panels = [pair for pair in PANELS if all(name in report.figures() for name in pair for report in reports)]
    figure = empty_figure((max(1, len(panels)) * 1.4 * PANEL_SIZE[0], 1.4 * PANEL_SIZE[1] + 0.5))
    lines: dict[str, list[Report]] = {}
    for report in sorted(reports, key=lambda report: report.settings["cfg"]):
        lines.setdefault(line_name(report), []).append(report)
    for i, (x, y) in enumerate(panels):
        axis = figure.add_subplot(1, len(panels), i + 1)
        for name, line in lines.items():
            plot_line(axis, line, x, y, name)
        for name, label in ((x, axis.set_xlabel), (y, axis.set_ylabel)):
            label(f"{LABELS[name][0]} ({LABELS[name][1]})", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
    if panels:
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.suptitle(f"{reports[0].images:,} images per setting; the numbers are cfg", fontsize=10)
    return figure


def line_name(report: Report) -> str:
    """Return the label of a line, with all settings except cfg."""
    temperature = f", temperature {report.settings[TEMPERATURE]:g}" if TEMPERATURE in report.settings else ""
    return f"top-k {report.settings['top_k']:g}, top-p {report.settings['top_p']:g}{temperature}"


def plot_line(axis: Axes, reports: Sequence[Report], x: str, y: str, label: str) -> None:
    """Plot a line and its points, labelled with cfg."""
    points = [(report.figures()[x], report.figures()[y]) for report in reports]
    axis.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1, label=label)
    for report, point in zip(reports, points, strict=True):
        axis.annotate(f"{report.settings['cfg']:g}", point, (3, 3), textcoords="offset points", fontsize=7)
