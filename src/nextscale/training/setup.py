"""Settings of a training run, and the setup steps that all models share.

The recipe (`nextscale.training.recipes`) determines the trained weights. `RunSettings` holds everything else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from nextscale.data.batch_order import buckets_of
from nextscale.data.dataset import Examples
from nextscale.data.held_out import ValidationSettings, held_out_fraction
from nextscale.data.loader import check_data, divide
from nextscale.data.names import list_names
from nextscale.data.splits import absolute_name, open_splits
from nextscale.errors import InputError
from nextscale.imaging.image_files import check_readable
from nextscale.runtime.device import pick_device, precision
from nextscale.training.changes import check_names, find_recipe, with_changes
from nextscale.training.loop import Intervals
from nextscale.training.parallel import Execution
from nextscale.training.recipes import Recipe, RecipeT
from nextscale.training.run import settled, settled_fraction


@dataclass(frozen=True, kw_only=True)
class RunSettings(ValidationSettings):
    """Settings of a training run that are not part of its recipe."""

    init_from: str = ""
    """Model to start from instead of random weights. Its configuration replaces the sizes of the model (such as depth
    and width) in the recipe."""
    epochs: float | None = None
    """Length of the run in passes over the training data, instead of --steps."""
    device: str = "auto"
    """auto, cpu or cuda. auto uses a GPU if there is one."""
    log_every: int = 20
    """Write a line to OUT/log.jsonl every this many steps."""
    save_every: int = 100
    """Save a checkpoint every this many steps. The newest two are kept."""
    validate_every: int = 500
    """Evaluate on the validation images every this many steps."""
    validate_images: int = 0
    """Number of validation images to use; 0 uses all. The last step always uses all."""
    preview_every: int = 500
    """Save a preview image to OUT/previews/ every this many steps."""
    workers: int = 0
    """Number of processes that load images. 0 loads in the training process and caches up to 1 GiB of images."""
    accumulate: int = 1
    """Compute each batch in this many parts, one after the other (gradient accumulation). Saves memory."""
    compile: bool = False
    """Use torch.compile."""
    recompute: bool = False
    """Use activation checkpointing: less memory, more time."""

    def intervals(self) -> Intervals:
        """Return the intervals at which the run logs, saves, validates and makes previews."""
        return Intervals(self.log_every, self.save_every, self.validate_every, self.preview_every, self.validate_images)

    def execution(self) -> Execution:
        """Return the execution options of the run."""
        return Execution(self.accumulate, compile=self.compile, recompute=self.recompute, workers=self.workers)


SETTINGS = tuple(field.name for field in fields(RunSettings))


def plan(
    presets: Mapping[str, RecipeT], preset: str | Path | RecipeT, changes: Mapping[str, Any], out: Path
) -> tuple[RecipeT, RunSettings]:
    """Return the recipe and the settings of a run.

    A changed batch size scales the learning rate in proportion, as in the official code, unless ``changes`` also has a
    learning rate. The precision auto becomes that of an earlier run in ``out``, or the default of the device if there
    is none.

    Args:
        preset: name of a preset, a .json file with a recipe, or a recipe.
        changes: fields of the recipe or of `RunSettings`. A mapping changes a part of the recipe, such as ``model``.
        out: folder of the run.

    Raises:
        InputError: a preset or name is unknown, a value is out of range, or the device does not support the precision.
    """
    base = preset if isinstance(preset, Recipe) else find_recipe(presets, str(preset))
    in_recipe = [field.name for field in fields(base)]
    check_names(changes, [*in_recipe, *SETTINGS], "training")
    settings = RunSettings(**{name: value for name, value in changes.items() if name in SETTINGS})
    recipe = with_changes(base, {name: value for name, value in changes.items() if name in in_recipe})
    if settings.epochs is not None:
        if "steps" in changes:
            steps = changes["steps"]
            raise InputError(f"expected steps or epochs, got both: {steps} steps and {settings.epochs} epochs")
        if not 0 < settings.epochs < math.inf:
            raise InputError(f"epochs must be a positive number, not {settings.epochs}")
    if "batch_size" in changes and "learning_rate" not in changes:
        recipe = replace(recipe, learning_rate=base.learning_rate * recipe.batch_size / base.batch_size)
    device = pick_device(settings.device)
    recipe = settled(recipe, out, device)
    precision(recipe.precision, device)  # raises if the device does not support it
    return recipe, settings


def open_images(
    data: str, out: Path, size: tuple[int, int], recipe: Recipe, settings: RunSettings, captions: bool = False
) -> tuple[Examples, Examples | None]:
    """Open and check the training and validation images of a data set, with captions if they are wanted.

    Raises:
        InputError: the data set does not exist; see also `check_run`.
    """
    fraction = settled_fraction(settings.val_fraction, out)
    train, val = open_splits(data, size, recipe.seed, recipe.flip, val_fraction=fraction, captions=captions)
    check_run(data, out, train, val, recipe, settings)
    return train, val


def check_run(
    data: str, out: Path, train: Examples, val: Examples | None, recipe: Recipe, settings: RunSettings
) -> None:
    """Check the data of a run before its folder is created.

    Raises:
        InputError: the folder lies in the data, the batch is larger than the data or cannot be divided, or a split has
            no readable image.
    """
    check_outside(out, data)
    check_data(train, val, recipe.batch_size)
    divide(recipe.batch_size, settings.accumulate)


def check_outside(out: Path, data: str) -> None:
    """Raise InputError if the output folder is the data folder or lies inside it, because it would count as a class.

    Its name must be UTF-8, too.
    """
    check_readable(out)
    if Path(data).resolve() in (out.resolve(), *out.resolve().parents):
        raise InputError(f"the run's folder {out} must not lie in the data, {data}")


def count_epochs(recipe: RecipeT, data: Examples, epochs: float | None) -> RecipeT:
    """Return the recipe with its steps set from a number of epochs. None returns the recipe unchanged."""
    return recipe if epochs is None else replace(recipe, steps=round(epochs * len(data) / recipe.batch_size))


def run_inputs(task: str, data: str, train: Examples, settings: RunSettings) -> dict[str, Any]:
    """Return the inputs that a run records in addition to its recipe. A resumed run must have the same inputs."""
    return {
        "task": task,
        "data": absolute_name(data),
        "classes": train.source.class_names,
        "val_fraction": held_out_fraction(train.source),
        "number_of_images": len(train),
        "init_from": str(settings.init_from),
    }


def summary(data: Examples, val_data: Examples | None, batch_size: int = 0) -> str:
    """Describe the data: ``3068 images in 10 classes (dress, hat, ...), 341 validation images``, below its notes.

    Args:
        batch_size: to name the aspect ratios with too few images for a batch.
    """
    kind = getattr(data.source, "kind", "images")
    names, notes = data.source.class_names, (*data.source.notes, *(val_data.source.notes if val_data else ()))
    counts = f"{len(data)} {kind} in {len(names)} classes ({list_names(names)})" if names else f"{len(data)} {kind}"
    lines = [*notes, f"{counts}, {len(val_data or ())} validation {kind}"]
    if templates := getattr(data, "templates", ()):
        sizes = zip(templates, map(len, buckets_of(data)), strict=True)
        each = [f"{name:g} ({size}{', fewer than a batch: not used' * (size < batch_size)})" for name, size in sizes]
        lines.append(f"aspect ratios (height / width) and their images: {', '.join(each)}")
    return "\n".join(lines)
