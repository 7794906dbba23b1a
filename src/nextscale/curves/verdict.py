"""Compare a training loss with a reference at the same number of training images, in one sentence."""

from __future__ import annotations

import math

import numpy as np

from nextscale.curves.log import RunLog
from nextscale.curves.reference import D16
from nextscale.errors import InputError


def verdict(images: float, loss: float, codebook_size: int | None, reference: RunLog = D16) -> str:
    """Return a sentence that compares a training loss with that of a reference.

    The reference is interpolated over the logarithm of the number of images, and never extrapolated. If the codebook
    sizes differ, losses are divided by ln V, the loss of uniform guessing.

    Args:
        images: number of training images so far.
        loss: mean over all tokens of recent training batches.
        codebook_size: V; None compares the losses without this division.
        reference: the run to compare with.

    Raises:
        InputError: the reference has no loss, or its batch size is not known.
    """
    seen, losses = learning_curve(reference)
    differ = bool(codebook_size and reference.codebook_size and codebook_size != reference.codebook_size)
    first, last = (formatted(value, reference.codebook_size if differ else None) for value in (losses[0], losses[-1]))
    start = f"after {count(images)} images: loss {formatted(loss, codebook_size if differ else None)}, {reference.name}"
    if images < seen[0]:
        return f"{start} has no earlier point than {count(seen[0])} images, {first} there"
    if images > seen[-1]:
        return f"{start} has no later point than {count(seen[-1])} images, {last} there"
    other = float(np.interp(math.log(images), np.log(seen), losses))
    ratio = loss / other
    if codebook_size and reference.codebook_size:
        ratio *= math.log(reference.codebook_size) / math.log(codebook_size)
    there = formatted(other, reference.codebook_size if differ else None)
    return f"{start} {there} at the same point ({difference(ratio)})"


def learning_curve(run: RunLog) -> tuple[np.ndarray, np.ndarray]:
    """Return (number of training images, training loss), without the values at step 0."""
    series = run.series.get("loss")
    if series is None or run.batch_size is None:
        raise InputError(f"{run.name} has no training loss over the images seen: expected a log and a recipe.json")
    use = np.isfinite(series.values) & (series.steps > 0)
    if not use.any():
        raise InputError(f"{run.name} has no finite training loss yet: expected at least one")
    return series.steps[use] * run.batch_size, series.values[use]


def formatted(loss: float, codebook_size: int | None) -> str:
    """Return a loss as text: ``6.54``, or with a codebook size ``6.54 (0.786 of ln 4096)``."""
    return f"{loss:.2f}" + (f" ({loss / math.log(codebook_size):.3f} of ln {codebook_size})" if codebook_size else "")


def count(images: float) -> str:
    """Return a number as text: ``640``, ``144 k``, ``38.4 M``."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if images >= unit:
            return f"{images / unit:.3g}{name}"
    return f"{images:.0f}"


def difference(ratio: float) -> str:
    """Return a ratio as text: ``1.1 % above``."""
    percent = round(100 * (ratio - 1), 1)
    return f"{abs(percent)} % {'above' if percent > 0 else 'below'}" if percent else "0 % apart"
