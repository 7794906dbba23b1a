"""Flags that several verbs share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

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
    batch_size: int | None = None
    learning_rate: float | None = None
    """Peak learning rate."""
    seed: int | None = None
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
