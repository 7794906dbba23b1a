"""Training log of the official VAR-d16, for comparison with other runs (`docs/reference-curves.md`).

ImageNet at 256 x 256 pixels, V = 4096, batches of 768 images, float16. Each value is a mean over training batches.
"""

from __future__ import annotations

import numpy as np

from nextscale.curves.log import RunLog, Series

IMAGES_PER_EPOCH = 1_281_167
BATCH_SIZE = 768
SIDES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)

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


D16 = official_d16()
