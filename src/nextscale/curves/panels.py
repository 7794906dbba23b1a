"""The panels of a plot of training logs: their order, titles and units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nextscale.curves.log import RunLog

VALIDATION = "val_"
TITLES = {
    "loss": "loss",
    "loss_share": "loss / ln V",
    "accuracy": "accuracy",
    "last_scale_loss": "loss of the last scale",
    "last_scale_loss_share": "loss of the last scale / ln V",
    "last_scale_accuracy": "accuracy of the last scale",
    "scale_loss": "loss of each scale",
    "scale_accuracy": "accuracy of each scale",
    "scale_token_accuracy": "tokens of each scale whose bits are all right",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "l1": "mean absolute error",
    "scale_psnr": "PSNR after each scale",
    "reconstruction": "reconstruction loss",
    "vq": "quantizer loss",
    "usage": "codes used by each scale",
    "perplexity": "perplexity of each scale's codes",
    "unused_codes": "codes used by no scale",
    "restarted_codes": "codes restarted",
    "ones": "share of ones among the bits of each scale",
    "bit_entropy": "entropy of a bit of each scale",
    "stuck_bits": "bits that never change",
}
LAST_TITLES = {
    "learning_rate": "learning rate",
    "grad_norm": "gradient norm",
    "images_per_second": "images per second",
    "data_wait": "time spent waiting for data",
}
UNITS = {"psnr": "dB", "accuracy": "%", "usage": "%", "wait": "%", "ones": "%", "bit_entropy": "bits"}
"""The unit, by a metric's name or its last word."""
TOKEN_LOSSES = ("loss", "last_scale_loss", "scale_loss")
EXACT = ("learning_rate",)
"""Metrics without noise. They are not smoothed, and their axis is linear."""
WIDE = 10
"""If the largest value is this many times the smallest, the axis is logarithmic."""


@dataclass(frozen=True)
class Panel:
    """A metric of one or more runs, in training, validation, or both.

    Args:
        figure: name of the metric in the log.
        title: title of the panel, with the unit.
        factor: factor from the logged value to the unit.
        logarithmic: whether the y axis is logarithmic.
        exact: whether the metric has no noise and is not smoothed.
    """

    figure: str
    title: str
    factor: float
    logarithmic: bool
    exact: bool


def make_panels(runs: Sequence[RunLog]) -> list[Panel]:
    """Make a panel for each metric of any run: known metrics first, then others, learning rate and speed last."""
    logged = [name.removeprefix(VALIDATION) for run in runs for name in run.series]
    figures = [name for name in TITLES if name in logged]
    figures += [name for name in dict.fromkeys(logged) if name not in TITLES | LAST_TITLES]
    figures += [name for name in LAST_TITLES if name in logged]
    return [make_panel(figure, runs) for figure in figures]


def make_panel(figure: str, runs: Sequence[RunLog]) -> Panel:
    """Make the panel of a metric."""
    having = [run for run in runs if any(is_of(name, figure) for name in run.series)]
    title = (TITLES | LAST_TITLES).get(figure, figure.replace("_", " "))
    unit = UNITS.get(figure) or UNITS.get(figure.split("_")[-1], "")
    if figure in TOKEN_LOSSES and all(run.predicts_tokens for run in having):
        unit = "nats"
    exact = figure in EXACT
    values = [run.series[name].values.ravel() for run in having for name in run.series if is_of(name, figure)]
    return Panel(
        figure,
        f"{title} ({unit})" if unit else title,
        factor=100 if unit == "%" else 1,
        logarithmic=unit != "%" and not exact and is_wide(np.concatenate(values)),
        exact=exact,
    )


def is_of(name: str, figure: str) -> bool:
    """Return whether a name in the log is the training or validation value of this metric."""
    return name.removeprefix(VALIDATION) == figure


def is_wide(values: np.ndarray) -> bool:
    """Return whether values are positive and have such a wide range that a linear axis would hide the small ones."""
    values = values[np.isfinite(values)]
    return bool(values.size and values.min() > 0 and values.max() > WIDE * values.min())
