"""Set up the training of a transformer for captions: its text encoder, its model, its task.

A bitwise image tokenizer makes it an Infinity, a video tokenizer an InfinityStar.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from nextscale.conditioning.feature_cache import CachedEncoder, TextEncoder
from nextscale.conditioning.feature_shards import ShardedEncoder
from nextscale.conditioning.on_demand import as_encoder
from nextscale.conditioning.text import TextFeatures, WordIds
from nextscale.data.cache import TEXT, TokenDataset
from nextscale.data.dataset import Examples
from nextscale.errors import InputError
from nextscale.families.family import Family
from nextscale.families.sources import families, family_of, write_index
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.finetune import freeze
from nextscale.training.lora import train_low_rank
from nextscale.training.model_setup import PREVIEWED, ModelInputs
from nextscale.training.recipes import TextRecipe, TransformerRecipe, VideoRecipe, WordsRecipe
from nextscale.training.run import Run
from nextscale.training.text_finetune import adapted, fields_of, initialized
from nextscale.training.text_task import TextTask
from nextscale.training.vocabulary import RunVocabulary

FEATURES = "text_features"
"""Folder in a run for the features of its captions."""


class TextSetup:
    """A transformer for captions.

    Args:
        text_encoder: encodes the captions; "" uses that of the model to start from, or the official one. Recipes
            with ``words`` take none: their text encoder is a part of the model.
        out: folder of the run, which keeps the features of captions.

    Raises:
        InputError: the data has no captions, the text encoder is missing or damaged, or see `make_model`.
    """

    def __init__(self, given: ModelInputs, text_encoder: str | Path | TextEncoder, out: Path):
        trained, examples = given.trained, given.examples
        if given.keep_classes:
            raise InputError("--keep-classes keeps the classes of a trained model: a text-to-image model has none")
        self.family = family_for(given.tokenizer)
        check_family(self.family, given)
        text = given.recipe.text or TextRecipe()
        if trained:
            before = trained.model.config
            text = replace(text, chunks=before.chunks, tokens=before.text_rows)
            if text.words is None and before.words:
                text = replace(text, words=WordsRecipe())
        self.examples, self.val_examples = examples, given.val_examples
        self.captions = first_captions(self.val_examples or examples)
        self.encoder: CachedEncoder | None = None
        self.vocabulary: RunVocabulary | None = None
        self.inputs: dict[str, Any] = {}
        sizes: dict[str, Any]
        if text.words is not None:
            self.vocabulary = RunVocabulary.of(self.family, examples, text, trained, text_encoder, out)
            trained, sizes = self.vocabulary.grown(trained), self.vocabulary.sizes
            text = replace(text, words=self.vocabulary.recipe(text.words))
        else:
            source = text_encoder or (trained.text_encoder if trained else "") or self.family.text_encoder
            self.encoder = CachedEncoder(as_encoder(source, text.tokens), out / FEATURES)
            if isinstance(examples, TokenDataset):
                self.encoder = ShardedEncoder(self.encoder, examples.source.root / TEXT)
            width = self.encoder.encode(self.captions[:1]).features.shape[1]
            sizes = {"text_width": width, "text_rows": text.tokens}
            self.inputs = {"text_encoder": self.encoder.fingerprint}
        given = replace(given, recipe=with_options(self.family, given.recipe, text), trained=trained)
        new_words = bool(self.vocabulary and self.vocabulary.new)
        self.model, self.recipe, self.description = make_model(given, sizes, new_words)
        self.read = self.model.words.ids if self.encoder is None else self.encoder.encode

    def report(self, run: Run) -> None:
        """Print and log the vocabulary of a text encoder that is trained with the model."""
        if self.vocabulary:
            self.vocabulary.report(run)

    def write_index(self, folder: Path) -> None:
        """Write the file that makes the run's folder a model."""
        write_index(folder, self.family, (), str(self.encoder.source) if self.encoder else "", None)

    def task(self, tokenizer: ImageTokenizer) -> TextTask:
        """Return the task, for tokenizer and model on their device."""
        if self.family.media == "video":
            from nextscale.training.video_task import VideoTask  # Infinity needs none of it

            return VideoTask(self.model, tokenizer, self.recipe, self.read)
        return TextTask(self.model, tokenizer, self.recipe, self.read)

    def previewed(self, model: Any) -> TextFeatures | WordIds:
        """Return the prompts of the previews: the first captions of the validation data."""
        return self.read(self.captions).to(model.device)


