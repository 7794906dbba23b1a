"""The keys and values of texts in front of a sequence, which all visits see (InfinityStar)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nextscale.transformer.cross_attention import TextKeysValues


@dataclass(frozen=True)
class Prefix:
    """The keys and values that all visits see: those of the texts, and of given videos."""

    layers: list[TextKeysValues]
    """For each layer, one pair (G, l, d) for each of B texts."""

    def first(self, count: int) -> Prefix:
        """Return those of the first ``count`` texts."""
        return Prefix([pairs[:count] for pairs in self.layers])

    def followed_by(self, other: Prefix) -> Prefix:
        """Return both, for each text."""
        layers = []
        for ours, theirs in zip(self.layers, other.layers, strict=True):
            pairs = zip(ours, theirs, strict=True)
            layers.append([(torch.cat((a[0], b[0]), 1), torch.cat((a[1], b[1]), 1)) for a, b in pairs])
        return Prefix(layers)


class GivenGroup(NamedTuple):
    """Tokens in front of a sequence that see each other, and that all visits see."""

    x: Tensor
    """(B, l, C)."""
    rotation: Tensor
    """Rotary positions, (2, l, d / 2)."""
    mask: Tensor | None = None
    """(B, 1, 1, l) bool, False for padding; None if there is none."""


def attend_to(
    q: Tensor, k: Tensor, v: Tensor, part: slice, seen: Sequence[slice], mask: Tensor | None = None
) -> Tensor:
    """Compute the attention of a part of a sequence to some parts.

    Args:
        q: (B, H, L, d).
        k, v: (B, G, L, d).
        part: the tokens that attend.
        seen: the tokens that they see.
        mask: (B, 1, 1, l) bool, which of the first l tokens are seen; None shows all.
    """
    keys, values = (torch.cat([x[:, :, other] for other in seen], 2) for x in (k, v))
    if mask is not None:
        mask = F.pad(mask, (0, keys.shape[2] - mask.shape[3]), value=True)
    return F.scaled_dot_product_attention(q[:, :, part], keys, values, attn_mask=mask, enable_gqa=True)


def attend_with_text(q: Tensor, k: Tensor, v: Tensor, text: TextKeysValues) -> Tensor:
    """Attend to visual tokens and to the text of each sample, so that no sample depends on the others.

    Args:
        q: (B, H, n, d).
        k, v: of the visual tokens that these see, (B, G, m, d).
        text: one pair (G, l, d) for each sample. Each sample is computed alone if texts differ in length.
    """
    groups = [slice(None)] if len({len(keys[0]) for keys, _ in text}) == 1 else [slice(i, i + 1) for i in range(len(q))]
    attended = []
    for group in groups:
        keys, values = (torch.stack([pair[i] for pair in text[group]]) for i in (0, 1))
        all_keys, all_values = torch.cat((keys.to(k.dtype), k[group]), 2), torch.cat((values.to(v.dtype), v[group]), 2)
        attended.append(F.scaled_dot_product_attention(q[group], all_keys, all_values, enable_gqa=True))
    return torch.cat(attended)
