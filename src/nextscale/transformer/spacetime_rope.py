"""Rotary positions of four axes: visit, frame, row and column (InfinityStar, arXiv 2511.04675, section 3.2).

A quarter of the pairs of a head's channels carries each axis. The i-th token of a text has the visit coordinate i and
zeros. A visual token has R plus the number of its visit, where R is the largest number of tokens of a text; its frame
in the whole video; and its row and column, scaled to the last size of the schedule and rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from nextscale.errors import InputError
from nextscale.scales.schedule import Visit

BASE = 10000.0
AXES = 4


def text_rotations(count: int, head_dim: int) -> Tensor:
    """Return cos and sin of the first tokens of a text, (2, count, head_dim / 2) float32, on the CPU."""
    zeros = torch.zeros(count, device="cpu")
    return _rotations(torch.stack((torch.arange(count, device="cpu").float(), zeros, zeros, zeros), dim=-1), head_dim)


def visit_rotations(visits: Sequence[Visit], head_dim: int, text_rows: int) -> Tensor:
    """Return cos and sin of all tokens of some visits, (2, n, head_dim / 2), on the CPU.

    Tokens are in the order frame, row, column.

    Args:
        text_rows: R.
    """
    return torch.cat([_of_visit(v.size, v.frame, v.start, text_rows + v.number, head_dim) for v in visits], dim=1)


def check_spacetime_rope(head_dim: int) -> None:
    """Raise InputError for a head dimension that is not a multiple of 8."""
    if head_dim % (2 * AXES):
        raise InputError(
            f"rotary positions of {AXES} axes need heads whose dimension is a multiple of 8, not {head_dim}"
        )


def scaled(count: int, side: int) -> Tensor:
    """Return round(i * side / count) for i = 0 .. count - 1. Products are float32, and halves are rounded to even."""
    return torch.from_numpy(np.round(np.arange(count, dtype=np.float32) * np.float32(side / count)))


@lru_cache(maxsize=128)
def _of_visit(size: tuple[int, int, int], frame: tuple[int, int], start: int, number: int, head_dim: int) -> Tensor:
    t, h, w = size
    axes = torch.meshgrid(
        torch.tensor([float(number)], device="cpu"),
        torch.arange(start, start + t, device="cpu").float(),
        scaled(h, frame[0]),
        scaled(w, frame[1]),
        indexing="ij",
    )
    return _rotations(torch.stack(axes, dim=-1).flatten(0, -2), head_dim)


def _rotations(coordinates: Tensor, head_dim: int) -> Tensor:
    """(n, 4) -> cos and sin, (2, n, head_dim / 2). The angle of pair m of an axis is coordinate * 10000^(-m / M)."""
    pairs = head_dim // (2 * AXES)
    frequencies = 1.0 / BASE ** (torch.arange(pairs, device="cpu").float() / pairs)
    angles = (coordinates[..., None] * frequencies).flatten(1)
    return torch.stack((angles.cos(), angles.sin()))
