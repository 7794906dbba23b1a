"""The keys and values of texts in front of a sequence, which all visits see (InfinityStar)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nextscale.conditioning.padding import Padding
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

    def padded(self, layer: int) -> PaddedPrefix:
        """Return the keys and values of a layer in one tensor for all texts, for training."""
        pairs = self.layers[layer]
        lengths = [keys.shape[1] for keys, _ in pairs]
        most = max(lengths)
        keys, values = (
            torch.stack([F.pad(pair[i], (0, 0, 0, most - pair[i].shape[1])) for pair in pairs]) for i in (0, 1)
        )
        return PaddedPrefix(keys, values, Padding.of(lengths, keys.device).mask if min(lengths) < most else None)


class PaddedPrefix(NamedTuple):
    """The keys and values of one layer that all visits see, padded to the length of the longest text."""

    keys: Tensor
    """(B, G, l, d)."""
    values: Tensor
    mask: Tensor | None
    """(B, 1, 1, l) bool, False for padding; None if there is none."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend to visual tokens and to the text of each sample, all samples at once; see `attend_with_text`."""
        keys, values = torch.cat((self.keys.to(k.dtype), k), 2), torch.cat((self.values.to(v.dtype), v), 2)
        mask = None if self.mask is None else F.pad(self.mask, (0, k.shape[2]), value=True)
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, enable_gqa=True)


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
