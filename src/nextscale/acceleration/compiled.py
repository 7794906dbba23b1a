"""Compile the blocks of models with torch.compile. All blocks share one compiled function for each scale."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.transformer.adaln_block import Block
from nextscale.transformer.cache import LayerCache
from nextscale.transformer.next_scale import NextScaleTransformer


def compile_parts(tokenizer: ImageTokenizer, model: NextScaleTransformer, **options: Any) -> None:
    """Compile both models for sampling, in place.

    Each scale is compiled when it is first sampled, and again for another number of images.

    Args:
        options: keyword arguments of torch.compile, such as ``mode="max-autotune-no-cudagraphs"``.
    """
    compile_blocks(model, **options)
    tokenizer._decode = torch.compile(tokenizer._decode, dynamic=False, **options)


def compile_blocks(model: NextScaleTransformer, **options: Any) -> None:
    """Compile the blocks for ``forward_scale``, in place. Teacher forcing does not change.

    Each scale gets a separate function, because torch.compile compiles a function at most 8 times. Lengths of texts are
    dynamic from the second length on.
    """

    @lru_cache(None)
    def program(visit: int, has_text: bool) -> Callable[..., Tensor]:
        """Return the compiled block for one visit."""

        def scale(block: Block, x: Tensor, vectors: Tensor, past: LayerCache, others: dict[str, Any]) -> Tensor:
            return Block.forward(block, x, vectors, past=past, **others)

        scale.__code__ = scale.__code__.replace(co_name=f"visit_{visit}")
        return torch.compile(scale, dynamic=None if has_text else False, **options)

    def route(block: Block) -> Callable[..., Tensor]:
        def forward(x: Tensor, vectors: Tensor, *, past: LayerCache | None = None, **others: Any) -> Tensor:
            if past is None:
                return Block.forward(block, x, vectors, **others)
            return program(past.plan.index, "text" in others)(block, x, vectors, past, others)

        return forward

    for block in model.blocks:
        assert isinstance(block, Block)
        block.forward = route(block)  # type: ignore[method-assign]
