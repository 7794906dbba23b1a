"""``nextscale evaluate classifier``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from nextscale.cli.options import check_outside, height_and_width, summary
from nextscale.data.dataset import ImageDataset
from nextscale.data.loader import check_data, validation_batches
from nextscale.data.names import list_names
from nextscale.data.splits import absolute_name, open_splits
from nextscale.errors import InputError
from nextscale.evaluation.accuracy import Confusion
from nextscale.evaluation.classifier import ClassifierConfig, ResidualClassifier, write_card
from nextscale.io.checkpoint_folder import checkpoint_step, newest_checkpoint
from nextscale.runtime.device import pick_device, precision
from nextscale.training.classifier_task import ClassifierRecipe, ClassifierTask, measure
from nextscale.training.loop import Intervals, train
from nextscale.training.recipes import Precision
from nextscale.training.run import Run, settled

ALL = "accuracy on held-out images"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train a small classifier on real images, whose features and answers judge images that a model drew.

    The same command again goes on where it was stopped.

    Example: nextscale evaluate classifier --data photos/ --size 64 --out classifier
    """

    data: str
    """Images of two classes or more, as "train var" takes them, with validation images to measure accuracy on."""
    out: Path
    """Folder of the classifier."""
    size: tuple[int, ...] = (64,)
    """Side in pixels of the images it will judge; or height and width."""
    steps: int = 1200
    """Steps of training."""
    batch_size: int = 64
    """Images in a step."""
    seed: int = 0
    """Of initial weights, order, crops and all else that is random."""
    device: str = "auto"
    """auto, cpu, or cuda."""
    dtype: Precision = "auto"
    """Precision of matrix products and convolutions in training: auto is bfloat16 on GPUs, and on the CPU if it is
    fast. What is measured is always measured in float32."""


def run(options: Options) -> None:
    device = pick_device(options.device)
    size = height_and_width(options.size)
    data, held_out = open_images(options, size)
    names = data.source.class_names
    recipe = ClassifierRecipe(
        model=ClassifierConfig(len(names), size),
        steps=options.steps,
        batch_size=options.batch_size,
        seed=options.seed,
        precision=options.dtype,
    )
    recipe = settled(recipe, options.out, device)
    precision(recipe.precision, device)  # refuses what the device cannot do
    check_outside(options.out, options.data)
    check_data(data, held_out, recipe.batch_size)
    network = ResidualClassifier(recipe.model).init_weights(torch.Generator().manual_seed(recipe.seed)).to(device)
    inputs = {
        "task": "evaluate classifier",
        "data": absolute_name(options.data),
        "classes": names,
        "number_of_images": len(data),
    }
    run = Run(options.out, recipe, inputs)
    run.say(summary(data, held_out))
    average = train(ClassifierTask(network, recipe), data, held_out, recipe, run, Intervals(), device)
    newest = newest_checkpoint(options.out)
    if newest is None or checkpoint_step(newest) < recipe.steps:  # asked to stop
        return
    assert isinstance(average, ResidualClassifier)
    unseen = validation_batches(held_out, recipe.batch_size)
    confusion = measure(average, (batch.to(device) for batch in unseen))
    write_card(options.out, names, confusion.accuracy)
    print(table(confusion, names))
    print(options.out)


def open_images(options: Options, size: tuple[int, int]) -> tuple[ImageDataset, ImageDataset]:
    """Images to train on, and images to measure accuracy on.

    Raises:
        InputError: none of the latter, or nothing to tell apart.
    """
    data, held_out = open_splits(options.data, size, options.seed, zoom=True)
    names = data.source.class_names
    if len(names) < 2:
        raise InputError(f"{options.data} has one class, {list_names(names)}: a classifier needs at least 2")
    if held_out is None:
        raise InputError(
            f"{options.data} has no validation images to measure accuracy on: expected train and val in it"
        )
    return data, held_out


def table(confusion: Confusion, names: Sequence[str]) -> str:
    """A line for each class, and one for all."""
    width = max(map(len, (*names, ALL)))
    counts = confusion.counts.sum(1).tolist()
    rows = [*zip(names, confusion.per_class, counts, strict=True), (ALL, confusion.accuracy, confusion.images)]
    return "\n".join(
        f"{name:<{width}}  {'  none' if share is None else f'{share:6.1%}'} of {count}" for name, share, count in rows
    )
