"""``nextscale train var``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from nextscale.cli.options import TrainingOptions
from nextscale.data.dataset import open_splits
from nextscale.data.loader import check_data
from nextscale.device import pick_device
from nextscale.errors import InputError
from nextscale.files import write_json
from nextscale.pictures import grid, to_pictures
from nextscale.sampling.sampler import sample
from nextscale.sources import INDEX, TOKENIZER, load_source
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.loop import train
from nextscale.training.recipes import TRANSFORMERS, recipe_named
from nextscale.training.run import Run
from nextscale.training.var_task import VARTask
from nextscale.transformer.transformer import VAR, VARConfig
from nextscale.weights import is_module_folder

PREVIEWED = 20


@dataclass(frozen=True, kw_only=True)
class Options(TrainingOptions):
    """Train a transformer on the tokens of a trained tokenizer.

    Example: nextscale train var --preset starter --tokenizer runs/tokenizer --data photos/ --out runs/var
    """

    tokenizer: str
    """A run of "train tokenizer", a folder with a tokenizer, or any model ("starter", "d16", ...) for its tokenizer."""


def run(options: Options) -> None:
    recipe = options.adjust(recipe_named(TRANSFORMERS, options.preset))
    device, habits = pick_device(options.device), options.habits()
    tokenizer = load_tokenizer(options.tokenizer)
    data, val_data = open_splits(options.data, tokenizer.config.image_size, recipe.seed, recipe.flip)
    check_data(data, val_data, recipe.batch_size)
    run = Run(options.out, recipe, {"data": str(options.data.resolve()), "tokenizer": fingerprint(tokenizer)})
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


def load_tokenizer(source: str) -> ImageTokenizer:
    """A tokenizer from a run or folder of its own, or from a model that holds one."""
    folder = Path(source)
    if folder.is_dir() and not (folder / INDEX).is_file():
        if not is_module_folder(folder):
            raise InputError(f"{folder} holds no tokenizer: expected a run of train tokenizer, or a model")
        return ImageTokenizer.from_pretrained(folder)
    return load_source(source).tokenizer


def fingerprint(tokenizer: ImageTokenizer) -> str:
    """A hash that tells tokenizers apart: a transformer fits the one that it was trained on, and no other."""
    digest = hashlib.sha256()
    for tensor in tokenizer.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]
