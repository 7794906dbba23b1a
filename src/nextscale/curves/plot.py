"""Plot training logs with matplotlib, which is imported on first use."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from nextscale.curves.log import FEW, RunLog, Series
from nextscale.curves.panels import TOKEN_LOSSES, VALIDATION, Panel, make_panels
from nextscale.curves.verdict import count
from nextscale.errors import InputError
from nextscale.io.files import atomic_file, check_creatable, check_no_folder
from nextscale.runtime.extras import needed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
PANEL_SIZE = (3.6, 2.5)
"""Width and height in inches, at 100 dots per inch."""
LETTERS_PER_INCH = 14
"""Number of letters per inch of the legend."""
WIDE_IMAGES = 300
"""If the largest value is this many times the smallest, the logarithmic x axis has ticks at powers of ten only."""
HUES = (("Blues", "C0"), ("Oranges", "C1"), ("Greens", "C2"), ("Reds", "C3"), ("Purples", "C4"))
ALONE = ("plasma_r", "C0")
REFERENCE = ("Greys", "black")


@dataclass(frozen=True)
class Pen:
    """The line style of a run. With several scales, coarse scales are light and fine scales are dark."""

    shades: str
    colour: str
    dashes: str = "-"

    def colours(self, count: int) -> list[Any]:
        """Return the colours of ``count`` scales, light to dark."""
        from matplotlib import colormaps

        return [colormaps[self.shades](0.25 + 0.7 * k / max(1, count - 1)) for k in range(count)]


def plot(runs: Sequence[RunLog], reference: RunLog | None = None, smooth: int = 10) -> Figure:
    """Plot runs together, with a panel for each metric.

    Args:
        reference: another run, plotted with dashed lines. The x axis is then the number of images, not the step.
        smooth: number of log lines to average for each point of a training curve. Validation is not smoothed.

    Raises:
        InputError: matplotlib cannot be imported.
    """
    everyone = [*runs, reference] if reference else list(runs)
    panels = make_panels(everyone)
    pens = [Pen(*ALONE)] if len(everyone) == 1 else [Pen(*HUES[i % len(HUES)]) for i in range(len(runs))]
    if reference:
        pens.append(Pen(*REFERENCE, dashes="--"))
    figure = make_figure(panels, over_images=reference is not None)
    for axis, panel in zip(figure.axes, panels, strict=True):
        for run, pen in zip(everyone, pens, strict=True):
            rate = (run.batch_size or 1) if reference else 1
            plot_run(axis, panel, run, pen, rate, smooth, details=len(everyone) == 1)
    label_x(figure.axes[0], over_images=reference is not None)
    figure.suptitle(caption(runs, reference), fontsize=10)
    add_legend(figure, everyone, pens)
    return figure


def make_figure(panels: Sequence[Panel], over_images: bool) -> Figure:
    """Make empty panels with titles, units and axes."""
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = empty_figure((columns * PANEL_SIZE[0], rows * PANEL_SIZE[1] + 1))
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for i, panel in enumerate(panels):
        axis = figure.add_subplot(rows, columns, i + 1, sharex=figure.axes[0] if i else None)
        axis.set_title(text(panel.title), fontsize=10)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
        if i + columns >= len(panels):
            axis.set_xlabel("images seen" if over_images else "step", fontsize=8)
        if over_images:
            axis.set_xscale("log", nonpositive="mask")
        if panel.logarithmic:
            axis.set_yscale("log", nonpositive="mask")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.yaxis.set_minor_formatter(NullFormatter())
    return figure


def empty_figure(inches: tuple[float, float]) -> Figure:
    """Make a figure without panels.

    Raises:
        InputError: matplotlib cannot be imported.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # hides messages about its font cache
    with needed("matplotlib", "plot"):
        from matplotlib.figure import Figure
    return Figure(inches, dpi=100, layout="constrained")


