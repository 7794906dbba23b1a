"""Infinity, the next-scale transformer for text to image (arXiv 2412.04431, section 3).

It predicts bits instead of code indices, takes a text by cross-attention and adaptive layer norms, and uses rotary
positions, so that one model samples all aspect ratios and pixel budgets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.conditioning.padding import Padding
from nextscale.conditioning.text import TextConditioner, TextFeatures, WordIds, features_of
from nextscale.conditioning.words_config import make_words
from nextscale.io.module_folder import load_module, save_module
from nextscale.scales.schedule import ScaleSchedule, Visit
from nextscale.transformer.adaln_block import Block
from nextscale.transformer.cache import KVCache
from nextscale.transformer.cross_attention import AttentionPool, PaddedText, RMSNorm, TextKeysValues
from nextscale.transformer.infinity_config import InfinityConfig
from nextscale.transformer.next_scale import NextScaleTransformer, embedding
from nextscale.transformer.rope import rotations
from nextscale.transformer.visibility import make_spans

Reading = TypeVar("Reading")


@dataclass(frozen=True)
class Condition:
    """Tensors that depend only on the text. They are computed once per prompt and used at every scale."""

    embedding: Tensor
    """The pooled text, (B, C)."""
    blocks: list[Tensor]
    """gamma1, gamma2, scale1, scale2, shift1, shift2 of each block: (B, 6, C)."""
    head: Tensor
    """Scale and shift of the layer norm before the head: (B, 2, C)."""
    text_keys_values: list[TextKeysValues]
    """Keys and values of the text in each block."""

    def first(self, count: int) -> Condition:
        """Return the tensors of the first ``count`` sequences."""
        blocks, text = [block[:count] for block in self.blocks], [pairs[:count] for pairs in self.text_keys_values]
        return Condition(self.embedding[:count], blocks, self.head[:count], text)


class Infinity(NextScaleTransformer):
    """Transformer that predicts the logits of every bit from a text and the canvas at each scale.

    Training and evaluation mode give the same results, because text drop and drop path are arguments.
    """

    config: InfinityConfig

    def __init__(self, config: InfinityConfig):
        super().__init__()
        c = config
        self.config = config
        self.words = make_words(c.words)
        self.unconditional_text = nn.Parameter(torch.empty(c.text_rows, c.text_width))
        self.text_norm = RMSNorm(c.text_width)
        self.text_pool = AttentionPool(c.text_width, c.width, c.pool_heads)
        self.text_up = nn.Linear(c.text_width, c.width)
        self.text_down = nn.Linear(c.width, c.width)
        self.start_embedding = nn.Parameter(torch.empty(1, 1, c.width))
        self.word_embedding = nn.Linear(c.bits, c.width)
        self.level_embedding = embedding(c.levels, c.width)
        self.blocks = nn.ModuleList(Block(c.width, c.heads, c.hidden, True, cross=True) for _ in range(c.depth))
        self.adaln = nn.Linear(c.width, 6 * c.width)
        self.adaln_offset = nn.ParameterList(nn.Parameter(torch.empty(1, 1, 6, c.width)) for _ in range(c.depth))
        self.head_adaln = nn.Linear(c.width, 2 * c.width)
        self.head = nn.Linear(c.width, 2 * c.bits)
        if self.device.type != "meta":
            self.init_weights()

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None, gamma: float = 5e-6) -> Infinity:
        """Initialize the weights as the official training script does.

        Matrices, embeddings and the pool's query: normal of std sqrt(1 / 3C); biases 0. Then the head * 0.02, the
        head's AdaLN * 1e-3, the last matrix of each branch / sqrt(2 depth). The offsets are randn / sqrt(C), the gamma
        rows * ``gamma`` and the others * 1e-3. The features for "no prompt" come from a generator of their own, as in
        the official code: a normal of std 1.2, truncated at +-2, / sqrt(T), seed 0.

        Args:
            generator: random generator; None uses PyTorch's global one.
            gamma: the script's ``alng``.
        """
        c = self.config
        std = math.sqrt(1 / c.width / 3)
        for name, module in self.named_modules():
            if name.startswith("words."):
                continue
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=std, generator=generator)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for parameter in (self.start_embedding, self.text_pool.query):
            nn.init.normal_(parameter, std=std, generator=generator)
        nn.init.trunc_normal_(self.unconditional_text, std=1.2, a=-2, b=2, generator=torch.Generator().manual_seed(0))
        self.unconditional_text.div_(math.sqrt(c.text_width))
        self.head.weight.mul_(0.02)
        self.head_adaln.weight.mul_(1e-3)
        for block in self.blocks:
            assert isinstance(block, Block) and block.cross_attention is not None
            for last in (block.attention.proj, block.cross_attention.proj, block.mlp.down):
                last.weight.div_(math.sqrt(2 * c.depth))
        for offset in self.adaln_offset:
            nn.init.normal_(offset, std=1 / math.sqrt(c.width), generator=generator)
            offset[:, :, :2].mul_(gamma)
            offset[:, :, 2:].mul_(1e-3)
        if self.words is not None:
            self.words.init_weights(generator)
        return self

    def encode(self, text: TextFeatures | WordIds) -> TextFeatures:
        """Return the features of prompts; see `features_of`."""
        return features_of(text, self.words)

    def condition(self, text: TextFeatures | WordIds) -> Condition:
        """Return the pooled text, the adaptive vectors, and the keys and values of all blocks.

        Autocast is off, because casting the matrices would take longer than the products with so few rows.
        """
        text = self.encode(text)
        condition, memory = self._read(text)
        with torch.autocast(self.autocast_device, enabled=False):
            pairs = [block.text_keys_values(memory, text.lengths) for block in self.blocks]  # type: ignore[operator]
        return replace(condition, text_keys_values=pairs)

    def _read(self, text: TextFeatures) -> tuple[Condition, Tensor]:
        """Return the condition without keys and values, and the packed texts for them, (sum of lengths, C)."""
        with torch.autocast(self.autocast_device, enabled=False):
            features = self.text_norm(text.features)
            embedding = self.text_pool(features, text.lengths).float()
            activation = F.silu(embedding)
            shared = self.adaln(activation).float().unflatten(-1, (6, -1))
            condition = Condition(
                embedding,
                [shared + offset.squeeze(1) for offset in self.adaln_offset],
                self.head_adaln(activation).float().unflatten(-1, (2, -1)),
                [],
            )
            return condition, self.text_down(F.gelu(self.text_up(features), approximate="tanh"))

    @overload
    def forward(
        self,
        text: TextFeatures | WordIds,
        inputs: Tensor,
        schedule: ScaleSchedule | None = None,
        *,
        dropped: Tensor | None = None,
        paths: Tensor | None = None,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        text: TextFeatures | WordIds,
        inputs: Tensor,
        schedule: ScaleSchedule | None = None,
        *,
        dropped: Tensor | None = None,
        paths: Tensor | None = None,
        readout: Callable[[Tensor], Reading],
    ) -> Reading: ...

    def forward(
        self,
        text: TextFeatures | WordIds,
        inputs: Tensor,
        schedule: ScaleSchedule | None = None,
        *,
        dropped: Tensor | None = None,
        paths: Tensor | None = None,
        readout: Callable[[Tensor], Reading] | None = None,
    ) -> Tensor | Reading:
        """Compute all scales at once under teacher forcing. A token sees its own scale and the scales in `Visit.sees`.

        Args:
            text: B prompts.
            inputs: (B, L - n_0, bits), from `ImageTokenizer.teacher_forcing_input`.
            schedule: None means that of the configuration.
            dropped: (B,) bool, the prompts to replace with "no prompt"; see `TextConditioner.drop`.
            paths: (depth, 2, B), drop-path factor of self-attention and MLP: 0 or 1 / (1 - rate).
            readout: function applied to the features (B, L, C) instead of `logits`.

        Returns:
            (B, L, bits, 2) float32 logits, or the result of ``readout``.
        """
        schedule = schedule or self.schedule
        self.config.check_schedule(schedule)
        text = self.encode(text)
        text = text if dropped is None else self.conditioner.drop(text, dropped)
        condition, memory = self._read(text)
        padding = Padding.of(text.lengths, memory.device)
        padded = PaddedText(padding.pad(memory), padding.mask)
        x = torch.cat((self.start(condition), self.word_embedding(inputs)), dim=1)
        x = x + self.level_embedding(torch.tensor(schedule.level_ids, device=x.device))
        spans = make_spans(schedule.visits, schedule.slices, x.device)
        rotation = self.rotation(schedule.visits)
        for i, block in enumerate(self.blocks):
            path_scale = None if paths is None else paths[i]
            x = block(x, condition.blocks[i], spans=spans, path_scale=path_scale, rotation=rotation, text=padded)
        features = self.features(x, condition)
        return self.logits(features) if readout is None else readout(features)

    def forward_scale(
        self,
        visit: Visit,
        inputs: Tensor | None,
        condition: Condition,
        cache: KVCache,
        after_block: Callable[[Tensor, int], Tensor] | None = None,
    ) -> Tensor:
        """Compute one scale for sampling. It reads earlier scales from the cache, and adds its own keys and values.

        Args:
            inputs: (B, n_k, bits), the canvas at the size of this scale; None for scale 0.
            cache: from `make_cache`. Visits must come in the order of the schedule.
            after_block: called as (x (B, n_k, C), index of the block) after each block; its result replaces x.

        Returns:
            (B, n_k, C) float32, the features to pass to `logits`.
        """
        x = self.start(condition) if inputs is None else self.word_embedding(inputs)
        x = x + self.level_embedding.weight[visit.index]
        rotation = self.rotation([visit])
        for i, block in enumerate(self.blocks):
            past = cache.layer(i, visit.index)
            text = condition.text_keys_values[i]
            x = block(x, condition.blocks[i], past=past, rotation=rotation, text=text)
            if after_block is not None:
                x = after_block(x, i)
        return self.features(x, condition)

    def rotation(self, visits: Sequence[Visit]) -> Tensor:
        """Return the rotary positions of the tokens of some visits, (2, n, C / H / 2)."""
        return rotations(visits, self.config.width // self.config.heads, self.config.rope, self.device)

    def logits(self, features: Tensor, visit: Visit | None = None) -> Tensor:
        """Apply the linear head, which all visits share. (B, n, C) -> (B, n, bits, 2) float32."""
        return self.head(features).float().unflatten(-1, (self.config.bits, 2))

    def make_cache(self, schedule: ScaleSchedule, batch: int, dtype: torch.dtype | None = None) -> KVCache:
        """Return an empty cache for ``batch`` sequences on the model's device.

        Args:
            dtype: type of keys and values; None means `compute_dtype`.

        Raises:
            InputError: see `InfinityConfig.check_schedule`.
        """
        self.config.check_schedule(schedule)
        return super().make_cache(schedule, batch, dtype)

    def guidance_weights(self, cfg: float | tuple[float, ...], schedule: ScaleSchedule) -> tuple[float, ...]:
        """Return the weight t_k = cfg_k - 1 of each scale, for (1 + t) * conditional - t * unconditional.

        A cfg of 1 is no guidance. A single number holds for all scales.
        """
        return tuple(c - 1 for c in (cfg if isinstance(cfg, tuple) else (cfg,) * schedule.num_scales))

    @property
    def tokenizer_fields(self) -> dict[str, Any]:
        """Fields of the tokenizer's configuration that the model depends on, and their values."""
        return {"quantizer": "bits", "token_dim": self.config.bits}

    @property
    def conditioner(self) -> TextConditioner:
        """Return the conditioner, which checks and batches text features."""
        return TextConditioner(self.unconditional_text, self.encode)

    @classmethod
    def from_pretrained(cls, folder: str | Path, as_stored: bool = False) -> Infinity:
        """Load from a folder of `save_pretrained` or of a training run (its newest EMA weights).

        Args:
            as_stored: keep the type of the stored weights, instead of converting them to float32.
        """
        return load_module(folder, InfinityConfig, cls, as_stored)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        save_module(folder, self.config, self)
