"""``nextscale train transformer``."""

from __future__ import annotations

from dataclasses import dataclass

from nextscale.cli.options import TrainingOptions
from nextscale.training.presets.var import TRANSFORMERS
from nextscale.training.transformer_setup import Strategy, run_transformer
from nextscale.workflows.train import preview_samples


@dataclass(frozen=True, kw_only=True)
class Options(TrainingOptions):
    """Train a transformer on the tokens of a trained tokenizer. Repeat the same command to resume an interrupted run.

    A token cache written by "tokenize" contains the tokenizer: --data CACHE needs no --tokenizer.

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
    )
