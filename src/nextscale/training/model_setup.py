"""What the set-up of training needs from a family: its model and task, made from data, tokenizer and recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nextscale.data.dataset import Examples
from nextscale.families.sources import Parts
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.parallel import Strategy
from nextscale.training.recipes import TransformerRecipe
from nextscale.training.run import Run
from nextscale.training.transformer_task import TransformerTask

PREVIEWED = 20
"""Number of images in a preview."""


@dataclass(frozen=True)
class ModelInputs:
    """What a transformer is made from."""

    tokenizer: ImageTokenizer
    recipe: TransformerRecipe
    examples: Examples
    val_examples: Examples | None
    trained: Parts | None
    """The model to start from."""
    strategy: Strategy
    keep_classes: bool
    """Keep classes of ``trained`` that the data does not have."""


class ModelSetup(Protocol):
    """A transformer to train, and its data. `ClassSetup` is that of VAR, `TextSetup` that of Infinity."""

    model: Any
    recipe: TransformerRecipe
    """The recipe with the sizes of the model."""
    description: str
    """Of the initial weights."""
    examples: Examples
    val_examples: Examples | None
    inputs: dict[str, Any]
    """What a resumed run must have in common with the first part, in addition to the data."""

    def report(self, run: Run) -> None:
        """Print and log what the model takes: the change of classes, or the vocabulary."""
        ...

    def write_index(self, folder: Path) -> None:
        """Write the file that makes the run's folder a model."""
        ...

    def task(self, tokenizer: ImageTokenizer) -> TransformerTask:
        """Return the task, for tokenizer and model on their device."""
        ...

    def previewed(self, model: Any) -> Any:
        """Return the labels or prompts of the previews."""
        ...
