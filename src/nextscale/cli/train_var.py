"""``nextscale train var``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import torch
from PIL import Image
from torch import nn

from nextscale.cli.options import TrainingOptions, summary
from nextscale.device import pick_device
from nextscale.distributed import is_main, processes
from nextscale.errors import InputError
from nextscale.files import write_json
from nextscale.pictures import grid, to_pictures
from nextscale.sampling.sampler import sample
from nextscale.sources import INDEX, TOKENIZER, Parts, load_source, load_tokenizer
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.finetune import freeze, with_classes
from nextscale.training.loop import train
from nextscale.training.lora import add_lora
from nextscale.training.recipes import TRANSFORMERS, VARRecipe
from nextscale.training.run import Run
from nextscale.training.var_task import VARTask
from nextscale.transformer.transformer import VAR, VARConfig

PREVIEWED = 20


@dataclass(frozen=True, kw_only=True)
class Options(TrainingOptions):
    """Train a transformer on the tokens of a trained tokenizer.

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


def train_on(device: torch.device, recipe: VARRecipe, options: Options) -> None:
    trained = load_source(options.init_from) if options.init_from else None
    tokenizer = choose_tokenizer(options, trained)
    data, val_data = options.open_data(tokenizer.config.image_size, recipe)
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
    freeze(model, recipe.freeze)
    inputs = options.inputs("train var", data) | {"tokenizer": fingerprint(tokenizer)}
    run = Run(options.out, recipe, inputs)
    run.say(summary(data, val_data))
    run.say(what)
    if is_main():
        tokenizer.save_pretrained(options.out / TOKENIZER)
        write_json(options.out / INDEX, {"class_names": names})
    tokenizer, model = tokenizer.to(device), model.to(device)
    shown = [i * len(names) // PREVIEWED for i in range(PREVIEWED)]

    def preview(ema: nn.Module) -> Image.Image:
        """Pictures of classes from first to last."""
        assert isinstance(ema, VAR)
        return grid(to_pictures(sample(tokenizer, ema, shown, cfg=4.0, top_p=0.95).images), columns=PREVIEWED // 2)

    task, habits = VARTask(model, tokenizer, recipe), options.habits()
    execution = replace(options.execution(), strategy=options.strategy)
    train(task, data, val_data, recipe, run, habits, device, preview, options.watch(), execution)


def choose_tokenizer(options: Options, trained: Parts | None) -> ImageTokenizer:
    """The tokenizer that was named, or that of the model to start from; both only if they are the same.

    Raises:
        InputError: none, or two different ones.
    """
    if not options.tokenizer:
        if not trained:
            raise InputError("expected --tokenizer, or a model for --init-from, which brings its own; got neither")
        return trained.tokenizer
    tokenizer = load_tokenizer(options.tokenizer)
    if trained and fingerprint(tokenizer) != fingerprint(trained.tokenizer):
        raise InputError(f"{options.init_from} was trained on another tokenizer than {options.tokenizer}")
    return tokenizer


def learn_changes(model: VAR, recipe: VARRecipe, options: Options, trained: Parts | None) -> str:
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


def fresh_model(tokenizer: ImageTokenizer, recipe: VARRecipe, num_classes: int) -> VAR:
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


def fingerprint(tokenizer: ImageTokenizer) -> str:
    """A hash that tells tokenizers apart: a transformer fits the one that it was trained on, and no other."""
    digest = hashlib.sha256()
    for tensor in tokenizer.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]
