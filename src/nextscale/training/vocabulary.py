"""The vocabulary of a text encoder that is trained with its model: from the captions, an earlier model, or the run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextscale.conditioning.splitting import FIRST
from nextscale.conditioning.vocabulary import grow, vocabulary_of
from nextscale.conditioning.words_config import WordsConfig
from nextscale.data.dataset import Examples
from nextscale.data.names import list_names
from nextscale.errors import InputError
from nextscale.families.family import Family
from nextscale.families.sources import Parts
from nextscale.io.checkpoint_folder import newest_checkpoint
from nextscale.io.module_folder import CONFIG, read_config
from nextscale.training.recipes import TextRecipe, WordsRecipe
from nextscale.training.run import Run, is_begun


@dataclass(frozen=True)
class RunVocabulary:
    """The text encoder's configuration in a run."""

    config: WordsConfig
    new: tuple[str, ...] = ()
    """Words that the model to start from does not know."""
    is_grown: bool = False
    """Whether there is a model to start from that has a text encoder of its own."""

    @classmethod
    def of(
        cls,
        family: Family,
        examples: Examples,
        recipe: TextRecipe,
        trained: Parts | None,
        text_encoder: Any,
        out: Path,
    ) -> RunVocabulary:
        """Return the vocabulary of a run.

        A run that is resumed has that of its checkpoint. If the model to start from has a text encoder of its own, the
        vocabulary is that of the model, and grows by the new words of the captions. Otherwise it is made from them.

        Args:
            family: the family of the model.
            text_encoder: refused, unless it is empty.

        Raises:
            InputError: another text encoder is given, or no word occurs often enough.
        """
        words = recipe.words
        assert words is not None
        if text_encoder:
            raise InputError(
                "this recipe trains a text encoder with the model (text.words): expected no other text encoder"
            )
        before = trained.model.config.words if trained else None
        if checkpoint := newest_checkpoint(out):
            config = read_config(family.transformer_config, checkpoint / CONFIG).words
        elif before is None:
            sizes = {"width": words.width, "depth": words.depth, "heads": words.heads}
            captions = captions_of(examples)
            config = vocabulary_of(captions, words.kind, words.least_count, words.size, recipe.tokens, **sizes)
        else:
            config = grow(before, captions_of(examples), words.least_count)
        if config is None:
            raise InputError(f"the checkpoint in {out} has no text encoder: choose another folder")
        return cls(config, config.vocabulary[len(before.vocabulary) :] if before else (), before is not None)

    def recipe(self, words: WordsRecipe) -> WordsRecipe:
        """Return a recipe with the sizes of the text encoder."""
        c = self.config
        return replace(words, kind=c.kind, width=c.width, depth=c.depth, heads=c.heads)

    @property
    def sizes(self) -> dict[str, Any]:
        """The fields of the model's configuration that depend on it."""
        return {"words": self.config, "text_width": self.config.width, "text_rows": self.config.max_tokens}

    def grown(self, trained: Parts | None) -> Parts | None:
        """Return the model to start from with the new words, if it has a text encoder of its own."""
        return trained._replace(model=with_words(trained.model, self.config)) if trained and self.is_grown else trained

    def report(self, run: Run) -> None:
        """Print the size of the vocabulary and its new words. A new run also writes the new words to its log."""
        c = self.config
        size = f"{len(c.vocabulary):,} {c.kind}, prompts of at most {c.max_tokens} tokens"
        run.say(f"text encoder trained with the model: {size}")
        if self.is_grown:
            names = f": {list_names(self.new)}" if self.new else ""
            run.say(f"{len(self.new):,} new {c.kind}{names}; they start from the mean of all others")
        if self.new and not is_begun(run.folder):
            run.log(0, {"new_words": list(self.new)})


@torch.no_grad()
def with_words(model: Any, config: WordsConfig) -> Any:
    """Return a model whose text encoder has a vocabulary with new words at its end. They start from the mean of all
    others."""
    before = model.config.words
    if config == before:
        return model
    changed = type(model)(replace(model.config, words=config))
    name = "words.embedding.weight"
    table: Tensor = model.state_dict()[name]
    mean = table[FIRST:].mean(dim=0, keepdim=True)
    rows = mean.expand(config.num_tokens - len(table), -1)
    changed.load_state_dict(model.state_dict() | {name: torch.cat((table, rows))})
    return changed


def captions_of(examples: Any) -> Collection[str]:
    """Return all captions of training data. Data without a method ``captions`` is read for them."""
    if hasattr(examples, "captions"):
        return list(examples.captions())
    return [examples[0, i].caption for i in range(len(examples))]
