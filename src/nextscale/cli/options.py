"""Flags that several verbs share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from nextscale.cli.plot import curves_beside
from nextscale.errors import InputError
from nextscale.training.changes import find_recipe, override
from nextscale.training.recipes import Precision, RecipeT
from nextscale.training.setup import SETTINGS, RunSettings, plan

DATA = (
    "Training images: a folder with a sub-folder for each class; a .csv table with the columns file and label; .tar "
    "shards in WebDataset format, such as 'shards-{000..012}.tar'; a Hugging Face data set, hf:NAME; scenes:PATH, "
    'scenes composed of the emoji sprites in PATH; or, for "train transformer", a token cache of "tokenize". Text to '
    "image needs captions: .txt files beside the images, a column named caption, and so on. If the data has "
    "the splits train and val, val is used for validation; otherwise, see --val-fraction."
)
DTYPE = (
    "Precision of matrix products and convolutions. Default: auto, unless the recipe sets a precision. auto on a GPU: "
    "bfloat16, or float16 with the presets d16 to d36. auto on a CPU: bfloat16 if it is fast there, else float32. A "
    "resumed run keeps its precision."
)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Flags that both training verbs share."""

    data: Annotated[str, arg(help=DATA)]
    out: Path
    """Folder of the run: recipe, log, previews, checkpoints."""
    preset: str = "starter"
    """Recipe to start from: starter, cifar10 or tiny-imagenet. "train tokenizer" also has 256, and these for
    bitwise tokenizers: scenes, infinity-d16, infinity-d32, infinity-d16-1024, infinity-d32-1024. "train
    transformer" also has d16, d20, d24, d30, d36, and these for text to image: scenes, layer12, layer16, layer24,
    layer32, layer40, layer48, 2b, 2b-512, 2b-1024, 8b, 8b-512, 8b-1024. Or a .json file with a recipe, such as
    recipe.json of another run."""
    set: tuple[str, ...] = ()
    """Change values of the recipe, as NAME=VALUE. "train tokenizer": model.channels=64 model.schedule=1,2,4,8
    model.multipliers=1,2,4 adversarial=null. "train transformer": depth=8 width=512 lora=16."""
    steps: int | None = None
    """Total number of training steps. Default: from the preset."""
    batch_size: int | None = None
    """Number of images in a step, over all processes. Default: from the preset."""
    learning_rate: float | None = None
    """Peak learning rate. Default: from the preset, scaled in proportion to the batch size."""
    seed: int | None = None
    """Seed of initial weights, data order, crops and all other random numbers. Default: from the preset."""
    dtype: Annotated[Precision | None, arg(help=DTYPE)] = None
    compare: str = ""
    """Compare with another run (its folder, d16 for the official training, or starter), and plot both to
    OUT/curves.png."""
    run: RunSettings = field(default_factory=RunSettings)
    """Settings that are not part of the recipe. Of these, only --val-fraction, --init-from and --epochs (which
    sets the steps of the recipe) change the trained weights. For a tokenizer with an adversarial loss, --accumulate
    does so, too."""

    def plan(self, presets: Mapping[str, RecipeT]) -> tuple[RecipeT, RunSettings]:
        """Return the recipe and the settings of the flags; see `nextscale.training.setup.plan`."""
        preset = override(find_recipe(presets, self.preset), self.set)
        return plan(presets, preset, self.changes(), self.out)

    def changes(self) -> dict[str, Any]:
        """Return the flags as keyword arguments of `nextscale.train_transformer`."""
        given = {
            "steps": self.steps,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "seed": self.seed,
            "precision": self.dtype,
        }
        recipe = {name: value for name, value in given.items() if value is not None}
        return recipe | {name: getattr(self.run, name) for name in SETTINGS}

    def watch(self) -> Callable[[], str] | None:
        """Return the function that plots the curves of ``--compare``."""
        return curves_beside(self.out, self.compare, self.out / "curves.png") if self.compare else None


def height_and_width(size: tuple[int, ...]) -> tuple[int, int]:
    """Return height and width from one or two numbers: ``64`` means 64 x 64."""
    if len(size) not in (1, 2) or min(size) < 1:
        raise InputError(f"size must be one or two integers of at least 1, not {' '.join(map(str, size)) or 'none'}")
    return size[0], size[-1]
