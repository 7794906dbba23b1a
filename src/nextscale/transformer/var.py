"""VAR, the next-scale transformer (arXiv 2404.02905, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.conditioning.classes import ClassConditioner
from nextscale.errors import InputError
from nextscale.io.config import LARGEST_TABLE, LARGEST_WIDTH, as_config, check_fields
from nextscale.io.module_folder import load_module, save_module
from nextscale.scales.schedule import OFFICIAL_256, ScaleSchedule, Visit
from nextscale.transformer.adaln_block import Block
from nextscale.transformer.cache import KVCache
from nextscale.transformer.next_scale import NextScaleTransformer, embedding
from nextscale.transformer.visibility import make_spans

Reading = TypeVar("Reading")


@dataclass(frozen=True)
class VARConfig:
    """Sizes of a VAR. The defaults are VAR-d16 for 256 pixels. Official models: width 64 * depth, ``depth`` heads."""

    schedule: ScaleSchedule = OFFICIAL_256
    depth: int = field(default=16, metadata={"most": 1024})
    width: int = field(default=1024, metadata={"most": LARGEST_WIDTH})
    heads: int = 16
    mlp_ratio: float = field(default=4.0, metadata={"most": 1024.0})
    num_classes: int = field(default=1000, metadata={"most": LARGEST_TABLE})
    codebook_size: int = field(default=4096, metadata={"most": LARGEST_TABLE})
    """V, as in the tokenizer."""
    code_dim: int = field(default=32, metadata={"most": LARGEST_WIDTH})
    """D, as in the tokenizer."""
    shared_adaln: bool = False
    """Share one AdaLN matrix among all blocks, each with a learned offset, instead of one matrix per block."""
    l2_norm: bool = True
    """Use cosine attention with a learned scale per head."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", as_config(ScaleSchedule, self.schedule))
        check_fields(self)
        if self.mlp_ratio * self.width < 1:
            raise InputError(f"mlp_ratio must be positive, not {self.mlp_ratio}")
        if self.width % self.heads:
            raise InputError(f"width must be a multiple of heads, not {self.width} with {self.heads} heads")

    @classmethod
    def of_depth(cls, depth: int, **fields: object) -> VARConfig:
        """Return the configuration with the official proportions: width 64 * depth, ``depth`` heads."""
        return cls(depth=depth, width=64 * depth, heads=depth, **fields)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Condition:
    """Tensors that depend only on the class. They are computed once per image and used at every scale."""

    embedding: Tensor
    """(B, C)."""
    blocks: list[Tensor]
    """gamma1, gamma2, scale1, scale2, shift1, shift2 of each block: (B, 6, C)."""
    head: Tensor
    """Scale and shift of the layer norm before the head: (B, 2, C)."""

    def first(self, count: int) -> Condition:
        """Return the tensors of the first ``count`` sequences."""
        return Condition(self.embedding[:count], [block[:count] for block in self.blocks], self.head[:count])


def guidance_ramp(cfg: float, schedule: ScaleSchedule) -> tuple[float, ...]:
    """Return VAR's guidance weights t_k = cfg * k / (K - 1): none at the first scale, ``cfg`` at the last.

    The guided prediction is (1 + t_k) * conditional - t_k * unconditional.
    """
    return tuple(cfg * schedule.position(k) for k in range(schedule.num_scales))


