"""Training logs to compare other runs with (`docs/reference-curves.md`): the official VAR-d16, and the starter."""

from __future__ import annotations

import math

import numpy as np

from nextscale.curves.log import RunLog, Series

IMAGES_PER_EPOCH = 1_281_167
BATCH_SIZE = 768
SIDES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)

# The official VAR-d16: ImageNet at 256 x 256 pixels, V = 4096, float16. Each value is a mean over training batches.
# finished epochs, loss of all tokens and of the last scale in nats, accuracy of all tokens and of the last scale in %
TABLE = (
    (0, 8.318, 8.318, np.nan, np.nan),
    (1, 8.031, 8.020, 0.24, 0.12),
    (5, 6.950, 6.660, 2.04, 2.45),
    (10, 6.541, 5.960, 3.28, 4.83),
    (20, 6.376, 5.738, 3.86, 5.82),
    (60, 6.213, 5.537, 4.54, 6.82),
    (120, 6.125, 5.434, 4.87, 7.33),
    (200, 6.046, 5.345, 5.23, 7.88),
)


def official_d16() -> RunLog:
    """Return the table as the log of a run."""
    epochs, loss, last_loss, accuracy, last_accuracy = np.array(TABLE).T
    figures = {
        "loss": loss,
        "last_scale_loss": last_loss,
        "accuracy": accuracy / 100,
        "last_scale_accuracy": last_accuracy / 100,
    }
    steps = epochs * IMAGES_PER_EPOCH / BATCH_SIZE
    return RunLog(
        "official d16",
        {name: Series(steps, values) for name, values in figures.items()},
        batch_size=BATCH_SIZE,
        codebook_size=4096,
        sizes=tuple((side, side) for side in SIDES),
    )


# The starter: 3,068 images of clothes at 64 x 64 pixels, V = 1024, batches of 32. The loss is a mean over the last 200
# steps (over 20 up to step 400). The log itself is not kept. The loss at steps 20, 200 and 4500, that of the last scale
# at step 200, and the validation are numbers from it; all other values are read off its plots, to 0.01 nats
# (docs/starter-var-curves.png, docs/reference-curves-d16.png).
# step, loss of all tokens and of the last scale in nats
STARTER_TABLE = (
    (20, 6.862, 6.87),
    (60, 5.27, 6.44),
    (100, 5.03, 6.30),
    (200, 4.858, 6.185),
    (300, 4.78, 6.10),
    (400, 4.75, 6.04),
    (600, 4.63, 5.89),
    (800, 4.47, 5.68),
    (1100, 4.31, 5.44),
    (1300, 4.24, 5.35),
    (1670, 4.13, 5.18),
    (2150, 4.03, 5.04),
    (2700, 3.96, 4.95),
    (3250, 3.89, 4.85),
    (3700, 3.85, 4.79),
    (4150, 3.80, 4.73),
    (4500, 3.775, 4.69),
)
STARTER_VALIDATION = (
    (500, 4.740, 6.028),
    (1000, 4.414, 5.595),
    (2000, 4.089, 5.131),
    (3000, 3.962, 4.949),
    (4500, 3.869, 4.813),
)
STARTER_SIDES = (1, 2, 3, 4, 6, 8)


def starter() -> RunLog:
    """Return the tables of the starter as the log of a run."""
    steps, loss, last_loss = np.array(STARTER_TABLE).T
    val_steps, val_loss, val_last_loss = np.array(STARTER_VALIDATION).T
    return RunLog(
        "starter",
        {
            "loss": Series(steps, loss),
            "last_scale_loss": Series(steps, last_loss),
            "val_loss": Series(val_steps, val_loss),
            "val_last_scale_loss": Series(val_steps, val_last_loss),
        },
        batch_size=32,
        codebook_size=1024,
        sizes=tuple((side, side) for side in STARTER_SIDES),
    )


D16, STARTER = official_d16(), starter()
BUNDLED = {"d16": D16, "starter": STARTER}
"""The references by their names on the command line."""


def nearest(run: RunLog) -> RunLog:
    """Return the reference whose codebook size and number of tokens are nearest to those of a run, by their ratios."""

    def distance(reference: RunLog) -> float:
        pairs = ((run.codebook_size, reference.codebook_size), (run.tokens, reference.tokens))
        return sum(abs(math.log(ours / theirs)) for ours, theirs in pairs if ours and theirs)

    return min(BUNDLED.values(), key=distance)
