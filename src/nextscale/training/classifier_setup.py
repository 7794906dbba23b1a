"""Train the classifier that evaluation uses: data, checks, run folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from nextscale.data.dataset import ImageDataset
from nextscale.data.held_out import held_out_fraction
from nextscale.data.loader import validation_batches
from nextscale.data.names import list_names
from nextscale.data.splits import open_image_splits
from nextscale.errors import InputError
from nextscale.evaluation.accuracy import Confusion
from nextscale.evaluation.classifier import ClassifierConfig, ResidualClassifier, write_card
from nextscale.runtime.device import pick_device
from nextscale.runtime.stop import resumable
from nextscale.training.classifier_task import ClassifierRecipe, ClassifierTask, measure
from nextscale.training.network_run import train_network
from nextscale.training.recipes import Precision
from nextscale.training.run import settled_fraction
from nextscale.training.setup import summary


class ClassifierResult(NamedTuple):
    """Accuracy of a trained classifier on validation images."""

    confusion: Confusion
    class_names: tuple[str, ...]


def train_classifier(
    data: str,
    out: Path,
    size: tuple[int, int] = (64, 64),
    steps: int = 1200,
    batch_size: int = 64,
    seed: int = 0,
    dtype: Precision = "auto",
    device: str = "auto",
    val_fraction: float | None = None,
) -> ClassifierResult | None:
    """Train a classifier, or resume its run, and measure its accuracy on the validation images.

    Args:
        data: a data set of at least two classes.
        out: folder of the run, which then holds the classifier.
        size: height and width of the images to classify.
        val_fraction: fraction of the images to hold out if there are no validation images; see `ValidationSettings`.

    Returns:
        The accuracy, or None if SIGTERM or SIGHUP stopped the run.

    Raises:
        InputError: the data has one class only or no validation images, or ``out`` holds something else; see `train`.
        KeyboardInterrupt: Ctrl-C stopped the run, and a checkpoint is saved.
    """
    images, held_out = open_two_splits(data, size, seed, settled_fraction(val_fraction, out))
    names = images.source.class_names
    recipe = ClassifierRecipe(
        model=ClassifierConfig(len(names), size), steps=steps, batch_size=batch_size, seed=seed, precision=dtype
    )
    inputs = {
        "classes": names,
        "val_fraction": held_out_fraction(images.source),
        "number_of_images": len(images),
    }
    average = train_network(
        "evaluate classifier",
        make_task,
        recipe,
        images,
        held_out,
        data=data,
        out=out,
        device=device,
        summary=summary(images, held_out),
        inputs=inputs,
    )
    if average is None:
        return None
    on = pick_device(device)
    assert isinstance(average, ResidualClassifier)
    with resumable("the classifier is trained. Repeat the same command to measure its accuracy."):
        confusion = measure(average, (batch.to(on) for batch in validation_batches(held_out, recipe.batch_size)))
        write_card(out, names, confusion.accuracy)
    return ClassifierResult(confusion, names)


def make_task(recipe: ClassifierRecipe, device: torch.device) -> ClassifierTask:
    """Return the task of a new classifier on a device."""
    network = ResidualClassifier(recipe.model).init_weights(torch.Generator().manual_seed(recipe.seed))
    return ClassifierTask(network.to(device), recipe)


def open_two_splits(
    data: str, size: tuple[int, int], seed: int, val_fraction: float
) -> tuple[ImageDataset, ImageDataset]:
    """Open images to train on and images to measure accuracy on.

    Raises:
        InputError: the data has fewer than two classes, or no validation images.
    """
    images, held_out = open_image_splits(data, size, seed, zoom=True, val_fraction=val_fraction)
    names = images.source.class_names
    if len(names) < 2:
        raise InputError(f"{data} has one class, {list_names(names)}: a classifier needs at least 2")
    if held_out is None:
        reason = "every class has one image only" if val_fraction else "none are held out (--val-fraction 0)"
        raise InputError(
            f"{data} has no validation images to measure accuracy on, and {reason}: expected the splits train and val, "
            "or more images and a --val-fraction above 0"
        )
    return images, held_out