class VAR(NextScaleTransformer):
    """Transformer that predicts the logits of every token from class labels and the canvas at each scale.

    The label ``config.num_classes`` means "no class". Training and evaluation mode give the same results, because label
    drop and drop path are arguments.
    """

    config: VARConfig

    def __init__(self, config: VARConfig):
        super().__init__()
        c = config
        self.config = config
        self.class_embedding = embedding(c.num_classes + 1, c.width)
        self.start_embedding = nn.Parameter(torch.empty(1, c.schedule.tokens_per_scale[0], c.width))
        self.word_embedding = nn.Linear(c.code_dim, c.width)
        self.level_embedding = embedding(c.schedule.num_scales, c.width)
        self.position_embedding = nn.Parameter(torch.empty(1, c.schedule.num_tokens, c.width))
        self.blocks = nn.ModuleList(
            Block(c.width, c.heads, round(c.width * c.mlp_ratio), c.l2_norm) for _ in range(c.depth)
        )
        adaln_count = 1 if c.shared_adaln else c.depth
        self.adaln = nn.ModuleList(nn.Linear(c.width, 6 * c.width) for _ in range(adaln_count))
        self.adaln_offset = nn.ParameterList(
            nn.Parameter(torch.empty(1, 1, 6, c.width)) for _ in range(c.depth if c.shared_adaln else 0)
        )
        self.head_adaln = nn.Linear(c.width, 2 * c.width)
        self.head = nn.Linear(c.width, c.codebook_size)
        if self.device.type != "meta":
            self.init_weights()

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None, gamma: float = 1e-5) -> VAR:
        """Initialize the weights as the official code does.

        Matrices and embeddings: normal of std sqrt(1 / 3C), truncated at +-2; biases 0. Then the head * 0.02, the
        head's AdaLN * 0.5, the last matrix of each residual branch / sqrt(2 depth), AdaLN's gamma rows * ``gamma``,
        its other rows * 0.5. With shared AdaLN the offsets, randn / sqrt(C), get these two factors instead.

        Args:
            generator: random generator; None uses PyTorch's global one.
            gamma: the recipe's ``alng``: 1e-3 for d16 and d20 down to 5e-6 for d36.
        """
        c = self.config
        std = math.sqrt(1 / c.width / 3)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=std, generator=generator)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for parameter in (self.start_embedding, self.position_embedding):
            nn.init.trunc_normal_(parameter, std=std, generator=generator)
        self.head.weight.mul_(0.02)
        self.head_adaln.weight.mul_(0.5)
        for block in self.blocks:
            assert isinstance(block, Block)
            block.attention.proj.weight.div_(math.sqrt(2 * c.depth))
            block.mlp.down.weight.div_(math.sqrt(2 * c.depth))
        if c.shared_adaln:
            for offset in self.adaln_offset:
                nn.init.normal_(offset, std=1 / math.sqrt(c.width), generator=generator)
                offset[:, :, :2].mul_(gamma)
                offset[:, :, 2:].mul_(0.5)
        else:
            for adaln in self.adaln:
                assert isinstance(adaln, nn.Linear)
                adaln.weight[: 2 * c.width].mul_(gamma)
                adaln.weight[2 * c.width :].mul_(0.5)
        return self

    def condition(self, labels: Tensor) -> Condition:
        """Return AdaLN(c) = Linear(SiLU(embed(c))) for all blocks and the head. (B,) int64 -> Condition.

        Autocast is off, because casting the matrices would take longer than the products with so few rows.
        """
        with torch.autocast(self.autocast_device, enabled=False):
            embedding = self.class_embedding(labels)
            activation = F.silu(embedding)
            blocks = [adaln(activation).float().unflatten(-1, (6, -1)) for adaln in self.adaln]
            if self.config.shared_adaln:
                blocks = [blocks[0] + offset.squeeze(1) for offset in self.adaln_offset]
            return Condition(embedding, blocks, self.head_adaln(activation).float().unflatten(-1, (2, -1)))

    @overload
    def forward(self, labels: Tensor, inputs: Tensor, path_scale: Tensor | None = None) -> Tensor: ...

    @overload
    def forward(
        self, labels: Tensor, inputs: Tensor, path_scale: Tensor | None, readout: Callable[[Tensor], Reading]
    ) -> Reading: ...

    def forward(
        self,
        labels: Tensor,
        inputs: Tensor,
        path_scale: Tensor | None = None,
        readout: Callable[[Tensor], Reading] | None = None,
    ) -> Tensor | Reading:
        """Compute all scales at once under teacher forcing. A token sees its own scale and the scales in `Visit.sees`.

        Args:
            labels: (B,) int64 in 0..num_classes.
            inputs: (B, L - n_0, D), from `ImageTokenizer.teacher_forcing_input`.
            path_scale: (depth, 2, B), drop-path factor of each residual branch: 0 or 1 / (1 - rate).
            readout: function applied to the features (B, L, C) instead of `logits`, such as a loss that is computed
                in parts.

        Returns:
            (B, L, V) float32 logits, or the result of ``readout``.
        """
        condition = self.condition(labels)
        x = torch.cat((self.start(condition), self.word_embedding(inputs)), dim=1)
        levels = torch.tensor(self.schedule.level_ids, device=x.device)
        x = x + self.level_embedding(levels) + self.position_embedding
        spans = make_spans(self.schedule.visits, self.schedule.slices, x.device)
        for i, block in enumerate(self.blocks):
            x = block(x, condition.blocks[i], spans=spans, path_scale=None if path_scale is None else path_scale[i])
        features = self.features(x, condition)
        return self.logits(features) if readout is None else readout(features)

    def forward_scale(self, visit: Visit, inputs: Tensor | None, condition: Condition, cache: KVCache) -> Tensor:
        """Compute one scale for sampling. It reads earlier scales from the cache, and adds its own keys and values.

        Args:
            inputs: (B, n_k, D), the canvas at the size of this scale; None for scale 0.
            cache: from `make_cache`. Visits must come in the order of the schedule.

        Returns:
            (B, n_k, C) float32, the features to pass to `logits`.
        """
        x = self.start(condition) if inputs is None else self.word_embedding(inputs)
        x = x + self.level_embedding.weight[visit.index] + self.position_embedding[:, self.schedule.slices[visit.index]]
        for i, block in enumerate(self.blocks):
            x = block(x, condition.blocks[i], past=cache.layer(i, visit.index))
        return self.features(x, condition)

    def logits(self, features: Tensor, visit: Visit | None = None) -> Tensor:
        """Apply the linear head, which all visits share. (B, n, C) -> (B, n, V) float32."""
        return self.head(features).float()

    def guidance_weights(self, cfg: float | tuple[float, ...], schedule: ScaleSchedule) -> tuple[float, ...]:
        """Return the guidance weight of each scale: `guidance_ramp`, or ``cfg`` itself if it has several values."""
        return cfg if isinstance(cfg, tuple) else guidance_ramp(cfg, schedule)

    @property
    def tokenizer_fields(self) -> dict[str, Any]:
        """Fields of the tokenizer's configuration that the model depends on, and their values."""
        fields = {name: getattr(self.config, name) for name in ("schedule", "codebook_size", "code_dim")}
        return {"quantizer": "codebook", **fields}

    @property
    def conditioner(self) -> ClassConditioner:
        """Return the conditioner, which parses and batches class labels."""
        return ClassConditioner(self.config.num_classes)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> VAR:
        """Load from a folder of `save_pretrained` or a run of ``nextscale train var`` (its newest EMA weights)."""
        return load_module(folder, VARConfig, cls)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        save_module(folder, self.config, self)
