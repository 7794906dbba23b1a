"""``nextscale info``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from nextscale.analysis.flops import count_flops
from nextscale.cli.models import Dtype, ModelOptions
from nextscale.errors import InputError
from nextscale.families.sources import find_published
from nextscale.runtime.device import DTYPES
from nextscale.tokenizer.tokenizer import TokenizerConfig
from nextscale.transformer.var import VARConfig


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Print a model's sizes, schedule, parameters and FLOPs per image.

    For the official models (d16 ... d36), no weights are downloaded.

    Example: nextscale info starter
    """

    name: Annotated[str, tyro.conf.Positional] = ""
    """Model to show, in the same form as --model."""
    dtype: Dtype = "float32"
    """Precision for which the size of the weights in MB is shown."""


def run(options: Options) -> None:
    if options.name and options.model != "starter":
        raise InputError(f"expected one model, got two: {options.name} and {options.model}")
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
    """Describe a model from its configurations."""
    work = count_flops(tokenizer, model)
    schedule, side = tokenizer.schedule, tokenizer.downsampling
    height, width = tokenizer.image_size
    sampling = work.condition + work.transformer
    megabytes = (work.tokenizer_parameters + work.transformer_parameters) * DTYPES[dtype].itemsize
    return "\n".join(
        [
            f"parameters       {work.tokenizer_parameters:.2f} M tokenizer, "
            f"{work.transformer_parameters:.2f} M transformer",
            f"weights          {megabytes:.1f} MB in {dtype}",
            f"images           {height} x {width} pixels; a token of the last scale covers {side} x {side}",
            f"scales           {schedule.num_scales}: {schedule}",
            f"tokens           {schedule.num_tokens}; codebook of {tokenizer.codebook_size} vectors "
            f"of dimension {tokenizer.code_dim}",
            f"transformer      depth {model.depth}, width {model.width}, {model.heads} heads, "
            f"{'shared ' if model.shared_adaln else ''}AdaLN, {'cosine' if model.l2_norm else 'plain'} attention",
            f"FLOPs per image  {short(sampling)} GFLOP transformer ({short(2 * sampling)} with guidance), "
            f"{short(work.decoder)} decoder, {short(work.encoder)} encoder",
        ]
    )


def short(gflop: float) -> str:
    """Format a number with one digit after the point, or with two significant digits if it is small."""
    return f"{gflop:.1f}" if gflop >= 0.05 else f"{gflop:.2g}"
