"""``nextscale scaling run``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nextscale.analysis.flops import block_parameters, training_flops
from nextscale.curves.verdict import count
from nextscale.data.cache import is_cache
from nextscale.data.splits import absolute_name
from nextscale.errors import InputError
from nextscale.io.checkpoint_folder import has_reached, newest_checkpoint
from nextscale.io.config import as_record
from nextscale.io.files import check_folder, read_json
from nextscale.io.lock import locked
from nextscale.runtime.device import pick_device
from nextscale.runtime.process_pool import Job, run_all
from nextscale.runtime.stop import resumable
from nextscale.scaling_laws.ladder import Rung, make_ladder
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.changes import find_recipe, override
from nextscale.training.class_setup import transformer_config
from nextscale.training.presets import TRANSFORMERS
from nextscale.training.recipes import Precision, TransformerRecipe
from nextscale.training.run import RECIPE, begun_precision, check_same
from nextscale.training.setup import RunSettings, plan
from nextscale.training.transformer_setup import choose_tokenizer, open_examples

OURS = ("depth", "width", "heads", "learning_rate", "steps", "batch_size", "seed", "precision")
"""Fields of the recipe that have flags here."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train transformers of several sizes on one token cache, with the same batches in the same order.

    "scaling fit" then fits scaling laws to the runs. Each size is a "train transformer" run in a separate folder
    (OUT/d03, ...). The largest size is trained first. Repeat the same command to resume.

    Example: nextscale scaling run --data cache --depths 2 3 4 5 6 7 8 9 --width-per-depth 16 --out ladder
    """

    data: Path
    """Token cache of "tokenize", with validation images."""
    out: Path
    """Folder of the runs."""
    depths: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8)
    """Depths of the models. The depth is the number of blocks and also the number of heads."""
    width_per_depth: int = 32
    """Width divided by depth, which is also the head dimension. The official models have 64."""
    preset: str = "cifar10"
    """Named recipe of "train transformer", or a .json file with a recipe. It sets all values without a flag here."""
    set: tuple[str, ...] = ()
    """Change values of the recipe for all sizes, as NAME=VALUE."""
    steps: int | None = None
    """Number of training steps of each size. Default: from the preset."""
    batch_size: int | None = None
    """Number of images in a step. Default: from the preset."""
    learning_rate: float | None = None
    """Peak learning rate at the width of the preset. Default: from the preset, scaled in proportion to the batch size.
    """
    rate_power: float = 0.5
    """Multiply the peak learning rate of each size by (width of the preset / width)^rate_power. 0 uses the same rate
    for all sizes."""
    seed: int = 0
    """Seed of initial weights, data order and all other random numbers."""
    dtype: Precision | None = None
    """Precision of matrix products. Default: from the preset."""
    device: str = "auto"
    """auto, cpu or cuda. cuda uses all GPUs; auto uses them if there are any."""
    parallel: int = 0
    """Number of sizes to train in parallel. 0 trains one per GPU, or one on the CPU. On the CPU they share the threads.
    """
    log_every: int = 20
    """Write a line to the log every this many steps."""
    save_every: int = 100
    """Save a checkpoint every this many steps."""
    validate_every: int = 100
    """Evaluate on the validation images every this many steps. "scaling fit" uses these losses."""
    validate_images: int = 0
    """Number of validation images; 0 uses all. The last step always uses all, so other values cause a jump at the end
    of the curve."""


def run(options: Options) -> None:
    ladder = make_ladder(options.depths, options.width_per_depth)
    if options.parallel < 0:
        raise InputError(f"parallel must be 0 or more, not {options.parallel}")
    device = pick_device(options.device)
    begun = [name for rung in ladder if (name := begun_precision(options.out / rung.name)) != "auto"]
    if options.dtype in (None, "auto"):  # the same precision for all sizes, even on another machine
        options = replace(options, dtype=next(iter(begun), options.dtype))
    base = base_recipe(options)
    planned = {rung: plan_rung(options, rung, base) for rung in ladder}
    recipes = {rung: recipe for rung, (recipe, _) in planned.items()}
    tokenizer, classes = check_data(options, options.out / ladder[0].name, *planned[ladder[0]])
    for rung in ladder:
        check_folder(options.out / rung.name)
        check_earlier(options.out / rung.name, recipes[rung], options, tokenizer)
    print("\n".join(describe(ladder, recipes, tokenizer, classes)), file=sys.stderr, flush=True)
    parallel = options.parallel or (torch.cuda.device_count() if device.type == "cuda" else 1)
    with locked(options.out) as held, resumable("repeat the same command to resume"):
        left = [rung for rung in reversed(ladder) if not has_reached(options.out / rung.name, recipes[rung].steps)]
        jobs = [Job(rung.name, arguments(options, rung, base)) for rung in left]
        if not run_all(jobs, parallel, device, held):
            print("stopped: repeat the same command to resume", file=sys.stderr)
            return
    print("\n".join(str(options.out / rung.name) for rung in ladder))


def base_recipe(options: Options) -> TransformerRecipe:
    """Return the recipe of the preset with the changes that apply to all sizes.

    Raises:
        InputError: ``--set`` has a field with a flag, or a value does not fit.
    """
    for setting in options.set:
        if (name := setting.partition("=")[0]) in OURS:
            raise InputError(f"{name} cannot be changed by --set here: use the flags for {', '.join(OURS)}")
    preset = override(find_recipe(TRANSFORMERS, options.preset), options.set)
    given = {"steps": options.steps, "batch_size": options.batch_size, "learning_rate": options.learning_rate}
    changes = {name: value for name, value in given.items() if value is not None}
    return plan(TRANSFORMERS, preset, changes | {"seed": options.seed, "device": options.device}, options.out)[0]


def flags_of(options: Options, rung: Rung, base: TransformerRecipe) -> dict[str, Any]:
    """Return the values of a size that differ from the preset: names of recipe fields and settings."""
    values = {"steps": options.steps, "batch_size": options.batch_size, "seed": options.seed}
    values["learning_rate"] = rung.learning_rate(base.learning_rate, base.width, options.rate_power)
    values["precision"] = options.dtype
    names = ("device", "log_every", "save_every", "validate_every", "validate_images")
    values |= {name: getattr(options, name) for name in names} | {"preview_every": 0}
    return {name: value for name, value in values.items() if value is not None}


def sizes_of(rung: Rung) -> dict[str, int]:
    """Return the model sizes of a rung, as fields of the recipe."""
    return {name: getattr(rung, name) for name in ("depth", "width", "heads")}


def plan_rung(options: Options, rung: Rung, base: TransformerRecipe) -> tuple[TransformerRecipe, RunSettings]:
    """Return the recipe and the settings of a size."""
    preset = override(find_recipe(TRANSFORMERS, options.preset), options.set)
    changes = flags_of(options, rung, base) | sizes_of(rung)
    return plan(TRANSFORMERS, preset, changes, options.out / rung.name)


def arguments(options: Options, rung: Rung, base: TransformerRecipe) -> list[str]:
    """Return the command line that trains a size."""
    paths = {"data": options.data, "out": options.out / rung.name, "preset": options.preset}
    found = ["train", "transformer", *(f"--{name}={value}" for name, value in paths.items())]  # may begin with a dash
    found += ["--set", *options.set]
    found += [f"{name}={value}" for name, value in sizes_of(rung).items()]
    for name, value in flags_of(options, rung, base).items():
        found += [f"--{'dtype' if name == 'precision' else name.replace('_', '-')}", str(value)]
    return found


def check_data(
    options: Options, out: Path, recipe: TransformerRecipe, settings: RunSettings
) -> tuple[ImageTokenizer, int]:
    """Return the tokenizer and the number of classes of the cache.

    Raises:
        InputError: there is no cache, or it is damaged or has no validation images.
    """
    if not is_cache(options.data):
        raise InputError(f"{options.data} is not a token cache: expected a folder that tokenize made")
    if options.out.resolve() in (options.data.resolve(), *options.data.resolve().parents):
        raise InputError(f"the data {options.data} must not lie in the ladder's folder {options.out}")
    tokenizer = choose_tokenizer(str(options.data), "", settings, None)
    data, val_data = open_examples(str(options.data), out, tokenizer, recipe, settings)
    if not val_data:
        raise InputError(
            f"{options.data} has no validation images, which scaling laws need: expected a cache of data with val/, or "
            "of a --val-fraction above 0"
        )
    return tokenizer, len(data.source.class_names)


def check_earlier(folder: Path, recipe: TransformerRecipe, options: Options, tokenizer: ImageTokenizer) -> None:
    """Raise InputError if an earlier run of a size has other data or another recipe."""
    if newest_checkpoint(folder):
        inputs = {"data": absolute_name(str(options.data)), "tokenizer": tokenizer.fingerprint()}
        ours = json.loads(json.dumps({"inputs": inputs, "recipe": as_record(recipe)}))
        check_same(folder, ours, read_json(folder / RECIPE))


def describe(
    ladder: Sequence[Rung], recipes: dict[Rung, TransformerRecipe], tokenizer: ImageTokenizer, classes: int
) -> list[str]:
    """Return a line for each size with its parameters and training compute, and a line with the sum."""
    lines, total = [], 0.0
    for rung in ladder:
        recipe = recipes[rung]
        config = transformer_config(tokenizer, recipe, classes)
        images = recipe.steps * recipe.batch_size
        work = training_flops(config) * images / 1e6
        total += work
        lines.append(
            f"{rung.name}  width {rung.width}, {count(block_parameters(config))} parameters, "
            f"{count(images)} images, {work:.3g} PFLOP, learning rate {recipe.learning_rate:.2e}"
        )
    return [*lines, f"total {total:.3g} PFLOP"]
