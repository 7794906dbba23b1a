"""Content types of examples and batches: pixels, tokens or latents."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Pixels(NamedTuple):
    """Images or videos."""

    values: Tensor
    """(3, H, W) for an example, (B, 3, H, W) for a batch; float32 in [-1, 1]. A video has T frames: (3, T, H, W)."""


class Tokens(NamedTuple):
    """Images as tokens of a tokenizer."""

    values: Tensor
    """(L, *shape) for an example, (B, L, *shape) for a batch, all scales concatenated. int64 codes have shape (), bool
    bits shape (d,)."""


class Latents(NamedTuple):
    """Videos as latents of a video tokenizer, before they become bits."""

    values: Tensor
    """(D, N, h, w) for an example, (B, D, N, h, w) for a batch; floating-point numbers."""


Content = Pixels | Tokens | Latents