def family_for(tokenizer: Any) -> Family:
    """Return the family of models that are trained on captions with a tokenizer."""
    return next(each for each in families() if each.takes == "prompt" and isinstance(tokenizer, each.tokenizer))


def check_family(family: Family, given: ModelInputs) -> None:
    """Check that recipe and initial model are those of a family.

    Raises:
        InputError: the initial model is of another family, or the recipe has settings of another one.
    """
    if given.trained and (theirs := family_of(given.trained.model)) is not family:
        raise InputError(f"the initial model is of the family {theirs.title}, but the tokenizer of {family.title}")
    if given.recipe.video is not None and family.media != "video":
        raise InputError("video is for video tokenizers: expected a recipe without it for an image tokenizer")


def with_options(family: Family, recipe: TransformerRecipe, text: TextRecipe) -> TransformerRecipe:
    """Return a recipe with the options of a family filled in."""
    if family.media == "video":
        return replace(recipe, text=text, video=recipe.video or VideoRecipe())
    return replace(recipe, shared_adaln=True, text=text)


def first_captions(examples: Examples) -> list[str]:
    """Return the captions of the first images.

    Raises:
        InputError: the data has no captions.
    """
    captions = [examples[0, i].caption for i in range(min(PREVIEWED, len(examples)))]
    if not any(captions):
        raise InputError(f"{examples.source.root} has no captions, which text-to-image models are trained on")
    return [caption for caption in captions if caption]


def make_model(
    given: ModelInputs, sizes: dict[str, Any], new_words: bool = False
) -> tuple[Any, TransformerRecipe, str]:
    """Return the model to train, the recipe with the model's sizes, and a description of the initial weights.

    Args:
        sizes: fields of the configuration about the text.
        new_words: whether the model has words that ``trained`` did not have at first.

    Raises:
        InputError: see `train_low_rank` and `adapted`; or a pattern of ``freeze`` does not match.
    """
    tokenizer, recipe, trained = given.tokenizer, given.recipe, given.trained
    new_parts: tuple[str, ...] = ()
    if trained:
        model, new_parts, description = adapted(trained.model, tokenizer, sizes, recipe)
        c = model.config
        recipe = replace(recipe, depth=c.depth, width=c.width, heads=c.heads)
        if recipe.video is not None:
            recipe = replace(recipe, video=replace(recipe.video, kv_heads=c.kv_heads))
    else:
        model, description = fresh_model(tokenizer, recipe, sizes), "random initial weights"
    if new_words:
        new_parts = (*new_parts, "words.embedding")
    description += train_low_rank(model, recipe, trained is not None, given.strategy, new_parts)
    freeze(model, recipe.freeze)
    return model, recipe, description


def fresh_model(tokenizer: Any, recipe: TransformerRecipe, sizes: dict[str, Any]) -> Any:
    """Return a transformer for the bits of a tokenizer, with random weights."""
    model = family_for(tokenizer).transformer(transformer_config(tokenizer, recipe, sizes))
    return initialized(model, recipe)


def transformer_config(tokenizer: Any, recipe: TransformerRecipe, sizes: dict[str, Any]) -> Any:
    """Return the configuration of a transformer with the sizes of a recipe for the bits of a tokenizer.

    Args:
        sizes: fields of the configuration about the text.
    """
    family, text = family_for(tokenizer), recipe.text or TextRecipe()
    fields = {"depth": recipe.depth, "width": recipe.width, "heads": recipe.heads, "chunks": text.chunks, **sizes}
    if family.media == "video":
        video = recipe.video or VideoRecipe()
        fields["kv_heads"] = video.kv_heads or recipe.heads
    return family.transformer_config(**fields, **fields_of(tokenizer))
