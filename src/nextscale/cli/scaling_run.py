"""``nextscale scaling run``."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nextscale.analysis.flops import block_parameters, training_work
from nextscale.cli import train_transformer
from nextscale.curves.verdict import count
from nextscale.data.cache import is_cache
from nextscale.data.splits import absolute_name
from nextscale.errors import InputError
from nextscale.io.files import check_folder, read_json
from nextscale.io.module_folder import checkpoint_step, newest_checkpoint
from nextscale.runtime.device import pick_device
from nextscale.runtime.process_pool import Job, locked, run_all
from nextscale.scaling_laws.ladder import Rung, make_ladder
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.presets.var import TRANSFORMERS
from nextscale.training.recipes import Precision, TransformerRecipe
from nextscale.training.run import RECIPE, begun_precision, check_same
from nextscale.transformer.var import VARConfig

OURS = ("depth", "width", "heads", "learning_rate", "steps", "batch_size", "seed", "precision")
"""Numbers of the recipe that the ladder sets by flags of its own."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train a ladder of sizes on one cache of tokens, all on the same batches in the same order, for "scaling fit".

    Each rung is a run of "train var" in a folder of its own, OUT/d03 and so on, and the largest comes first. The same
    command again goes on where it was stopped.

    Example: nextscale scaling run --data cache --depths 2 3 4 5 6 7 8 9 --width-per-depth 16 --out ladder
    """

    data: Path
    """Cache of "tokenize", with images to validate on."""
    out: Path
    """Folder of the ladder."""
    depths: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8)
    """Blocks of each size, and its heads."""
    width_per_depth: int = 32
    """Width is this times the depth, and each head has this dimension. Officially 64."""
    preset: str = "cifar10"
    """Named recipe of "train var", or a .json file with one, for all that is not said here."""
    set: tuple[str, ...] = ()
    """Other numbers of the recipe, NAME=VALUE, for all sizes."""
    steps: int | None = None
    """Steps of each size. This and the next: left out, what the preset says."""
    batch_size: int | None = None
    """Images in a step."""
    learning_rate: float | None = None
    """Peak learning rate at the preset's width; left out, the preset's, scaled with the batch size."""
    rate_power: float = 0.5
    """A size's peak is that times (preset's width / its width)^this; 0 gives all sizes the same."""
    seed: int = 0
    """Of initial weights, order, and all else that is random."""
    dtype: Precision | None = None
    """Precision of matrix products; left out, the preset's."""
    device: str = "auto"
    """auto, cpu, or cuda, which uses all GPUs there are."""
    parallel: int = 0
    """Sizes trained at once; 0 is one on each GPU, or one on the CPU, whose threads they divide."""
    log_every: int = 20
    """Steps between lines of each log."""
    save_every: int = 100
    """Steps between checkpoints."""
    validate_every: int = 100
    """Steps between validations, which are the points of the laws over compute."""
    validate_images: int = 0
    """Images to validate on, evenly spread; 0 is all. The last step is always on all: with fewer before, it jumps."""


def run(options: Options) -> None:
    ladder = make_ladder(options.depths, options.width_per_depth)
    if options.parallel < 0:
        raise InputError(f"parallel must be 0 or more, not {options.parallel}")
    device = pick_device(options.device)
    begun = [name for rung in ladder if (name := begun_precision(options.out / rung.name)) != "auto"]
    if options.dtype in (None, "auto"):  # one for all, wherever it goes on
        options = replace(options, dtype=next(iter(begun), options.dtype))
    trainings = {rung: training(options, rung) for rung in ladder}
    recipes = {rung: of.recipe(TRANSFORMERS) for rung, of in trainings.items()}
    tokenizer, classes = check_data(options, trainings[ladder[0]], recipes[ladder[0]])
    for rung in ladder:
        check_folder(options.out / rung.name)
        check_earlier(options.out / rung.name, recipes[rung], options, tokenizer)
    print("\n".join(describe(ladder, recipes, tokenizer, classes)), file=sys.stderr, flush=True)
    parallel = options.parallel or (torch.cuda.device_count() if device.type == "cuda" else 1)
    with locked(options.out) as held:
        left = [rung for rung in reversed(ladder) if not is_finished(options.out / rung.name, recipes[rung])]
        jobs = [Job(rung.name, ["train", "var", *as_arguments(trainings[rung])]) for rung in left]
        if not run_all(jobs, parallel, device, held):
            print("asked to stop: the same command goes on from there", file=sys.stderr)
            return
    print("\n".join(str(options.out / rung.name) for rung in ladder))


