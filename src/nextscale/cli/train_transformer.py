"""``nextscale train var``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import nn

from nextscale.cli.options import TrainingOptions, summary
from nextscale.data.cache import TOKENIZER as CACHED_TOKENIZER
from nextscale.data.cache import TokenDataset, is_cache, open_cache
from nextscale.data.dataset import Examples
from nextscale.errors import InputError
from nextscale.families.sources import INDEX, TOKENIZER, Parts, load_source, load_tokenizer
from nextscale.imaging.images import grid, to_pil
from nextscale.io.files import write_json
from nextscale.runtime.device import pick_device
from nextscale.runtime.distributed import is_main, processes
from nextscale.sampling.sampler import sample
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.finetune import freeze, with_classes
from nextscale.training.loop import train
from nextscale.training.lora import add_lora
from nextscale.training.presets.var import TRANSFORMERS
from nextscale.training.recipes import TransformerRecipe
from nextscale.training.run import Run
from nextscale.training.transformer_task import TransformerTask
from nextscale.transformer.var import VAR, VARConfig

PREVIEWED = 20


@dataclass(frozen=True, kw_only=True)
class Options(TrainingOptions):
    """Train a transformer on the tokens of a trained tokenizer.

    The data may be a cache of "tokenize", which brings its tokenizer along.

    Example: nextscale train var --preset starter --tokenizer runs/tokenizer --data photos/ --out runs/var
    """

    tokenizer: str = ""
    """A run of "train tokenizer", or any model ("starter", "d16", ...) for its tokenizer; that of --init-from."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """Of several processes: each holds all weights (ddp), or each a part of them (fsdp)."""


def run(options: Options) -> None:
    recipe = options.recipe(TRANSFORMERS)
    with processes(pick_device(options.device)) as device:
        train_on(device, recipe, options)


def train_on(device: torch.device, recipe: TransformerRecipe, options: Options) -> None:
    intervals, execution = options.intervals(), replace(options.execution(), strategy=options.strategy)
    watch = options.watch()
    trained = load_source(options.init_from) if options.init_from else None
    tokenizer = choose_tokenizer(options, trained)
    data, val_data = open_data(options, tokenizer, recipe)
    recipe = options.count_epochs(recipe, data)
    names = data.source.class_names
    if trained:
        model, what = with_classes(trained.model, trained.class_names, names)
        c = model.config
        recipe = replace(recipe, depth=c.depth, width=c.width, heads=c.heads, shared_adaln=c.shared_adaln)
    else:
        model, what = fresh_model(tokenizer, recipe, len(names)), "fresh weights"
    if recipe.lora:
        what += f"; {learn_changes(model, recipe, options, trained)}"
        if trained and model is not trained.model:  # its new classes have all to learn
            model.class_embedding.requires_grad_(True)
            what += " but the class table"
    freeze(model, recipe.freeze)
    inputs = options.inputs("train var", data) | {"tokenizer": tokenizer.fingerprint()}
    if isinstance(data, TokenDataset):
        inputs["cache"] = data.source.index
    run = Run(options.out, recipe, inputs)
    run.say(summary(data, val_data))
    if isinstance(data, TokenDataset):
        run.say(f"tokens from a cache, views of each image: {data.views}")
    run.say(what)
    if is_main():
        tokenizer.save_pretrained(options.out / TOKENIZER)
        write_json(options.out / INDEX, {"class_names": names})
    tokenizer, model = tokenizer.to(device), model.to(device)
    shown = [i * len(names) // PREVIEWED for i in range(PREVIEWED)]

    def preview(ema: nn.Module) -> Image.Image:
        """Images of classes from first to last."""
        assert isinstance(ema, VAR)
        return grid(to_pil(sample(tokenizer, ema, shown, cfg=4.0, top_p=0.95).images), columns=PREVIEWED // 2)

    task = TransformerTask(model, tokenizer, recipe)
    train(task, data, val_data, recipe, run, intervals, device, preview, watch, execution)


def choose_tokenizer(options: Options, trained: Parts | None) -> ImageTokenizer:
    """The tokenizer that was named, that of the model to start from, or that of the cache of tokens.

    Raises:
        InputError: none, or different ones.
    """
    found: dict[str, ImageTokenizer] = {}
    if options.tokenizer:
        found[f"--tokenizer {options.tokenizer}"] = load_tokenizer(options.tokenizer)
    if trained:
        found[f"--init-from {options.init_from}"] = trained.tokenizer
    if is_cache(options.data):
        found[f"--data {options.data}"] = load_tokenizer(Path(options.data) / CACHED_TOKENIZER)
    if not found:
        raise InputError(
            "expected --tokenizer, or a model for --init-from, or a cache, with its own; got none of these"
        )
    prints = {name: tokenizer.fingerprint() for name, tokenizer in found.items()}
    if len(set(prints.values())) > 1:
        raise InputError(f"expected one tokenizer, got {' and '.join(f'{p} of {name}' for name, p in prints.items())}")
    return next(iter(found.values()))


def open_data(
    options: Options, tokenizer: ImageTokenizer, recipe: TransformerRecipe
) -> tuple[Examples, Examples | None]:
    """Training and validation data: images, or a cache of their tokens.

    Raises:
        InputError: a cache that was made with another tokenizer than it holds.
    """
    if not is_cache(options.data):
        return options.open_data(tokenizer.config.image_size, recipe)
    data, val_data = open_cache(Path(options.data), recipe.seed)
    made_with, ours = data.source.index.get("tokenizer"), tokenizer.fingerprint()
    if made_with != ours:
        raise InputError(f"{options.data} holds tokens of the tokenizer {made_with}, not {ours}")
    options.check_data(data, val_data, recipe)
    return data, val_data


def learn_changes(model: VAR, recipe: TransformerRecipe, options: Options, trained: Parts | None) -> str:
    """Freeze the model but for low-rank changes; says so.

    Raises:
        InputError: there is nothing to change yet, or the weights are to be divided.
    """
    if not trained:
        raise InputError(f"lora={recipe.lora} changes a trained model: expected --init-from")
    if options.strategy == "fsdp":
        raise InputError(f"lora={recipe.lora} has little to divide among processes: expected --strategy ddp")
    count = add_lora(model, recipe.lora, torch.Generator().manual_seed(recipe.seed))
    return f"LoRA of rank {recipe.lora} on {count} matrices, all else frozen"


def fresh_model(tokenizer: ImageTokenizer, recipe: TransformerRecipe, num_classes: int) -> VAR:
    """A transformer for a tokenizer's tokens, with fresh weights."""
    config = VARConfig(
        schedule=tokenizer.schedule,
        depth=recipe.depth,
        width=recipe.width,
        heads=recipe.heads,
        num_classes=num_classes,
        codebook_size=tokenizer.config.codebook_size,
        code_dim=tokenizer.config.code_dim,
        shared_adaln=recipe.shared_adaln,
    )
    return VAR(config).init_weights(torch.Generator().manual_seed(recipe.seed), recipe.init_gamma)
