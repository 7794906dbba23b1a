"""Train an image tokenizer: the Python API that ``nextscale train tokenizer`` calls."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from nextscale.data.dataset import Examples
from nextscale.data.loader import divide
from nextscale.families.sources import load_tokenizer
from nextscale.imaging.images import grid, to_pil
from nextscale.imaging.lpips import load_lpips
from nextscale.runtime.device import pick_device
from nextscale.runtime.distributed import barrier, processes
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.bit_training import check_parts
from nextscale.training.critics.make import make_critic
from nextscale.training.finetune import freeze, with_schedule
from nextscale.training.loop import train
from nextscale.training.perceptual import FeatureDistance, Features, load_network, name_of
from nextscale.training.presets import TOKENIZERS
from nextscale.training.recipes import TokenizerRecipe
from nextscale.training.run import Run
from nextscale.training.setup import RunSettings, count_epochs, open_images, plan, run_inputs, summary
from nextscale.training.tokenizer_task import TokenizerTask

PREVIEWED = 12


def train_tokenizer(
    data: str | Path, out: str | Path, preset: str | Path | TokenizerRecipe = "starter", **changes: Any
) -> ImageTokenizer:
    """Train an image tokenizer, and return it with its EMA weights.

    Repeat the same call to resume an interrupted run. It ends with the same weights as an uninterrupted run. A folder
    with a run of other data or another recipe raises an error.

    Example::

        tokenizer = ns.train_tokenizer("photos", "runs/tokenizer", steps=2000, model={"channels": 64})

    Args:
        data: folder of images with a sub-folder for each class, a .csv table, .tar shards, or "hf:NAME".
        out: folder of the run: recipe, log, previews, checkpoints.
        preset: "starter", "cifar10", "tiny-imagenet", "256", or "scenes" with bits; a .json file with a recipe, or a
            recipe.
        changes: fields of `TokenizerRecipe` (``steps``, ``batch_size``, ``learning_rate``, ``model``, ...) and of
            `RunSettings` (``device``, ``log_every``, ``workers``, ...). A dict changes fields of a part of the recipe.
            ``perceptual_network`` may also be a network itself: any callable from images (B, 3, H, W) in [-1, 1] to a
            sequence of feature maps. The recipe records its name.

    Raises:
        InputError: a name is unknown, a value is out of range, the data is unusable, or ``out`` holds something else.
    """
    network: Features | None = None
    if callable(changes.get("perceptual_network")):
        network = changes["perceptual_network"]
        changes = changes | {"perceptual_network": name_of(changes["perceptual_network"])}
    run_tokenizer(str(data), Path(out), *plan(TOKENIZERS, preset, changes, Path(out)), network=network)
    return ImageTokenizer.from_pretrained(out)


def run_tokenizer(
    data: str,
    out: Path,
    recipe: TokenizerRecipe,
    settings: RunSettings,
    watch: Callable[[], str] | None = None,
    network: Features | None = None,
) -> None:
    """Train a tokenizer in the folder of a run, or resume the run; see `train_tokenizer` and `train`.

    Args:
        network: the network of the perceptual loss; None means the one that the recipe names.
    """
    intervals, execution = settings.intervals(), settings.execution()
    with processes(pick_device(settings.device)) as device, ExitStack() as opened:
        trained = load_tokenizer(settings.init_from) if settings.init_from else None
        if trained:
            trained = with_schedule(trained, recipe.model.schedule)
            recipe = replace(recipe, model=trained.config)
        check_parts(recipe, divide(recipe.batch_size, settings.accumulate)[0].count)
        images, val_images = open_images(data, out, recipe.model.image_size, recipe, settings)
        recipe = count_epochs(recipe, images, settings.epochs)
        task = make_task(recipe, trained, device, network)
        run = Run(out, recipe, run_inputs("train tokenizer", data, images, settings))
        opened.callback(run.close)
        run.say(summary(images, val_images))
        run.say(recipe.losses())
        shown = first_images(val_images or images).to(device)

        def preview(ema: nn.Module) -> Image.Image:
            """Return a row of images above their reconstructions."""
            assert isinstance(ema, ImageTokenizer)
            both = torch.cat((shown, ema.decode(ema.encode(shown))))
            return grid(to_pil((both + 1) / 2), columns=len(shown))

        train(task, images, val_images, recipe, run, intervals, device, preview, watch, execution)
        barrier()  # until the main process has written the last checkpoint


def make_task(
    recipe: TokenizerRecipe, trained: ImageTokenizer | None, device: torch.device, network: Features | None = None
) -> TokenizerTask:
    """Return the task of a recipe: a tokenizer with random weights or a trained one, its critic and perceptual losses.

    Args:
        network: see `run_tokenizer`.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    model = trained or ImageTokenizer(recipe.model).init_weights(generator)
    freeze(model, recipe.freeze)
    critic = make_critic(recipe.adversarial, generator).to(device) if recipe.adversarial else None
    perceptual = load_lpips(Path(recipe.vgg_weights), Path(recipe.lpips_weights)).to(device) if recipe.lpips else None
    features = None
    if recipe.perceptual:
        features = FeatureDistance(network or load_network(recipe.perceptual_network)).to(device)
    return TokenizerTask(model.to(device), recipe, critic, perceptual, fresh_codes=trained is None, features=features)


def first_images(data: Examples) -> torch.Tensor:
    """Return up to `PREVIEWED` images, evenly spaced in the data: (B, 3, H, W) in [-1, 1]."""
    count = min(PREVIEWED, len(data))
    return torch.stack([data[0, i * len(data) // count].image for i in range(count)])
