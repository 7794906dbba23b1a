"""Set up the training of a transformer: tokenizer, data, model, run folder. See `nextscale.workflows.train`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image

from nextscale.data.cache import TOKENIZER as CACHED_TOKENIZER
from nextscale.data.cache import TokenDataset, is_cache, open_cache
from nextscale.data.dataset import Examples
from nextscale.errors import InputError
from nextscale.families import var
from nextscale.families.sources import INDEX, TOKENIZER, Parts, load_source, load_tokenizer
from nextscale.io.files import write_json
from nextscale.runtime.device import pick_device
from nextscale.runtime.distributed import barrier, is_main, processes
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.class_change import ClassChange
from nextscale.training.finetune import freeze, with_classes
from nextscale.training.loop import train
from nextscale.training.lora import add_lora
from nextscale.training.recipes import TransformerRecipe
from nextscale.training.run import Run, is_begun
from nextscale.training.setup import (
    RunSettings,
    check_codebook,
    check_run,
    count_epochs,
    open_images,
    run_inputs,
    summary,
)
from nextscale.training.transformer_task import TransformerTask

TASK = "train transformer"
Strategy = Literal["ddp", "fsdp"]
TokenizerSource = str | Path | ImageTokenizer
Samples = Callable[[ImageTokenizer, Any, int], Image.Image]
"""``samples(tokenizer, model, num_classes)`` makes a preview image."""


def run_transformer(
    data: str,
    out: Path,
    tokenizer: TokenizerSource,
    recipe: TransformerRecipe,
    settings: RunSettings,
    strategy: Strategy = "ddp",
    samples: Samples | None = None,
    watch: Callable[[], str] | None = None,
    keep_classes: bool = False,
) -> None:
    """Train a transformer in the folder of a run, or resume the run.

    Args:
        data: images, or a cache of tokens.
        tokenizer: a tokenizer, or its name or path; "" uses that of ``settings.init_from`` or of the cache.
        strategy: with several processes, each one holds all weights ("ddp") or a part of them ("fsdp").
        samples: makes the previews.
        watch: see `train`.
        keep_classes: keep classes of ``settings.init_from`` that the data does not have.

    Raises:
        InputError: see `nextscale.workflows.train.train_transformer`.
    """
    intervals, execution = settings.intervals(), replace(settings.execution(), strategy=strategy)
    with processes(pick_device(settings.device)) as device, ExitStack() as opened:
        trained = load_source(settings.init_from) if settings.init_from else None
        ours = check_codebook(choose_tokenizer(data, tokenizer, settings, trained))
        examples, val_examples = open_examples(data, out, ours, recipe, settings)
        recipe = count_epochs(recipe, examples, settings.epochs)
        change = class_change(trained, examples.source.class_names, keep_classes)
        names = change.after if change else examples.source.class_names
        model, recipe, description = make_model(ours, recipe, trained, names, strategy)
        inputs = run_inputs(TASK, data, examples, settings) | {"tokenizer": ours.fingerprint()}
        inputs["keep_classes"] = keep_classes
        if isinstance(examples, TokenDataset):
            inputs["cache"] = examples.source.index
        run = Run(out, recipe, inputs)
        opened.callback(run.close)
        run.say(summary(examples, val_examples))
        if isinstance(examples, TokenDataset):
            run.say(f"training on cached tokens, {examples.views} views of each image")
        run.say(description)
        if change:
            report(change, run)
            examples, val_examples = change.relabelled(examples), val_examples and change.relabelled(val_examples)
        if is_main():
            ours.save_pretrained(out / TOKENIZER)
            write_json(out / INDEX, {"class_names": names})
        ours, model = ours.to(device), model.to(device)
        preview = None if samples is None else (lambda ema: samples(ours, ema, len(names)))
        task = TransformerTask(model, ours, recipe)
        train(task, examples, val_examples, recipe, run, intervals, device, preview, watch, execution)
        barrier()  # until the main process has written the last checkpoint


def choose_tokenizer(
    data: str, tokenizer: TokenizerSource, settings: RunSettings, trained: Parts | None
) -> ImageTokenizer:
    """Return the given tokenizer, that of the model to start from, or that of the token cache.

    Raises:
        InputError: there is no tokenizer, or the tokenizers differ.
    """
    found: dict[str, ImageTokenizer] = {}
    if isinstance(tokenizer, ImageTokenizer):
        found["tokenizer"] = copy.deepcopy(tokenizer)
    elif tokenizer:
        found[f"--tokenizer {tokenizer}"] = load_tokenizer(tokenizer)
    if trained:
        found[f"--init-from {settings.init_from}"] = trained.tokenizer
    if is_cache(data):
        found[f"--data {data}"] = load_tokenizer(Path(data) / CACHED_TOKENIZER)
    if not found:
        raise InputError("no tokenizer: expected --tokenizer, --init-from with a model, or --data with a token cache")
    prints = {name: ours.fingerprint() for name, ours in found.items()}
    if len(set(prints.values())) > 1:
        raise InputError(f"expected one tokenizer, got {' and '.join(f'{p} of {name}' for name, p in prints.items())}")
    return next(iter(found.values()))


def open_examples(
    data: str, out: Path, tokenizer: ImageTokenizer, recipe: TransformerRecipe, settings: RunSettings
) -> tuple[Examples, Examples | None]:
    """Open and check the training and validation data: images, or a cache of tokens.

    Raises:
        InputError: the cache holds tokens of another tokenizer; see also `check_run`.
    """
    if not is_cache(data):
        return open_images(data, out, tokenizer.config.image_size, recipe, settings)
    train, val = open_cache(Path(data), recipe.seed)
    made_with, ours = train.source.index.get("tokenizer"), tokenizer.fingerprint()
    if made_with != ours:
        raise InputError(f"{data} holds tokens of the tokenizer {made_with}, not {ours}")
    held_out = train.source.index.get("val_fraction", 0.0)
    if settings.val_fraction not in (None, held_out):
        raise InputError(
            f"{data} is a token cache that holds out {held_out:g} of its images, not {settings.val_fraction:g}: "
            "--val-fraction is a flag of tokenize"
        )
    check_run(data, out, train, val, recipe, settings)
    return train, val


def class_change(trained: Parts | None, class_names: tuple[str, ...], keep_classes: bool) -> ClassChange | None:
    """Return the change of classes from the model to start from to the trained model; None without such a model.

    Raises:
        InputError: ``keep_classes`` is set, but there is no model to start from, or its classes have no names.
    """
    if trained:
        return ClassChange(tuple(trained.class_names), class_names, keep_classes, trained.model.config.num_classes)
    if keep_classes:
        raise InputError("--keep-classes keeps the classes of a trained model: expected --init-from")
    return None


def report(change: ClassChange, run: Run) -> None:
    """Print kept, added and dropped classes. A new run also writes all their names to its log."""
    for line in change.lines():
        run.say(line)
    if change.lines() and not is_begun(run.folder):
        run.log(0, change.record())


def make_model(
    tokenizer: ImageTokenizer,
    recipe: TransformerRecipe,
    trained: Parts | None,
    class_names: tuple[str, ...],
    strategy: Strategy,
) -> tuple[Any, TransformerRecipe, str]:
    """Return the model to train, the recipe with the model's sizes, and a description of the initial weights.

    Raises:
        InputError: LoRA is used without a trained model or with FSDP, or a pattern of ``freeze`` does not match.
    """
    if trained:
        model, description = with_classes(trained.model, trained.class_names, class_names)
        c = model.config
        recipe = replace(recipe, depth=c.depth, width=c.width, heads=c.heads, shared_adaln=c.shared_adaln)
    else:
        model, description = fresh_model(tokenizer, recipe, len(class_names)), "random initial weights"
    if recipe.lora:
        if not trained:
            raise InputError(f"lora={recipe.lora} needs a trained model: expected --init-from")
        if strategy == "fsdp":
            raise InputError(f"lora={recipe.lora} does not support --strategy fsdp: expected --strategy ddp")
        count = add_lora(model, recipe.lora, torch.Generator().manual_seed(recipe.seed))
        description += f"; LoRA of rank {recipe.lora} on {count} matrices, all else frozen"
        if model is not trained.model:  # the new classes must be learned
            model.class_embedding.requires_grad_(True)
            description += " except the class embedding"
    freeze(model, recipe.freeze)
    return model, recipe, description


def fresh_model(tokenizer: ImageTokenizer, recipe: TransformerRecipe, num_classes: int) -> Any:
    """Return a transformer for the tokens of a tokenizer, with random weights."""
    model = var.FAMILY.transformer(transformer_config(tokenizer, recipe, num_classes))
    return model.init_weights(torch.Generator().manual_seed(recipe.seed), recipe.init_gamma)


def transformer_config(tokenizer: ImageTokenizer, recipe: TransformerRecipe, num_classes: int) -> Any:
    """Return the configuration of a transformer with the sizes of a recipe for the tokens of a tokenizer."""
    return var.FAMILY.transformer_config(
        schedule=tokenizer.schedule,
        depth=recipe.depth,
        width=recipe.width,
        heads=recipe.heads,
        num_classes=num_classes,
        codebook_size=tokenizer.config.codebook_size,
        code_dim=tokenizer.config.code_dim,
        shared_adaln=recipe.shared_adaln,
    )
