"""Packed texts as padded batches, for attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Padding:
    """The places of packed tokens in a table with one row for each of B texts."""

    rows: Tensor
    """(sum of lengths,), the text of each token."""
    columns: Tensor
    """(sum of lengths,), the position of each token in its text."""
    size: tuple[int, int]
    """(B, l), where l is the largest length."""
    mask: Tensor
    """(B, 1, 1, l) bool, False for padding."""
    is_full: bool
    """Whether all texts have the same length, so that there is no padding."""

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> Padding:
        """Return the places of texts of these lengths.

        Args:
            lengths: number of tokens of each text, B integers of at least 1.
        """
        most = max(lengths)
        mask = torch.arange(most, device="cpu") < torch.tensor(lengths, device="cpu")[:, None]
        rows, columns = (places.to(device) for places in mask.nonzero(as_tuple=True))
        return cls(rows, columns, (len(lengths), most), mask[:, None, None].to(device), min(lengths) == most)

    def pad(self, x: Tensor) -> Tensor:
        """(sum of lengths, C) -> (B, l, C), with zeros as padding."""
        if self.is_full:
            return x.unflatten(0, self.size)
        return x.new_zeros(*self.size, x.shape[-1]).index_put((self.rows, self.columns), x)

    def pack(self, x: Tensor) -> Tensor:
        """(B, l, C) -> (sum of lengths, C), without padding."""
        return x.flatten(0, 1) if self.is_full else x[self.rows, self.columns]
