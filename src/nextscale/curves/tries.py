"""Plot how often the best of several images is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nextscale.curves.plot import PANEL_SIZE, empty_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_tries(shares: Sequence[float], ceiling: float | None = None) -> Figure:
    """Plot the share of prompts with everything right in the best of 1, 2, ... images.

    Args:
        shares: one for each number of images.
        ceiling: share of real renders with everything right, plotted as a dashed line.
    """
    figure = empty_figure((1.4 * PANEL_SIZE[0], 1.4 * PANEL_SIZE[1]))
    axis = figure.add_subplot(1, 1, 1)
    tries = range(1, len(shares) + 1)
    axis.plot(tries, [100 * share for share in shares], marker="o", markersize=3, linewidth=1)
    if ceiling is not None:
        axis.axhline(100 * ceiling, linestyle="--", linewidth=1, color="grey", label="real renders, one image")
        axis.legend(fontsize=8, frameon=False)
    axis.set_xlabel("images of each prompt, the best chosen by the reader", fontsize=8)
    axis.set_ylabel("everything right (%)", fontsize=8)
    axis.set_xticks([*tries])
    axis.set_ylim(0, 102)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
    return figure
