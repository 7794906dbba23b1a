"""``nextscale train tokenizer``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import nn

from nextscale.cli.options import TrainingOptions, summary
from nextscale.data.dataset import PictureDataset
from nextscale.device import pick_device
from nextscale.pictures import grid, to_pictures
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.loop import train
from nextscale.training.recipes import TOKENIZERS, recipe_named
from nextscale.training.run import Run
from nextscale.training.tokenizer_task import TokenizerTask

PREVIEWED = 12


@dataclass(frozen=True, kw_only=True)
class Options(TrainingOptions):
    """Train an image tokenizer on a folder of pictures.

    Example: nextscale train tokenizer --preset starter --data photos/ --out runs/tokenizer
    """


def run(options: Options) -> None:
    recipe = options.adjust(recipe_named(TOKENIZERS, options.preset))
    device, habits = pick_device(options.device), options.habits()
    data, val_data = options.open_data(recipe.model.image_size, recipe)
    run = Run(options.out, recipe, options.inputs("train tokenizer", data))
    run.say(summary(data, val_data))
    model = ImageTokenizer(recipe.model).init_weights(torch.Generator().manual_seed(recipe.seed)).to(device)
    shown = _first_pictures(val_data or data).to(device)

    def preview(ema: nn.Module) -> Image.Image:
        """A row of pictures above what the tokenizer makes of them."""
        assert isinstance(ema, ImageTokenizer)
        pictures = torch.cat((shown, ema.decode(ema.encode(shown))))
        return grid(to_pictures((pictures + 1) / 2), columns=len(shown))

    train(TokenizerTask(model, recipe), data, val_data, recipe, run, habits, device, preview)


def _first_pictures(data: PictureDataset) -> torch.Tensor:
    """Some pictures, evenly spread over the data."""
    count = min(PREVIEWED, len(data))
    return torch.stack([data[0, i * len(data) // count].image for i in range(count)])
