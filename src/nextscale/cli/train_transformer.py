"""``nextscale train transformer``."""

from __future__ import annotations

from dataclasses import dataclass

from nextscale.cli.options import TrainingOptions
from nextscale.training.parallel import Strategy
from nextscale.training.presets import TRANSFORMERS
from nextscale.training.transformer_setup import run_transformer
from nextscale.workflows.train import preview_samples


@dataclass(frozen=True, kw_only=True)
class Options(TrainingOptions):
    """Train a transformer on the tokens of a trained tokenizer. Repeat the same command to resume an interrupted run.

    The tokenizer decides what is trained: VAR on classes if it has a codebook, Infinity on captions if it has bits,
    InfinityStar on videos with captions if it is one of videos. A token cache written by "tokenize" contains the
    tokenizer: --data CACHE needs no --tokenizer.

    Example: nextscale train transformer --preset starter --tokenizer runs/tokenizer --data photos/ --out runs/var
    """

    tokenizer: str = ""
    """Folder of a "train tokenizer" run, or a model that contains the tokenizer (starter, d16, ...). Default: the
    tokenizer of --init-from or of the token cache."""
    keep_classes: bool = False
    """With --init-from: keep the classes of the initial model that the data does not have, in addition to those of the
    data. Default: the trained model has the classes of the data only."""
    strategy: Strategy = "ddp"
    """Data parallelism with several processes. ddp: each process holds all weights. fsdp: each holds a part of them."""
    text_encoder: str = ""
    """Folder or Hugging Face name of the T5 that encodes the captions (not for VAR). It is not trained. Its
    features are kept in OUT/text_features. Default: that of --init-from, or google/flan-t5-xl. Needs the extra "text".
    Recipes with text.words train a text encoder with the model instead."""


def run(options: Options) -> None:
    recipe, settings = options.plan(TRANSFORMERS)
    run_transformer(
        options.data,
        options.out,
        options.tokenizer,
        recipe,
        settings,
        options.strategy,
        preview_samples,
        options.watch(),
        options.keep_classes,
        options.text_encoder,
    )
