"""Set up the training of a class-conditional transformer (VAR): its classes, its model, its task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nextscale.errors import InputError
from nextscale.families import var
from nextscale.families.sources import INDEX, Parts
from nextscale.io.files import write_json
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.class_change import ClassChange
from nextscale.training.finetune import freeze, with_classes
from nextscale.training.lora import train_low_rank
from nextscale.training.model_setup import PREVIEWED, ModelInputs
from nextscale.training.recipes import TransformerRecipe
from nextscale.training.run import Run, is_begun
from nextscale.training.transformer_task import TransformerTask


class ClassSetup:
    """A transformer for the classes of the data. Its examples have the numbers of the model as labels.

    Raises:
        InputError: see `class_change` and `make_model`; or the recipe is for texts.
    """

    def __init__(self, given: ModelInputs):
        if given.recipe.text is not None:
            raise InputError("a recipe with text needs a bitwise tokenizer, but this one has a codebook")
        self.change = class_change(given.trained, given.examples.source.class_names, given.keep_classes)
        self.names = self.change.after if self.change else given.examples.source.class_names
        self.examples, self.val_examples = given.examples, given.val_examples
        if self.change:
            self.examples = self.change.relabelled(given.examples)
            self.val_examples = given.val_examples and self.change.relabelled(given.val_examples)
        self.model, self.recipe, self.description = make_model(given, self.names)
        self.inputs: dict[str, Any] = {"keep_classes": given.keep_classes}

    def report(self, run: Run) -> None:
        """Print kept, added and dropped classes. A new run also writes all their names to its log."""
        for line in self.change.lines() if self.change else ():
            run.say(line)
        if self.change and self.change.lines() and not is_begun(run.folder):
            run.log(0, self.change.record())

    def write_index(self, folder: Path) -> None:
        """Write the file that makes the run's folder a model."""
        write_json(folder / INDEX, {"class_names": self.names})

    def task(self, tokenizer: ImageTokenizer) -> TransformerTask:
        """Return the task, for tokenizer and model on their device."""
        return TransformerTask(self.model, tokenizer, self.recipe)

    def previewed(self, model: Any) -> list[int]:
        """Return the labels of the previews: classes from the first to the last."""
        return [i * len(self.names) // PREVIEWED for i in range(PREVIEWED)]


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


def make_model(given: ModelInputs, class_names: tuple[str, ...]) -> tuple[Any, TransformerRecipe, str]:
    """Return the model to train, the recipe with the model's sizes, and a description of the initial weights.

    Raises:
        InputError: see `train_low_rank`; or a pattern of ``freeze`` does not match.
    """
    recipe, trained = given.recipe, given.trained
    if trained:
        model, description = with_classes(trained.model, trained.class_names, class_names)
        c = model.config
        recipe = replace(recipe, depth=c.depth, width=c.width, heads=c.heads, shared_adaln=c.shared_adaln)
    else:
        model, description = fresh_model(given.tokenizer, recipe, len(class_names)), "random initial weights"
    new_parts = ("class_embedding",) if trained and model is not trained.model else ()
    description += train_low_rank(model, recipe, trained is not None, given.strategy, new_parts)
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
