"""Plot the figure of ``docs/infinity.md``: ``python docs/figures/infinity.py [FOLDER]``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from drawing import ACCENT, ACCENT_LIGHT, GREY, WIDTH, arrow, box, put_map, save, sheet, write
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SHARED = "#eceff1"
STEPS = (
    ("class embedding", "text, pooled and\ntoken by token", 0.5),
    ("canvas, shrunk by area", "canvas, shrunk bilinearly", 0.36),
    ("+ learned positions", "rotary positions,\n+ vector of the scale", 0.5),
    ("blocks: AdaLN, attention", "blocks: AdaLN, attention,\ncross-attention to the text", 0.5),
    ("guidance: rises over scales", "guidance: equal at all scales", 0.36),
    ("one of 4,096 indices", "d bits, each 0 or 1", 0.36),
)
"""(VAR, Infinity, height in inches), in the order of the computation."""
COLUMN, GAP, TOP = 2.3, 0.16, 4.92
CODES = np.array([[0, 3], [2, 1]])
COLOURS = np.array([[0.49, 0.34, 0.76], [0.15, 0.65, 0.60], [0.96, 0.49, 0.0], [0.25, 0.32, 0.71]])
BITS = np.array([[[1, 0, 1], [0, 0, 1]], [[1, 1, 0], [0, 1, 1]]])


def draw_scale() -> Figure:
    """One scale of both models: what is equal, and what differs (coloured)."""
    figure, axes = sheet(TOP + 0.35)
    lefts = (0.1, WIDTH - 0.1 - COLUMN)
    for left, name in zip(lefts, ("VAR", "Infinity"), strict=True):
        write(axes, (left + COLUMN / 2, TOP + 0.16), name, 12, weight="bold")
    y = TOP
    for i, (*texts, height) in enumerate(STEPS):
        y -= height
        for left, text in zip(lefts, texts, strict=True):
            box(axes, (left, y), (COLUMN, height), ACCENT_LIGHT)
            write(axes, (left + COLUMN / 2, y + height / 2), text, 10)
            if i:
                arrow(axes, (left + COLUMN / 2, y + height + GAP), (left + COLUMN / 2, y + height), GREY)
        y -= GAP
    put_tokens(axes, lefts, y - 0.62)
    y -= 0.62 + GAP
    height = 0.36
    box(axes, (lefts[0], y - height), (lefts[1] + COLUMN - lefts[0], height), SHARED)
    write(axes, (WIDTH / 2, y - height / 2), "code vectors, enlarged, are added to the canvas; next scale", 10)
    for left in lefts:
        arrow(axes, (left + COLUMN / 2, y + GAP), (left + COLUMN / 2, y), GREY)
    return figure


def put_tokens(axes: Axes, lefts: tuple[float, float], y: float) -> None:
    """A token map of indices, and one of bits with a small map per bit."""
    side = 0.56
    put_map(axes, COLOURS[CODES], (lefts[0] + 0.3, y), side)
    write(axes, (lefts[0] + 1.6, y + side / 2), "codebook:\nindex to vector", 10, GREY)
    small = 0.36
    for k in range(3):
        bits = np.where(BITS[:, :, k, None], np.array([[[0.22, 0.29, 0.67]]]), 1.0)
        put_map(axes, bits, (lefts[1] + 0.08 + 0.43 * k, y + (side - small) / 2), small, line=ACCENT)
    write(axes, (lefts[1] + 1.82, y + side / 2), "signs of the\nchannels", 10, GREY)


def main(folder: Path) -> None:
    path = folder / "infinity-and-var.svg"
    save(draw_scale(), path)
    print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
