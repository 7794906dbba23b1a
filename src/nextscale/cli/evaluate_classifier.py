"""``nextscale evaluate classifier``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nextscale.cli.options import height_and_width
from nextscale.data.held_out import ValidationSettings
from nextscale.evaluation.accuracy import Confusion
from nextscale.training.classifier_setup import train_classifier
from nextscale.training.recipes import Precision

ALL = "accuracy on held-out images"


@dataclass(frozen=True, kw_only=True)
class Options(ValidationSettings):
    """Train a small classifier on real images. Evaluation measures generated images by its features and predictions.

    Repeat the same command to resume an interrupted run.

    Example: nextscale evaluate classifier --data photos/ --size 64 --out classifier
    """

    data: str
    """Images of at least two classes, in any form that "train tokenizer" accepts."""
    out: Path
    """Folder to write the classifier to."""
    size: tuple[int, ...] = (64,)
    """Size in pixels of the images to classify: one number for squares, or height and width."""
    steps: int = 1200
    """Number of training steps."""
    batch_size: int = 64
    """Number of images in a step."""
    seed: int = 0
    """Seed of initial weights, data order, crops and all other random numbers."""
    device: str = "auto"
    """auto, cpu or cuda. auto uses a GPU if there is one."""
    dtype: Precision = "auto"
    """Precision of training. auto: bfloat16 if the device computes it fast, else float32. Accuracy is measured in
    float32."""


def run(options: Options) -> None:
    result = train_classifier(
        options.data,
        options.out,
        height_and_width(options.size),
        options.steps,
        options.batch_size,
        options.seed,
        options.dtype,
        options.device,
        options.val_fraction,
    )
    if result:
        print(table(result.confusion, result.class_names))
        print(options.out)


def table(confusion: Confusion, names: Sequence[str]) -> str:
    """Return a line for each class, and one for all classes."""
    width = max(map(len, (*names, ALL)))
    counts = confusion.counts.sum(1).tolist()
    rows = [*zip(names, confusion.per_class, counts, strict=True), (ALL, confusion.accuracy, confusion.images)]
    return "\n".join(
        f"{name:<{width}}  {'  none' if share is None else f'{share:6.1%}'} of {count}" for name, share, count in rows
    )
