"""Models whose scales are compiled: each has fixed sizes, and so a program of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.transformer.cache import KVCache
from nextscale.transformer.transformer import VAR, Condition


def compile_parts(tokenizer: ImageTokenizer, model: VAR, **options: Any) -> None:
    """Let both draw through torch.compile, in place. Each scale is compiled when it is first drawn, and again for
    another number of pictures.

    Args:
        options: of torch.compile, such as ``mode="max-autotune-no-cudagraphs"``.
    """
    compile_scales(model, **options)
    tokenizer._decode = torch.compile(tokenizer._decode, dynamic=False, **options)


def compile_scales(model: VAR, **options: Any) -> None:
    """`VAR.forward_scale` through torch.compile: code of its own for each scale, as the compiler gives up on code that
    it has compiled 8 times."""
    eager = model.forward_scale

    def make(k: int) -> Callable[..., Tensor]:
        def scale(inputs: Tensor | None, condition: Condition, cache: KVCache) -> Tensor:
            return eager(k, inputs, condition, cache)

        scale.__code__ = scale.__code__.replace(co_name=f"scale_{k}")
        return torch.compile(scale, dynamic=False, **options)

    scales = [make(k) for k in range(model.schedule.num_scales)]

    def forward_scale(k: int, inputs: Tensor | None, condition: Condition, cache: KVCache) -> Tensor:
        return scales[k](inputs, condition, cache)

    model.forward_scale = forward_scale  # type: ignore[method-assign]
