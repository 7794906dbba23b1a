"""``nextscale info``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from nextscale.analysis.flops import count_work
from nextscale.cli.models import ModelOptions
from nextscale.errors import InputError
from nextscale.families.sources import find_published
from nextscale.runtime.device import DTYPES
from nextscale.tokenizer.tokenizer import TokenizerConfig
from nextscale.transformer.var import VARConfig


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Print a model's sizes, schedule, parameters and work per image.

    Of the official models (d16 ... d36) this needs no weights.

    Example: nextscale info starter
    """

    name: Annotated[str, tyro.conf.Positional] = ""
    """The model; the same as --model."""


def run(options: Options) -> None:
    if options.name and options.model != "starter":
        raise InputError(f"two models were given, {options.name} and {options.model}: expected one")
    source = options.name or options.model
    published = find_published(source)
    if published and not Path(source).exists():
        print(f"{source}, FID {published.fid}, Inception Score {published.inception_score} as published")
        print(describe(published.tokenizer, published.model, options.dtype))
        return
    pipeline = replace(options, model=source).load()
    print(f"classes          {len(pipeline.class_names)}: {', '.join(pipeline.class_names[:10])}", end="")
    print(", ..." if len(pipeline.class_names) > 10 else "")
    print(describe(pipeline.tokenizer.config, pipeline.model.config, options.dtype))


def describe(tokenizer: TokenizerConfig, model: VARConfig, dtype: str) -> str:
    """Everything that follows from the configurations alone."""
    work = count_work(tokenizer, model)
    schedule = tokenizer.schedule
    height, width = tokenizer.image_size
    drawn = work.condition + work.transformer
    megabytes = (work.tokenizer_parameters + work.transformer_parameters) * DTYPES[dtype].itemsize
    return "\n".join(
        [
            f"parameters       {work.tokenizer_parameters:.2f} M tokenizer, "
            f"{work.transformer_parameters:.2f} M transformer",
            f"weights          {megabytes:.1f} MB in {dtype}",
            f"images         {height} x {width} pixels, {tokenizer.downsampling} pixels a side for a token",
            f"scales           {schedule.num_scales}: {schedule}",
            f"tokens           {schedule.num_tokens}, each one of {tokenizer.codebook_size} codes "
            f"of dimension {tokenizer.code_dim}",
            f"transformer      depth {model.depth}, width {model.width}, {model.heads} heads, "
            f"{'shared ' if model.shared_adaln else ''}AdaLN, {'cosine' if model.l2_norm else 'plain'} attention",
            f"work per image {drawn:.1f} GFLOP transformer ({2 * drawn:.1f} with guidance), "
            f"{work.decoder:.1f} decoder, {work.encoder:.1f} encoder",
        ]
    )
