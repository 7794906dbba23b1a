"""Flags that several verbs share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nextscale.cli.plot import curves_beside
from nextscale.data.dataset import Examples
from nextscale.data.loader import check_data, divide
from nextscale.data.names import list_names
from nextscale.data.splits import absolute_name, open_splits
from nextscale.errors import InputError
from nextscale.runtime.device import pick_device, precision
from nextscale.training.loop import Intervals
from nextscale.training.override import find_recipe, override
from nextscale.training.parallel import Execution
from nextscale.training.recipes import Precision, Recipe, RecipeT
from nextscale.training.run import settled


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Flags of both training verbs. What is left out comes from the preset."""

    data: str
    """Folder of images, a folder per class; table.csv of files and labels; 'shards-{000..012}.tar'; or hf:NAME. Of
    train/ and val/ inside, or splits of these names, each has its use."""
    out: Path
    """Folder of the run. The same command again resumes it."""
    init_from: str = ""
    """Model to start from instead of fresh weights; what it is decides the model's sizes."""
    preset: str = "starter"
    """Named recipe, or a .json file with one (such as recipe.json of a run)."""
    set: tuple[str, ...] = ()
    """Other numbers of the recipe, NAME=VALUE: model.channels=64 model.schedule=1,2,4,8 adversarial=null."""
    steps: int | None = None
    """Steps of the whole run. This and the next five: left out, what the preset says."""
    epochs: float | None = None
    """Passes over the data, instead of steps."""
    batch_size: int | None = None
    """Images in a step."""
    learning_rate: float | None = None
    """Peak learning rate; left out, the preset's, scaled with the batch size."""
    seed: int | None = None
    """Of initial weights, order, crops and all else that is random."""
    dtype: Precision | None = None
    """Precision of matrix products; auto is bfloat16 if that is fast, and float16 for the official recipes on GPUs.
    A run is resumed in the one that it began in."""
    device: str = "auto"
    """auto, cpu, or cuda."""
    log_every: int = 20
    """Steps between lines of RUN/log.jsonl."""
    save_every: int = 100
    """Steps between checkpoints."""
    validate_every: int = 500
    """Steps between validations on val/."""
    validate_images: int = 0
    """Images to validate on, evenly spread; 0 is all, as always at the last step."""
    preview_every: int = 500
    """Steps between images in RUN/previews/."""
    compare: str = ""
    """d16, the official training, or the folder of another run: draws RUN/curves.png beside it as often as previews."""
    workers: int = 0
    """Processes that load images; 0 loads in the training process, and keeps up to 1 GiB of images in memory."""
    accumulate: int = 1
    """Parts that a batch is computed in, one after the other, to save memory (gradient accumulation)."""
    compile: bool = False
    """torch.compile."""
    recompute: bool = False
    """Activation checkpointing: less memory, more time."""

    def open_data(self, size: tuple[int, int], recipe: Recipe) -> tuple[Examples, Examples | None]:
        """The training and validation images of ``--data``."""
        data, val_data = open_splits(self.data, size, recipe.seed, recipe.flip)
        self.check_data(data, val_data, recipe)
        return data, val_data

    def check_data(self, data: Examples, val_data: Examples | None, recipe: Recipe) -> None:
        """Look the data over before the run gets a folder."""
        check_outside(self.out, self.data)
        check_data(data, val_data, recipe.batch_size)
        divide(recipe.batch_size, self.accumulate)

    def count_epochs(self, recipe: RecipeT, data: Examples) -> RecipeT:
        """The recipe with the steps of ``--epochs``, if that was given."""
        if self.epochs is None:
            return recipe
        if self.steps is not None:
            raise InputError(f"expected steps or epochs, got both: {self.steps} steps and {self.epochs} epochs")
        if not 0 < self.epochs < math.inf:
            raise InputError(f"epochs must be a positive number, not {self.epochs}")
        return replace(recipe, steps=round(self.epochs * len(data) / recipe.batch_size))

    def inputs(self, task: str, data: Examples) -> dict[str, Any]:
        """What a run must be resumed with, besides its recipe."""
        return {
            "task": task,
            "data": absolute_name(self.data),
            "classes": data.source.class_names,
            "number_of_images": len(data),
            "init_from": self.init_from,
        }

    def watch(self) -> Callable[[], str] | None:
        """What draws the curves of ``--compare``."""
        return curves_beside(self.out, self.compare, self.out / "curves.png") if self.compare else None

    def intervals(self) -> Intervals:
        return Intervals(self.log_every, self.save_every, self.validate_every, self.preview_every, self.validate_images)

    def execution(self) -> Execution:
        return Execution(self.accumulate, compile=self.compile, recompute=self.recompute, workers=self.workers)

    def recipe(self, presets: dict[str, RecipeT]) -> RecipeT:
        """The preset with the numbers given on the command line.

        Another batch size scales the learning rate as the official code does, unless that is given, too.
        """
        preset = override(find_recipe(presets, self.preset), self.set)
        given = {
            "steps": self.steps,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "seed": self.seed,
            "precision": self.dtype,
        }
        if self.batch_size is not None and self.learning_rate is None:
            given["learning_rate"] = preset.learning_rate * self.batch_size / preset.batch_size
        device = pick_device(self.device)
        recipe = replace(preset, **{name: value for name, value in given.items() if value is not None})
        recipe = settled(recipe, self.out, device)
        precision(recipe.precision, device)  # refuses what the device cannot do
        return recipe


def check_outside(out: Path, data: str) -> None:
    """Raises InputError if the run's folder is the data's, or lies in it, where it would count as a class."""
    if Path(data).resolve() in (out.resolve(), *out.resolve().parents):
        raise InputError(f"the run's folder {out} must not lie in the data, {data}")


def height_and_width(size: tuple[int, ...]) -> tuple[int, int]:
    """``64`` is 64 x 64."""
    if len(size) not in (1, 2) or min(size) < 1:
        raise InputError(f"size must be one or two integers of at least 1, not {' '.join(map(str, size)) or 'none'}")
    return size[0], size[-1]


def summary(data: Examples, val_data: Examples | None) -> str:
    """``3068 images in 10 classes (dress, hat, ...), 341 to validate on``."""
    names = data.source.class_names
    return f"{len(data)} images in {len(names)} classes ({list_names(names)}), {len(val_data or ())} to validate on"
