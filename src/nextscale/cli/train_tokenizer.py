"""``nextscale train tokenizer``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from nextscale.cli.options import TrainingOptions, summary
from nextscale.data.dataset import Examples
from nextscale.families.sources import load_tokenizer
from nextscale.imaging.images import grid, to_pil
from nextscale.imaging.lpips import load_lpips
from nextscale.runtime.device import pick_device
from nextscale.runtime.distributed import processes
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.critics.make import make_critic
from nextscale.training.finetune import freeze
from nextscale.training.loop import train
from nextscale.training.presets.var import TOKENIZERS
from nextscale.training.recipes import TokenizerRecipe
from nextscale.training.run import Run
from nextscale.training.tokenizer_task import TokenizerTask

PREVIEWED = 12


@dataclass(frozen=True, kw_only=True)
class Options(TrainingOptions):
    """Train an image tokenizer on a folder of images.

    Example: nextscale train tokenizer --preset starter --data photos/ --out runs/tokenizer
    """


def run(options: Options) -> None:
    recipe = options.recipe(TOKENIZERS)
    with processes(pick_device(options.device)) as device:
        train_on(device, recipe, options)


def train_on(device: torch.device, recipe: TokenizerRecipe, options: Options) -> None:
    intervals, execution = options.intervals(), options.execution()
    watch = options.watch()
    trained = load_tokenizer(options.init_from) if options.init_from else None
    recipe = replace(recipe, model=trained.config) if trained else recipe
    data, val_data = options.open_data(recipe.model.image_size, recipe)
    recipe = options.count_epochs(recipe, data)
    generator = torch.Generator().manual_seed(recipe.seed)
    model = trained or ImageTokenizer(recipe.model).init_weights(generator)
    freeze(model, recipe.freeze)
    critic = make_critic(recipe.adversarial, generator).to(device) if recipe.adversarial else None
    perceptual = load_lpips(Path(recipe.vgg_weights), Path(recipe.lpips_weights)).to(device) if recipe.lpips else None
    task = TokenizerTask(model.to(device), recipe, critic, perceptual, fresh_codes=trained is None)
    run = Run(options.out, recipe, options.inputs("train tokenizer", data))
    run.say(summary(data, val_data))
    run.say(recipe.losses())
    shown = _first_images(val_data or data).to(device)

    def preview(ema: nn.Module) -> Image.Image:
        """A row of images above what the tokenizer makes of them."""
        assert isinstance(ema, ImageTokenizer)
        images = torch.cat((shown, ema.decode(ema.encode(shown))))
        return grid(to_pil((images + 1) / 2), columns=len(shown))

    train(task, data, val_data, recipe, run, intervals, device, preview, watch, execution)


def _first_images(data: Examples) -> torch.Tensor:
    """Some images, evenly spread over the data."""
    count = min(PREVIEWED, len(data))
    return torch.stack([data[0, i * len(data) // count].image for i in range(count)])
