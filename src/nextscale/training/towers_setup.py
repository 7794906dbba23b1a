"""Train two towers, for evaluation of text to image on any data with captions: data, checks, run folder."""

from __future__ import annotations

from pathlib import Path

import torch

from nextscale.conditioning.vocabulary import vocabulary_of
from nextscale.data.held_out import held_out_fraction
from nextscale.data.loader import validation_batches
from nextscale.data.splits import open_splits
from nextscale.errors import InputError
from nextscale.evaluation.two_towers import Retrieval, TowersConfig, TwoTowers, write_card
from nextscale.io.checkpoint_folder import newest_checkpoint
from nextscale.io.module_folder import CONFIG, read_config
from nextscale.runtime.device import pick_device
from nextscale.runtime.stop import resumable
from nextscale.training.network_run import train_network
from nextscale.training.recipes import Precision
from nextscale.training.run import settled_fraction
from nextscale.training.setup import summary
from nextscale.training.towers_task import TowersRecipe, TowersTask, measure
from nextscale.training.vocabulary import captions_of


def train_towers(
    data: str,
    out: Path,
    size: tuple[int, int] = (64, 64),
    steps: int = 2000,
    batch_size: int = 128,
    seed: int = 0,
    dtype: Precision = "auto",
    device: str = "auto",
    val_fraction: float | None = None,
) -> Retrieval | None:
    """Train two towers, or resume their run, and measure how often real validation images find their captions.

    Args:
        data: a data set with captions.
        out: folder of the run, which then holds the towers.
        size: height and width of the images.
        val_fraction: fraction of the images to hold out if there are no validation images; see `ValidationSettings`.

    Returns:
        The accuracy on real pairs, or None if SIGTERM or SIGHUP stopped the run.

    Raises:
        InputError: the data has no captions or no validation images, or ``out`` holds something else; see `train`.
        KeyboardInterrupt: Ctrl-C stopped the run, and a checkpoint is saved.
    """
    fraction = settled_fraction(val_fraction, out)
    images, held_out = open_splits(data, size, seed, flip=False, val_fraction=fraction, captions=True)
    if held_out is None:
        raise InputError(f"{data} has no validation images to measure retrieval on: expected a --val-fraction above 0")
    checkpoint = newest_checkpoint(out)
    before = read_config(TowersConfig, checkpoint / CONFIG) if checkpoint else None
    words = before.words if before else vocabulary_of(captions_of(images), width=128)
    recipe = TowersRecipe(
        model=TowersConfig(words, size), steps=steps, batch_size=batch_size, seed=seed, precision=dtype
    )
    inputs = {"val_fraction": held_out_fraction(images.source), "number_of_images": len(images)}
    average = train_network(
        "evaluate towers",
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
    assert isinstance(average, TwoTowers)
    with resumable("the towers are trained. Repeat the same command to measure their accuracy."):
        real = measure(average, (batch.to(on) for batch in validation_batches(held_out, recipe.batch_size)))
        write_card(out, real)
    return real


def make_task(recipe: TowersRecipe, device: torch.device) -> TowersTask:
    """Return the task of new towers on a device."""
    network = TwoTowers(recipe.model).init_weights(torch.Generator().manual_seed(recipe.seed))
    return TowersTask(network.to(device), recipe)
