"""Set up the training of a transformer: tokenizer, data, model, run folder. See `nextscale.workflows.train`.

`nextscale.training.class_setup` and `nextscale.training.text_setup` have what depends on the family.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image
from torch.nn import Module

from nextscale.conditioning.feature_cache import TextEncoder
from nextscale.data.cache import TOKENIZER as CACHED_TOKENIZER
from nextscale.data.cache import TokenDataset, is_cache, open_cache
from nextscale.data.dataset import Examples
from nextscale.errors import InputError
from nextscale.families.sources import TOKENIZER, Parts, load_source, load_tokenizer
from nextscale.runtime.device import pick_device
from nextscale.runtime.distributed import barrier, is_main, processes
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.tokenizer.video_tokenizer import VideoTokenizer
from nextscale.training.class_setup import ClassSetup
from nextscale.training.loop import train
from nextscale.training.model_setup import ModelInputs, ModelSetup
from nextscale.training.parallel import Strategy
from nextscale.training.recipes import TransformerRecipe
from nextscale.training.run import Run
from nextscale.training.setup import RunSettings, check_run, count_epochs, open_images, run_inputs, summary

TASK = "train transformer"
TokenizerSource = str | Path | ImageTokenizer | VideoTokenizer
TextSource = str | Path | TextEncoder
Samples = Callable[[ImageTokenizer, Any, Any], Image.Image]
"""``samples(tokenizer, model, conditions)`` makes a preview image of class labels or `TextFeatures`."""


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
    text_encoder: TextSource = "",
) -> None:
    """Train a transformer in the folder of a run, or resume the run. A bitwise tokenizer makes it an Infinity.

    Args:
        data: images, or a cache of tokens.
        tokenizer: a tokenizer, or its name or path; "" uses that of ``settings.init_from`` or of the cache.
        strategy: with several processes, each one holds all weights ("ddp") or a part of them ("fsdp").
        samples: makes the previews.
        watch: see `train`.
        keep_classes: keep classes of ``settings.init_from`` that the data does not have.
        text_encoder: encodes the captions; "" uses that of ``settings.init_from``, or the official one.

    Raises:
        InputError: see `nextscale.workflows.train.train_transformer`.
    """
    intervals, execution = settings.intervals(), replace(settings.execution(), strategy=strategy)
    with processes(pick_device(settings.device)) as device, ExitStack() as opened:
        trained = load_source(settings.init_from) if settings.init_from else None
        ours = at_budget_of(recipe, choose_tokenizer(data, tokenizer, settings, trained), data)
        examples, val_examples = open_examples(data, out, ours, recipe, settings)
        recipe = count_epochs(recipe, examples, settings.epochs)
        given = ModelInputs(ours, recipe, examples, val_examples, trained, strategy, keep_classes)
        if ours.config.quantizer == "bits":
            from nextscale.training.text_setup import TextSetup  # VAR needs none of it

            setup: ModelSetup = TextSetup(given, text_encoder, out)
        else:
            if text_encoder:
                raise InputError("a text encoder is for text-to-image models: expected a bitwise tokenizer")
            setup = ClassSetup(given)
        inputs = run_inputs(TASK, data, examples, settings) | {"tokenizer": ours.fingerprint()} | setup.inputs
        if isinstance(examples, TokenDataset):
            inputs["cache"] = examples.source.index
        run = Run(out, setup.recipe, inputs)
        opened.callback(run.close)
        run.say(summary(examples, val_examples, recipe.batch_size))
        if isinstance(examples, TokenDataset):
            what = ("latents", "video") if is_video(ours) else ("tokens", "image")
            run.say(f"training on cached {what[0]}, {examples.views} views of each {what[1]}")
        elif setup.recipe.flip and ours.config.quantizer == "bits":
            run.say("note: flip mirrors half of the images, but not the left and right of their captions")
        run.say(setup.description)
        setup.report(run)
        if is_main():
            ours.save_pretrained(out / TOKENIZER)
            setup.write_index(out)
        ours, setup.model = ours.to(device), setup.model.to(device)
        preview = None if samples is None else (lambda ema: samples(ours, ema, setup.previewed(ema)))
        data_sets = setup.examples, setup.val_examples
        train(setup.task(ours), *data_sets, setup.recipe, run, intervals, device, preview, watch, execution)
        barrier()  # until the main process has written the last checkpoint


def choose_tokenizer(data: str, tokenizer: TokenizerSource, settings: RunSettings, trained: Parts | None) -> Any:
    """Return the given tokenizer, that of the token cache, or that of the model to start from.

    A text-to-image model may start from one with another bitwise tokenizer.

    Raises:
        InputError: there is no tokenizer, or the tokenizers differ.
    """
    found: dict[str, Any] = {}
    if isinstance(tokenizer, Module):
        found["tokenizer"] = copy.deepcopy(tokenizer)
    elif tokenizer:
        found[f"--tokenizer {tokenizer}"] = load_tokenizer(tokenizer)
    takes_others = trained and trained.tokenizer.config.quantizer == "bits" and (found or is_cache(data))
    if trained and not takes_others:
        found[f"--init-from {settings.init_from}"] = trained.tokenizer
    if is_cache(data):
        found[f"--data {data}"] = load_tokenizer(Path(data) / CACHED_TOKENIZER)
    if not found:
        raise InputError("no tokenizer: expected --tokenizer, --init-from with a model, or --data with a token cache")
    prints = {name: ours.fingerprint() for name, ours in found.items()}
    if len(set(prints.values())) > 1:
        raise InputError(f"expected one tokenizer, got {' and '.join(f'{p} of {name}' for name, p in prints.items())}")
    ours = next(iter(found.values()))
    if trained and trained.tokenizer.config.quantizer != ours.config.quantizer:
        kinds = [each.config.quantizer for each in (trained.tokenizer, ours)]
        raise InputError(f"the tokenizer of --init-from has the quantizer {kinds[0]}, but the given one has {kinds[1]}")
    return ours


def at_budget_of(recipe: TransformerRecipe, tokenizer: Any, data: str) -> Any:
    """Return the tokenizer with the scales of the recipe's pixel budget, if it has one.

    Raises:
        InputError: the data is a token cache of other scales.
    """
    if is_video(tokenizer):
        from nextscale.training.video_data import at_video_budget  # models of images need none of it

        return at_video_budget(recipe, tokenizer, data)
    if recipe.text is None or not recipe.text.budget or tokenizer.config.quantizer == "codebook":
        return tokenizer
    from nextscale.training.aspects import at_budget  # VAR needs none of it

    ours = at_budget(tokenizer, recipe.text.budget)
    if is_cache(data) and ours.schedule != (cached := load_tokenizer(Path(data) / CACHED_TOKENIZER).schedule):
        raise InputError(
            f"{data} is a token cache of the scales {cached}, but text.budget {recipe.text.budget} has {ours.schedule}"
        )
    return ours


def is_video(tokenizer: Any) -> bool:
    """Return whether a tokenizer is one of videos."""
    return isinstance(tokenizer, VideoTokenizer)


def open_examples(
    data: str, out: Path, tokenizer: Any, recipe: TransformerRecipe, settings: RunSettings
) -> tuple[Examples, Examples | None]:
    """Open and check the training and validation data: images, or a cache of tokens.

    Raises:
        InputError: the cache holds tokens of another tokenizer; see also `check_run`.
    """
    aspects = recipe.text is not None and recipe.text.aspects
    if is_video(tokenizer) and tokenizer.schedule.latent_frames > 1 and not is_cache(data):
        from nextscale.training.video_data import open_videos  # models of images need none of it

        return open_videos(data, out, tokenizer, recipe, settings)
    if not is_cache(data):
        if aspects:
            from nextscale.training.aspects import open_aspects  # VAR needs none of it

            return open_aspects(data, out, tokenizer, recipe, settings)
        has_captions = tokenizer.config.quantizer == "bits"
        return open_images(data, out, tokenizer.config.image_size, recipe, settings, has_captions)
    train, val = open_cache(Path(data), recipe.seed)
    if aspects and not train.templates:
        raise InputError(f"{data} is a token cache of images of one size: --aspects is a flag of tokenize, too")
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
