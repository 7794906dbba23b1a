"""Shared parts of the figures of ``concepts.py``: sizes in inches, colours, images, token maps, arrows.

Figures are 5 inches wide with text of at least 9 points, readable on a phone.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from PIL import Image
from torch import Tensor

WIDTH = 5.0
INK, GREY, LINE = "#263238", "#607d8b", "#b0bec5"
ACCENT, ACCENT_LIGHT, HIGHLIGHT = "#3949ab", "#c5cae9", "#f57c00"
LETTERS = 10
PIXELATED = "image-rendering:crisp-edges;image-rendering:pixelated"
Point = tuple[float, float]

matplotlib.rcParams.update({"svg.hashsalt": "nextscale", "font.family": "DejaVu Sans"})


@dataclass(frozen=True)
class Palette:
    """Maps code vectors to colours: their first three principal directions become red, green and blue."""

    mean: Tensor
    directions: Tensor
    spread: Tensor

    @classmethod
    def of(cls, codes: Tensor) -> Palette:
        """Fit the palette to a codebook, (V, D)."""
        mean = codes.mean(dim=0)
        directions = torch.linalg.svd(codes - mean, full_matrices=False).Vh[:3]
        signs = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True)).sign()
        directions = directions * signs
        return cls(mean, directions, ((codes - mean) @ directions.T).std(dim=0))

    def __call__(self, vectors: Tensor) -> np.ndarray:
        """Return the colours of vectors, (..., D) -> (..., 3) in [0, 1]."""
        along = (vectors - self.mean) @ self.directions.T / self.spread
        colours = 0.6 + 0.3 * (along / 2).tanh()
        return (0.75 * colours + 0.25 * colours.mean(dim=-1, keepdim=True)).numpy()


def sheet(height: float) -> tuple[Figure, Axes]:
    """Return an empty white figure with coordinates in inches from the lower left corner."""
    figure = Figure((WIDTH, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def write(axes: Axes, at: Point, words: str, size: float = LETTERS, colour: str = INK, **style: object) -> None:
    """Write text centred at a point, on a common baseline; ``style`` is passed to matplotlib."""
    x, y = at
    lines = words.count("\n")
    leading = 1.25 * size / 72
    y += lines * leading / 2 - 0.36 * size / 72
    for i, line in enumerate(words.split("\n")):
        axes.text(x, y - i * leading, line, size=size, color=colour, **({"ha": "center", "va": "baseline"} | style))


def put_image(axes: Axes, image: Image.Image, corner: Point, side: float, frame: str = LINE) -> None:
    """Place an image by its lower left corner; the viewer of the SVG scales it smoothly."""
    x, y = corner
    limits = axes.get_xlim(), axes.get_ylim()
    axes.imshow(np.asarray(image), extent=(x, x + side, y, y + side), interpolation="none", zorder=1)
    axes.set(xlim=limits[0], ylim=limits[1], aspect="auto")
    axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=frame, linewidth=0.8, zorder=2))


def put_map(axes: Axes, colours: np.ndarray, corner: Point, side: float, frame: str = INK, line: str = "white") -> None:
    """Place a square map of (h, w, 3) colours, one cell per colour."""
    h, w = colours.shape[:2]
    x, y = corner
    for i in range(h):
        for j in range(w):
            cell = (x + j * side / w, y + (h - 1 - i) * side / h)
            style = {"facecolor": colours[i, j], "edgecolor": line, "linewidth": 0.4}
            axes.add_patch(Rectangle(cell, side / w, side / h, zorder=1, **style))
    axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=frame, linewidth=0.8, zorder=2))


def arrow(axes: Axes, start: Point, end: Point, colour: str = GREY, bend: float = 0.0) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 9, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(start, end, color=colour, connectionstyle=f"arc3,rad={bend}", zorder=3, **style))


def box(axes: Axes, corner: Point, size: Point, colour: str, edge: str = "none", round: float = 0.05) -> None:
    style = f"round,pad=0,rounding_size={round}"
    axes.add_patch(FancyBboxPatch(corner, *size, boxstyle=style, facecolor=colour, edgecolor=edge, linewidth=1))


def name_of(size: Sequence[int]) -> str:
    return f"{size[0]}×{size[1]}"


def save(figure: Figure, path: Path) -> None:
    """Write a reproducible SVG whose images are interpolated smoothly."""
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    path.write_text(written.getvalue().replace(PIXELATED, ""))
