"""InfinityStar, the next-scale transformer for text to image and text to video (arXiv 2511.04675, section 3).

A text is a prefix of the sequence. The tokens of a visit see the text, each other, and the largest scale of the clip
before theirs, so that no mask is needed: every visit is one attention over all of these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.conditioning.continued_text import ContinuedText
from nextscale.conditioning.padding import Padding
from nextscale.conditioning.text import TextConditioner, TextFeatures, WordIds, features_of
from nextscale.conditioning.words_config import make_words
from nextscale.io.module_folder import load_module, save_module
from nextscale.scales.schedule import Visit
from nextscale.scales.spacetime import SpacetimeSchedule
from nextscale.transformer.cache import KVCache, plan_cache
from nextscale.transformer.cross_attention import RMSNorm, TextKeysValues
from nextscale.transformer.infinity_star_config import InfinityStarConfig
from nextscale.transformer.qwen_block import QwenBlock
from nextscale.transformer.spacetime_rope import text_rotations, visit_rotations
from nextscale.transformer.text_prefix import GivenGroup, Prefix, attend_to, attend_with_text


class InfinityStar(nn.Module):
    """Transformer that predicts the logits of every bit of a visit from a text and the canvas of the clip."""

    float64_layers = ("head", "semantic_head")
    """Layers whose weights `logits` reads, so that they cannot be replaced."""

    def __init__(self, config: InfinityStarConfig):
        super().__init__()
        self.config = c = config
        self.words = make_words(c.words)
        self.unconditional_text = nn.Parameter(torch.empty(c.text_rows, c.text_width))
        self.text_proj = nn.Linear(c.text_width, c.width)
        self.word_embedding = nn.Linear(c.bits, c.width)
        self.blocks = nn.ModuleList(QwenBlock(c.width, c.heads, c.kv_heads, c.hidden) for _ in range(c.depth))
        self.norm = RMSNorm(c.width)
        self.head = nn.Linear(c.width, 2 * c.bits)
        self.semantic_head = nn.Linear(c.width, 2 * c.semantic_bits)
        if self.device.type != "meta":
            self.init_weights()

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> InfinityStar:
        """Initialize the weights as the official training script does: matrices normal with std 0.02, biases 0.

        The features for "no prompt" come from a generator of their own: a normal of std 1.2, truncated at +-2, /
        sqrt(T), seed 0.

        Args:
            generator: random generator; None uses PyTorch's global one.
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and not name.startswith("words."):
                nn.init.normal_(module.weight, std=0.02, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.unconditional_text, std=1.2, a=-2, b=2, generator=torch.Generator().manual_seed(0))
        self.unconditional_text.div_(math.sqrt(self.config.text_width))
        if self.words is not None:
            self.words.init_weights(generator)
        return self

    @property
    def device(self) -> torch.device:
        return self.unconditional_text.device

    @property
    def conditioner(self) -> TextConditioner:
        """Return the conditioner, which checks and batches text features."""
        return TextConditioner(self.unconditional_text, self.encode)

    def encode(self, text: TextFeatures | WordIds) -> TextFeatures:
        """Return the features of prompts; see `features_of`."""
        return features_of(text, self.words)

    def condition(self, text: TextFeatures) -> Prefix:
        """Compute the keys and values of B texts in all layers. A text sees itself, and nothing else.

        Args:
            text: the videos of a `ContinuedText` follow the texts.
        """
        text_group, *others = self.given_groups(text)
        prefix = self.prefix(*text_group[:2], text.lengths, text_group.mask)
        for x, rotation, _ in others:
            prefix = prefix.followed_by(self.prefix(x, rotation, (x.shape[1],) * len(text)))
        return prefix

    def given_groups(self, text: TextFeatures) -> list[GivenGroup]:
        """Return the tokens of the texts, and those of given videos (`ContinuedText`)."""
        padding = Padding.of(text.lengths, self.device)
        rotation = text_rotations(max(text.lengths), self.config.head_dim).to(self.device)
        x = padding.pad(self.text_proj(text.features))
        groups = [GivenGroup(x, rotation, None if padding.is_full else padding.mask)]
        for visits, inputs in text.given if isinstance(text, ContinuedText) else ():
            groups.append(GivenGroup(self.word_embedding(inputs), self.rotation(visits)))
        return groups

    def prefix(self, x: Tensor, rotation: Tensor, lengths: Sequence[int], mask: Tensor | None = None) -> Prefix:
        """Compute the keys and values of tokens (B, l, C) that see each other, the first ones as many as lengths."""
        layers: list[TextKeysValues] = []

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            layers.append([(k[i, :, :n], v[i, :, :n]) for i, n in enumerate(lengths)])
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)

        for block in self.blocks:
            x = block(x, rotation, attend)
        return Prefix(layers)

    def forward(
        self,
        text: TextFeatures | WordIds,
        inputs: Tensor,
        visits: Sequence[Visit],
        dropped: Tensor | None = None,
        readout: Callable[[Tensor, Visit], Any] | None = None,
    ) -> list[Any]:
        """Compute some visits at once under teacher forcing, one of each scale.

        Args:
            text: B prompts.
            inputs: (B, L, bits), the canvases before these visits at their sizes, one visit after another.
            visits: at most one visit of each scale. A visit of a later clip sees the one of the largest scale of the
                clip before, which must be among them.
            dropped: (B,) bool, the prompts to replace with "no prompt"; see `TextConditioner.drop`.
            readout: called with the features (B, n, C) of each visit; None means `logits`.

        Returns:
            What ``readout`` returns for each visit: by default its logits, (B, n, d, 2) float32, with d = 16 for
            semantic and 64 for detail tokens.
        """
        text = self.encode(text)
        groups = self.given_groups(text if dropped is None else self.conditioner.drop(text, dropped))
        lengths = [*(group.x.shape[1] for group in groups), *(visit.num_tokens for visit in visits)]
        slices = [slice(*pair) for pair in pairwise(accumulate(lengths, initial=0))]
        parts = slices[len(groups) :]
        given, mask = slice(parts[0].start), groups[0].mask
        largest = {visit.clip: i for i, visit in enumerate(visits)}  # the last one of each clip
        seen = [[parts[largest[visit.clip - 1]]] if visit.sees else [] for visit in visits]
        x = torch.cat([*(group.x for group in groups), self.word_embedding(inputs)], 1)
        rotation = torch.cat([*(group.rotation for group in groups), self.rotation(visits)], 1)

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            own = [(part, (part,), group.mask) for part, group in zip(slices, groups, strict=False)]
            own += [(part, (given, *others, part), mask) for part, others in zip(parts, seen, strict=True)]
            return torch.cat([attend_to(q, k, v, *each) for each in own], 2)

        for block in self.blocks:
            x = block(x, rotation, attend)
        features = self.features(x)
        if len({visit.quantizer for visit in visits}) == 1:
            features = features + self._zero_of_other_head(visits[0])
        readout = readout or self.logits
        return [readout(features[:, part], visit) for part, visit in zip(parts, visits, strict=True)]

    def _zero_of_other_head(self, visit: Visit) -> Tensor:
        """Return 0 with a gradient of 0 for the head that a visit does not use, so that all weights have gradients."""
        head = self.semantic_head if visit.quantizer else self.head
        return 0 * (head.weight.sum() + head.bias.sum())

    def forward_scale(self, visit: Visit, inputs: Tensor | None, condition: Prefix, cache: KVCache) -> Tensor:
        """Compute one visit for sampling. It reads what it sees from the cache, and adds its own keys and values.

        Args:
            inputs: (B, n, bits), the canvas of the clip at the size of this visit; None for the first visit.
            cache: from `make_cache`. Visits must come in the order of the schedule.

        Returns:
            (B, n, C) float32, the features to pass to `logits`.
        """
        if inputs is None:
            inputs = torch.zeros(len(condition.layers[0]), visit.num_tokens, self.config.bits, device=self.device)
        x = self.word_embedding(inputs)
        rotation = self.rotation([visit])
        for i, block in enumerate(self.blocks):
            past, pairs = cache.layer(i, visit.index), condition.layers[i]
            x = block(x, rotation, lambda q, k, v, p=past, t=pairs: attend_with_text(q, *p.extend(k, v), t))
        return self.features(x)

    def rotation(self, visits: Sequence[Visit]) -> Tensor:
        """Return the rotary positions of the tokens of some visits, (2, n, d / 2)."""
        return visit_rotations(visits, self.config.head_dim, self.config.text_rows).to(self.device)

    def features(self, x: Tensor) -> Tensor:
        """Apply the last norm. (B, n, C) -> (B, n, C) float32."""
        return self.norm(x)

    def logits(self, features: Tensor, visit: Visit) -> Tensor:
        """Apply the head of the kind of a visit's tokens. (B, n, C) -> (B, n, d, 2) float32.

        The product is computed in float64, because the official guidance of 34 multiplies rounding errors by 33.
        """
        head = self.head if visit.quantizer else self.semantic_head
        logits = F.linear(features.double(), head.weight.double(), head.bias.double())
        return logits.float().unflatten(-1, (-1, 2))

    def guidance_weights(self, cfg: float | tuple[float, ...], schedule: SpacetimeSchedule) -> tuple[float, ...]:
        """Return the weight t = cfg - 1 of each visit, for (1 + t) * conditional - t * unconditional.

        Args:
            cfg: one number, or one for each scale of all clips. 1 is no guidance.
        """
        return tuple((cfg[visit.scale] if isinstance(cfg, tuple) else cfg) - 1 for visit in schedule.visits)

    @property
    def tokenizer_fields(self) -> dict[str, int]:
        """Fields of the tokenizer's configuration that the model depends on, and their values."""
        return {"code_dim": self.config.bits, "semantic_bits": self.config.semantic_bits}

    def make_cache(self, schedule: SpacetimeSchedule, batch: int, dtype: torch.dtype | None = None) -> KVCache:
        """Return an empty cache for ``batch`` sequences. It stores what a later visit sees, while one does.

        Args:
            dtype: type of keys and values; None means that of the matrices.
        """
        c, plans = self.config, plan_cache(schedule.visits, schedule.tokens_per_visit)
        of_matrices: torch.dtype = self.blocks[0].attention.value.weight.dtype  # type: ignore[union-attr]
        return KVCache(plans, c.depth, batch, c.kv_heads, c.head_dim, self.device, dtype or of_matrices)

    @classmethod
    def from_pretrained(cls, folder: str | Path, as_stored: bool = False) -> InfinityStar:
        """Load from a folder of `save_pretrained`.

        Args:
            as_stored: keep the type of the stored weights, instead of converting them to float32.
        """
        return load_module(folder, InfinityStarConfig, cls, as_stored)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        save_module(folder, self.config, self)
