"""Draw the curves of a training run from its log.

    python benchmarks/curves.py runs/var --out curves.png

A panel for each figure that the run has logged on its validation pictures; where training logs it, too, both are drawn.
Figures with one value for each scale give one line for each scale, coarse (light) to fine (dark).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

SMOOTHING = 10
"""Log lines that a point of a training curve is the mean of."""


def read_log(run: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values) of a figure; values are (n,) or (n, K)."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    rows = [(line["step"], line[name]) for line in lines if name in line]
    return np.array([step for step, _ in rows]), np.array([value for _, value in rows])


def smooth(values: np.ndarray) -> np.ndarray:
    """Means of `SMOOTHING` neighbours."""
    return np.stack([values[max(0, i + 1 - SMOOTHING) : i + 1].mean(axis=0) for i in range(len(values))])


def draw(axis: plt.Axes, run: Path, figure: str) -> None:
    """One panel: the validation curve with points, the training curve as a thin line."""
    steps, values = read_log(run, f"val_{figure}")
    train_steps, train_values = read_log(run, figure)
    scales = values.shape[1] if values.ndim == 2 else 1
    for k in range(scales):
        colour = plt.colormaps["viridis_r"](0.15 + 0.8 * k / (scales - 1)) if scales > 1 else "C0"
        pick = (slice(None), k) if scales > 1 else slice(None)
        axis.plot(steps, values[pick], "o-", markersize=2.5, color=colour, label=str(k) if scales > 1 else "val")
        if len(train_steps):
            label = "train" if scales == 1 else None
            axis.plot(train_steps, smooth(train_values[pick]), color=colour, linewidth=0.7, alpha=0.6, label=label)
    axis.set(title=figure.replace("_", " "), xlabel="step")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the curves of a training run.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("curves.png"))
    options = parser.parse_args()
    lines = [json.loads(line) for line in (options.run / "log.jsonl").read_text().splitlines()]
    names = dict.fromkeys(name for line in lines for name in line)
    figures = [name.removeprefix("val_") for name in names if name.startswith("val_")]
    panels, axes = plt.subplots(1, len(figures), figsize=(3.6 * len(figures), 3), layout="constrained")
    for axis, figure in zip(np.atleast_1d(axes), figures, strict=True):
        draw(axis, options.run, figure)
    panels.savefig(options.out, dpi=100)


if __name__ == "__main__":
    main()
