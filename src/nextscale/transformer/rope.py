"""Rotary position embedding of two dimensions (arXiv 2104.09864), as Infinity uses it.

The first half of a head's channels carries the row of a token, the second half its column. A rotation turns adjacent
pairs of channels. Coordinates refer to the frame of a visit, the largest grid of its template, so that a token map of
any size covers the same range.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nextscale.errors import InputError
from nextscale.scales.schedule import Visit

BASE = 10000.0
TABLE_SIDE = 128
"""Largest number of rows and columns of mode 1."""
MODES = (0, 1, 2)


def rotations(visits: Sequence[Visit], head_dim: int, mode: int, device: torch.device) -> Tensor:
    """Return cos and sin of the angles of all tokens of some visits, (2, n, head_dim / 2) float32.

    Args:
        head_dim: a multiple of 4.
        mode: ``rope2d_normalized_by_hw`` of the official code. 0: token (i, j) has the coordinates (i, j). 1: the
            tables of cos and sin are cropped to the aspect ratio and resized. 2: (i, j) is scaled to the frame and
            rounded to integers. Released models use 2.
    """
    return torch.cat([_of_visit(visit.size[1:], visit.frame, head_dim, mode) for visit in visits], dim=1).to(device)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate adjacent pairs (a, b) of channels to (a cos - b sin, a sin + b cos).

    In float32 this is the product of the complex numbers a + ib and cos + i sin, which has the same bits and takes a
    twentieth of the time on the CPU. torch.compile does not generate code for complex numbers.

    Args:
        x: (B, H, n, d).
        rotation: from `rotations`, (2, n, d / 2).
    """
    cos, sin = rotation
    pairs = x.unflatten(-1, (-1, 2))
    if x.dtype == torch.float32 and not torch.compiler.is_compiling():
        return torch.view_as_real(torch.view_as_complex(pairs) * torch.complex(cos, sin)).flatten(-2)
    a, b = pairs.unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


def check_rope(head_dim: int, mode: int) -> None:
    """Raise InputError for a head dimension that is not a multiple of 4, or an unknown mode."""
    if mode not in MODES:
        raise InputError(f"rope must be one of {', '.join(map(str, MODES))}, not {mode!r}")
    if head_dim % 4:
        raise InputError(f"rotary positions need heads whose dimension is a multiple of 4, not {head_dim}")


@functools.lru_cache(maxsize=64)
def _of_visit(size: tuple[int, int], frame: tuple[int, int], head_dim: int, mode: int) -> Tensor:
    """Return cos and sin for the tokens of one map, row by row, (2, h w, head_dim / 2), on the CPU."""
    with torch.device("cpu"):  # the result is kept for later calls, also if this one is on the meta device
        (h, w), (frame_h, frame_w) = size, frame
        if mode == 1:
            return _resized(size, frame, head_dim)
        rows, columns = torch.arange(h), torch.arange(w)
        if mode == 2:
            rows = torch.tensor([round(i * (frame_h / h)) for i in range(h)])
            columns = torch.tensor([round(j * (frame_w / w)) for j in range(w)])
        angles = _angles(rows.float(), columns.float(), head_dim).flatten(0, 1)
        return torch.stack((angles.cos(), angles.sin()))


def _resized(size: tuple[int, int], frame: tuple[int, int], head_dim: int) -> Tensor:
    """Return the tables of mode 1 for one map."""
    sides = torch.arange(TABLE_SIDE).float()
    angles = _angles(sides, sides, head_dim)
    frame_h, frame_w = frame
    rows = TABLE_SIDE if frame_h >= frame_w else int(TABLE_SIDE / frame_w * frame_h)
    columns = TABLE_SIDE if frame_w >= frame_h else int(TABLE_SIDE / frame_h * frame_w)
    tables = torch.stack((angles.cos(), angles.sin()))[:, :rows, :columns].movedim(-1, 1)
    return F.interpolate(tables, size=size, mode="bilinear", align_corners=True).flatten(2).mT


def _angles(rows: Tensor, columns: Tensor, head_dim: int) -> Tensor:
    """Return the angles [y f_0, y f_1, ..., x f_0, x f_1, ...] of a grid, (h, w, head_dim / 2).

    f_m = 10000^(-2m / (head_dim / 2)).
    """
    half = head_dim // 2
    frequencies = 1.0 / BASE ** (torch.arange(0, half, 2).float() / half)
    shape = len(rows), len(columns), half // 2
    y = torch.outer(rows, frequencies)[:, None].expand(shape)
    x = torch.outer(columns, frequencies)[None].expand(shape)
    return torch.cat((y, x), dim=-1)
