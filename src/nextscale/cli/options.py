"""Flags that several verbs share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from nextscale.data.dataset import PictureDataset, open_splits
from nextscale.data.loader import check_data
from nextscale.errors import InputError
from nextscale.training.loop import Habits
from nextscale.training.recipes import Precision, Recipe

RecipeT = TypeVar("RecipeT", bound=Recipe)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Flags of both training verbs. What is left out comes from the preset."""

    data: Path
    """Folder of pictures, a folder per class; train/ and val/ inside are used where present."""
    out: Path
    """Folder of the run. The same command again resumes it."""
    preset: str = "starter"
    """Named recipe."""
    steps: int | None = None
    """Steps of the whole run. This and the next four: left out, what the preset says."""
    batch_size: int | None = None
    """Pictures in a step."""
    learning_rate: float | None = None
    """Peak learning rate."""
    seed: int | None = None
    """Of initial weights, order, crops and all else that is random."""
    dtype: Precision | None = None
    """Precision of matrix products and convolutions."""
    device: str = "auto"
    """auto, cpu, or cuda."""
    log_every: int = 20
    """Steps between lines of RUN/log.jsonl."""
    save_every: int = 100
    """Steps between checkpoints."""
    validate_every: int = 500
    """Steps between validations on val/."""
    preview_every: int = 500
    """Steps between pictures in RUN/previews/."""
    workers: int = 0
    """Processes that load pictures; 0 loads in the training process, and keeps up to 1 GiB of pictures in memory."""

    def open_data(self, size: tuple[int, int], recipe: Recipe) -> tuple[PictureDataset, PictureDataset | None]:
        """The training and validation pictures of ``--data``, looked over before the run gets a folder."""
        if self.data.resolve() in (self.out.resolve(), *self.out.resolve().parents):
            raise InputError(f"the run's folder {self.out} must not lie in the data, {self.data}")
        data, val_data = open_splits(self.data, size, recipe.seed, recipe.flip)
        check_data(data, val_data, recipe.batch_size)
        return data, val_data

    def inputs(self, task: str, data: PictureDataset) -> dict[str, Any]:
        """What a run must be resumed with, besides its recipe."""
        folder = data.folder
        return {
            "task": task,
            "data": str(self.data.resolve()),
            "classes": folder.class_names,
            "number_of_pictures": len(folder),
        }

    def habits(self) -> Habits:
        return Habits(self.log_every, self.save_every, self.validate_every, self.preview_every, self.workers)

    def adjust(self, recipe: RecipeT) -> RecipeT:
        """The recipe with the numbers given on the command line."""
        given = {
            "steps": self.steps,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "seed": self.seed,
            "precision": self.dtype,
        }
        return replace(recipe, **{name: value for name, value in given.items() if value is not None})


def summary(data: PictureDataset, val_data: PictureDataset | None) -> str:
    """``3068 pictures in 10 classes (dress, hat, ...), 341 to validate on``."""
    names = data.folder.class_names
    listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    return f"{len(data)} pictures in {len(names)} classes ({listed}), {len(val_data or ())} to validate on"