def training(options: Options, rung: Rung) -> train_transformer.Options:
    """The flags of "train var" for a size.

    Raises:
        InputError: ``--set`` sets what is not its to set, or the recipe is none.
    """
    for setting in options.set:
        if (name := setting.partition("=")[0]) in OURS:
            raise InputError(f"{name} is not for --set: a ladder has flags of its own for {', '.join(OURS)}")
    common = train_transformer.Options(
        data=str(options.data),
        out=options.out / rung.name,
        preset=options.preset,
        set=options.set,
        steps=options.steps,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        seed=options.seed,
        dtype=options.dtype,
        device=options.device,
        log_every=options.log_every,
        save_every=options.save_every,
        validate_every=options.validate_every,
        validate_images=options.validate_images,
        preview_every=0,
    )
    base = common.recipe(TRANSFORMERS)
    sizes = tuple(f"{name}={getattr(rung, name)}" for name in ("depth", "width", "heads"))
    rate = rung.learning_rate(base.learning_rate, base.width, options.rate_power)
    return replace(common, set=(*options.set, *sizes), learning_rate=rate)


def as_arguments(options: train_transformer.Options) -> list[str]:
    """The command line that says these options, without those that say what is so anyway."""
    arguments: list[str] = []
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if value != field.default:
            values = value if isinstance(value, tuple) else (value,)
            arguments += [f"--{field.name.replace('_', '-')}", *map(str, values)]
    return arguments


def check_data(
    options: Options, one: train_transformer.Options, recipe: TransformerRecipe
) -> tuple[ImageTokenizer, int]:
    """The tokenizer and the number of classes of the cache.

    Raises:
        InputError: no cache, or a damaged one, or one without images to validate on.
    """
    if not is_cache(options.data):
        raise InputError(f"{options.data} is no cache of tokens: expected one that tokenize made")
    if options.out.resolve() in (options.data.resolve(), *options.data.resolve().parents):
        raise InputError(f"the data {options.data} must not lie in the ladder's folder {options.out}")
    tokenizer = train_transformer.choose_tokenizer(one, None)
    data, val_data = train_transformer.open_data(one, tokenizer, recipe)
    if not val_data:
        raise InputError(f"{options.data} has no images to validate on, whose loss the laws are of: expected val/")
    return tokenizer, len(data.source.class_names)


def check_earlier(folder: Path, recipe: TransformerRecipe, options: Options, tokenizer: ImageTokenizer) -> None:
    """Raises InputError where a size was begun with something else than now."""
    if newest_checkpoint(folder):
        inputs = {"data": absolute_name(str(options.data)), "tokenizer": tokenizer.fingerprint()}
        ours = json.loads(json.dumps({"inputs": inputs, "recipe": dataclasses.asdict(recipe)}))
        check_same(folder, ours, read_json(folder / RECIPE))


def is_finished(folder: Path, recipe: TransformerRecipe) -> bool:
    newest = newest_checkpoint(folder)
    return newest is not None and checkpoint_step(newest) >= recipe.steps


def describe(
    ladder: Sequence[Rung], recipes: dict[Rung, TransformerRecipe], tokenizer: ImageTokenizer, classes: int
) -> list[str]:
    """The sizes, and what training them takes."""
    lines, total = [], 0.0
    for rung in ladder:
        recipe = recipes[rung]
        config = VARConfig(
            tokenizer.schedule,
            rung.depth,
            rung.width,
            rung.heads,
            num_classes=classes,
            codebook_size=tokenizer.config.codebook_size,
            code_dim=tokenizer.config.code_dim,
            shared_adaln=recipe.shared_adaln,
        )
        images = recipe.steps * recipe.batch_size
        work = training_work(config) * images / 1e6
        total += work
        lines.append(
            f"{rung.name}  width {rung.width}, {count(block_parameters(config))} parameters, "
            f"{count(images)} images, {work:.3g} PFLOP, learning rate {recipe.learning_rate:.2e}"
        )
    return [*lines, f"in all {total:.3g} PFLOP"]
