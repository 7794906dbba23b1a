"""``nextscale train tokenizer``."""

from __future__ import annotations

from dataclasses import dataclass

from nextscale.cli.options import TrainingOptions
from nextscale.training.presets import TOKENIZERS
from nextscale.training.tokenizer_setup import run_tokenizer


@dataclass(frozen=True, kw_only=True)
class Options(TrainingOptions):
    """Train an image tokenizer. Repeat the same command to resume an interrupted run.

    Example: nextscale train tokenizer --preset starter --data photos/ --out runs/tokenizer
    """


def run(options: Options) -> None:
    recipe, settings = options.plan(TOKENIZERS)
    run_tokenizer(options.data, options.out, recipe, settings, options.watch())