def label_x(axis: Axes, over_images: bool) -> None:
    """Label the x axis, which all panels share, with numbers such as ``10 k``."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if over_images:
        low, high = axis.get_xlim()
        axis.xaxis.set_major_locator(LogLocator(subs=(1,) if high > WIDE_IMAGES * low else (1, 2, 5)))
        axis.xaxis.set_minor_formatter(NullFormatter())
    else:
        axis.locator_params(axis="x", nbins=6, integer=True)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: count(x)))


def plot_run(axis: Axes, panel: Panel, run: RunLog, pen: Pen, rate: float, smooth: int, details: bool) -> None:
    """Plot a run in a panel: training smoothed, validation with markers.

    If both have a line for each scale, training is plotted only with ``details``.
    """
    training, validation = run.series.get(panel.figure), run.series.get(VALIDATION + panel.figure)
    if training and validation and training.values.ndim == 2 and len(validation.steps) > 1 and not details:
        training = None
    if training:
        if training.values.ndim == 1 and not panel.exact:
            plot_lines(axis, training, pen, rate, panel.factor, linewidth=0.6, alpha=0.35)
        smoothed = training if panel.exact else training.smoothed(smooth)
        plot_lines(
            axis, smoothed, pen, rate, panel.factor, linewidth=1, marker="." if len(training.steps) <= FEW else ""
        )
    if validation:
        plot_lines(axis, validation, pen, rate, panel.factor, linewidth=1, marker="o", markersize=2.5)
    if run.chance and panel.figure in TOKEN_LOSSES:
        axis.axhline(run.chance, color=pen.colour, linewidth=0.8, linestyle=":")
    if panel.figure.endswith("loss_share"):
        axis.axhline(1, color="grey", linewidth=0.8, linestyle=":")


def plot_lines(axis: Axes, series: Series, pen: Pen, rate: float, factor: float, **style: Any) -> None:
    """Plot one line, or one for each scale."""
    columns = series.values.reshape(len(series.steps), -1).T * factor
    colours = pen.colours(len(columns)) if series.values.ndim == 2 else [pen.colour]
    for values, colour in zip(columns, colours, strict=True):
        axis.plot(series.steps * rate, values, color=colour, linestyle=pen.dashes, **style)


def add_legend(figure: Figure, runs: Sequence[RunLog], pens: Sequence[Pen]) -> None:
    """Add a legend below the panels: runs, training and validation, scales."""
    from matplotlib.lines import Line2D

    def line(**style: Any) -> Line2D:
        return Line2D([], [], linewidth=1.5, **style)

    entries: list[tuple[Line2D, str]] = []
    if len(runs) > 1:
        entries += [
            (line(color=pen.colour, linestyle=pen.dashes), f" {text(run.name)}")
            for run, pen in zip(runs, pens, strict=True)
        ]
    names = {name for run in runs for name in run.series}
    if any(name.startswith(VALIDATION) for name in names):
        entries += [(line(color="grey"), "training"), (line(color="grey", marker="o", markersize=3), "validation")]
    if any(run.chance for run in runs):
        entries.append((line(color="grey", linestyle=":"), "uniform guessing (ln V)"))
    if len(runs) == 1 and has_scales(runs):
        sizes = runs[0].sizes
        entries += [
            (line(color=colour), f"scale {h}x{w}")
            for colour, (h, w) in zip(pens[0].colours(len(sizes)), sizes, strict=True)
        ]
    if not entries:
        return
    letters = sum(len(label) + 6 for _, label in entries)
    rows = math.ceil(letters / (LETTERS_PER_INCH * figure.get_figwidth()))
    handles, labels = zip(*entries, strict=True)
    columns = math.ceil(len(entries) / rows)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def caption(runs: Sequence[RunLog], reference: RunLog | None) -> str:
    """Return the title above the panels."""
    everyone = [*runs, reference] if reference else list(runs)
    differ = reference is not None and len({run.codebook_size for run in everyone}) > 1
    names = [f"{run.name} (V = {run.codebook_size})" if differ else run.name for run in everyone]
    title = f"{', '.join(names[:-1])} compared with {names[-1]}, over images seen" if reference else ", ".join(names)
    lines = [text(title)]
    if differ:
        lines.append("codebook sizes differ: compare losses divided by ln V (1 is uniform guessing)")
    if has_scales(everyone) and (len(everyone) > 1 or not everyone[0].sizes):
        lines.append("with several scales, coarse is light and fine is dark")
    return "\n".join(lines)


def has_scales(runs: Sequence[RunLog]) -> bool:
    """Return whether a metric has a value for each scale."""
    return any(series.values.ndim == 2 for run in runs for series in run.series.values())


def text(words: str) -> str:
    """Return the text with $ escaped, which starts a formula in matplotlib."""
    return words.replace("$", r"\$")


def save(figure: Figure, path: Path) -> None:
    """Write the plot to a file.

    Raises:
        InputError: the file cannot be written.
    """
    check_out(path)
    kind = path.suffix[1:].lower()
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format=kind)
        if kind == "png":  # 256 colours look the same and need a third of the space
            with Image.open(temporary) as image:
                few = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
            few.save(temporary, format="PNG", optimize=True)


def check_out(path: Path) -> None:
    """Check that a plot can be made and written to a file, before long work.

    Raises:
        InputError: the file cannot be written, or matplotlib cannot be imported.
    """
    check_no_folder(path, "an image file")
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"cannot write a plot to {path}: expected a name that ends with {', '.join(FORMATS)}")
    check_creatable(path)
    empty_figure((1, 1))
