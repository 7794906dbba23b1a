"""``nextscale train var``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from PIL import Image
from torch import nn

from nextscale.cli.options import TrainingOptions, summary
from nextscale.device import pick_device
from nextscale.files import write_json
from nextscale.pictures import grid, to_pictures
from nextscale.sampling.sampler import sample
from nextscale.sources import INDEX, TOKENIZER, load_tokenizer
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.loop import train
from nextscale.training.recipes import TRANSFORMERS, recipe_named
from nextscale.training.run import Run
from nextscale.training.var_task import VARTask
from nextscale.transformer.transformer import VAR, VARConfig

PREVIEWED = 20


@dataclass(frozen=True, kw_only=True)
class Options(TrainingOptions):
    """Train a transformer on the tokens of a trained tokenizer.

    Example: nextscale train var --preset starter --tokenizer runs/tokenizer --data photos/ --out runs/var
    """

    tokenizer: str
    """A run of "train tokenizer", or any model ("starter", "d16", ...) for its tokenizer."""


def run(options: Options) -> None:
    recipe = options.adjust(recipe_named(TRANSFORMERS, options.preset))
    device, habits = pick_device(options.device), options.habits()
    tokenizer = load_tokenizer(options.tokenizer)
    data, val_data = options.open_data(tokenizer.config.image_size, recipe)
    inputs = options.inputs("train var", data) | {"tokenizer": fingerprint(tokenizer)}
    run = Run(options.out, recipe, inputs)
    run.say(summary(data, val_data))
    tokenizer.save_pretrained(options.out / TOKENIZER)
    write_json(options.out / INDEX, {"class_names": data.folder.class_names})
    config = VARConfig(
        schedule=tokenizer.schedule,
        depth=recipe.depth,
        width=recipe.width,
        heads=recipe.heads,
        num_classes=len(data.folder.class_names),
        codebook_size=tokenizer.config.codebook_size,
        code_dim=tokenizer.config.code_dim,
        shared_adaln=recipe.shared_adaln,
    )
    model = VAR(config).init_weights(torch.Generator().manual_seed(recipe.seed), recipe.init_gamma).to(device)
    tokenizer = tokenizer.to(device)
    shown = [i * config.num_classes // PREVIEWED for i in range(PREVIEWED)]

    def preview(ema: nn.Module) -> Image.Image:
        """Pictures of classes from first to last."""
        assert isinstance(ema, VAR)
        return grid(to_pictures(sample(tokenizer, ema, shown, cfg=4.0, top_p=0.95).images), columns=PREVIEWED // 2)

    train(VARTask(model, tokenizer, recipe), data, val_data, recipe, run, habits, device, preview)


def fingerprint(tokenizer: ImageTokenizer) -> str:
    """A hash that tells tokenizers apart: a transformer fits the one that it was trained on, and no other."""
    digest = hashlib.sha256()
    for tensor in tokenizer.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]
