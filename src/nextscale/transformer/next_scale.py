"""Base class of next-scale transformers: the head's layer norm, the cache, and the precision of the blocks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nextscale.scales.schedule import ScaleSchedule
from nextscale.transformer.adaln_block import Block, modulate
from nextscale.transformer.cache import KVCache, plan_cache


def embedding(count: int, width: int) -> nn.Embedding:
    """Return an uninitialized embedding. PyTorch's constructor would import its compiler on the meta device."""
    return nn.Embedding.from_pretrained(torch.empty(count, width), freeze=False)


class NextScaleTransformer(nn.Module):
    """Base class of VAR and Infinity.

    Subclasses create ``start_embedding`` (1, n_0, C) and ``blocks``, and a configuration with ``schedule``, ``depth``,
    ``width`` and ``heads``. Their conditions have the attributes ``embedding`` (B, C) and ``head`` (B, 2, C).
    """

    config: Any
    start_embedding: nn.Parameter
    blocks: nn.ModuleList

    @property
    def schedule(self) -> ScaleSchedule:
        return self.config.schedule

    @property
    def device(self) -> torch.device:
        return self.start_embedding.device

    @property
    def autocast_device(self) -> str:
        """Return the device type for `torch.autocast`. The meta device has no autocast."""
        return "cpu" if self.device.type == "meta" else self.device.type

    @property
    def compute_dtype(self) -> torch.dtype:
        """Return the dtype of matrix products, keys and values: that of autocast if it is on, else of the matrices."""
        kind = self.device.type
        if kind != "meta" and torch.is_autocast_enabled(kind):
            return torch.get_autocast_dtype(kind)
        block = self.blocks[0]
        assert isinstance(block, Block)
        return block.attention.qkv.weight.dtype

    def start(self, condition: Any) -> Tensor:
        """Return the input of scale 0, the embedding of the class or the text at every token, (B, n_0, C)."""
        return condition.embedding.unsqueeze(1) + self.start_embedding

    def features(self, x: Tensor, condition: Any) -> Tensor:
        """Apply the head's adaptive layer norm to the output of the last block. (B, n, C) -> (B, n, C) float32."""
        scale, shift = condition.head.unbind(1)
        return modulate(x.float(), scale, shift)

    def make_cache(self, schedule: ScaleSchedule, batch: int, dtype: torch.dtype | None = None) -> KVCache:
        """Return an empty cache for ``batch`` sequences on the model's device.

        Args:
            dtype: type of keys and values; None means `compute_dtype`.
        """
        c, plans = self.config, plan_cache(schedule.visits, schedule.tokens_per_scale)
        return KVCache(plans, c.depth, batch, c.heads, c.width // c.heads, self.device, dtype or self.compute_dtype)
