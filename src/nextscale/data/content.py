"""Content types of examples and batches: pixels or tokens."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Pixels(NamedTuple):
    """Images."""

    values: Tensor
    """(3, H, W) for an example, (B, 3, H, W) for a batch; float32 in [-1, 1]."""


class Tokens(NamedTuple):
    """Images as tokens of a tokenizer."""

    values: Tensor
    """(L, *shape) for an example, (B, L, *shape) for a batch, all scales concatenated. int64 codes have shape (), bool
    bits shape (d,)."""


Content = Pixels | Tokens
