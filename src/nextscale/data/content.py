"""Content of examples and batches. The type says what the tensor holds."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Pixels(NamedTuple):
    """Images."""

    values: Tensor
    """(3, H, W) for an example, (B, 3, H, W) for a batch; float32 in [-1, 1]."""


class Tokens(NamedTuple):
    """Images that a tokenizer has already encoded."""

    values: Tensor
    """(L,) for an example, (B, L) for a batch; int64, all scales one after the other."""


Content = Pixels | Tokens
