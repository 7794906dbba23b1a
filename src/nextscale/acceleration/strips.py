"""Decode images in strips of rows, in less memory.

Each layer is computed strip by strip, and only its result is kept for the whole image. A strip of a convolution reads
some rows of its neighbours, and a group norm takes its statistics over the whole image. So there are no seams: an image
differs from one that is decoded at once by rounding only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.tokenizer.autoencoder import Decoder, Level, ResidualBlock

WHOLE = 2**26
"""Bytes of the largest activation that is computed at once."""
STRIP = 2**25
"""Bytes of a strip of an activation."""
STORED, STRIPS = 2, 11
"""Number of activations of the whole image, and of strips, that are in memory at the same time."""
HALO = 4
"""Rows of each neighbour that a strip of a 3x3 convolution reads. One is enough, but Winograd's convolution needs a
multiple of 4."""


@dataclass(frozen=True)
class Rows:
    """An activation (1, C, H, W) that is read in strips of rows, and may be computed only then."""

    height: int
    width: int
    read: Callable[[int, int], Tensor]
    """Return (1, C, n, W), the n rows from the first argument up to the second."""

    @classmethod
    def of(cls, x: Tensor) -> Rows:
        """Return the rows of an activation that is in memory, (1, C, H, W)."""
        return cls(x.shape[2], x.shape[3], lambda top, bottom: x[:, :, top:bottom])

    def strips(self, step: int) -> list[tuple[int, int]]:
        """Return the first and the last row + 1 of each strip of ``step`` rows."""
        return [(top, min(top + step, self.height)) for top in range(0, self.height, step)]


def decoding_bytes(activation: int) -> int:
    """Return the memory that an image needs, given the bytes of its largest activation."""
    return STORED * activation + STRIPS * STRIP


def decode(decoder: Decoder, features: Tensor, tiles: bool = False) -> Tensor:
    """Apply a decoder without gradients. Unlike `Decoder.forward`, it frees each activation as early as possible.

    Args:
        features: (B, D, h, w).
        tiles: compute levels of large activations in strips, one image after another.

    Returns:
        (B, 3, H, W).
    """
    if tiles:
        return torch.cat([levels(decoder, each, WHOLE) for each in features.split(1)])
    return levels(decoder, features, inf)


def levels(decoder: Decoder, features: Tensor, whole: float) -> Tensor:
    """Apply a decoder. Levels whose activations have more than ``whole`` bytes are computed in strips."""
    x: Tensor | Rows = decoder.middle(decoder.conv_in(features))
    step = 0
    for level in reversed(cast("list[Level]", list(decoder.levels))):
        blocks = cast("list[ResidualBlock]", list(level.blocks))
        height, width = (x.height, x.width) if isinstance(x, Rows) else x.shape[-2:]
        row = len(features) * blocks[-1].norm2.num_channels * width * features.itemsize
        if row * height <= whole or level.attentions:
            x = x.read(0, height) if isinstance(x, Rows) else x
            for layer in level.layers():
                x = layer(x)
        else:
            step = max(1, STRIP // row // HALO) * HALO
            x = x if isinstance(x, Rows) else Rows.of(x)
            for block in blocks:
                x = Rows.of(residual_block(block, x, step))
        if not isinstance(level.resample, nn.Identity):
            x = upsampled(level.resample, x if isinstance(x, Rows) else Rows.of(x))
    if not isinstance(x, Rows):
        return decoder.conv_out(decoder.silu(decoder.norm_out(x)))
    last = normed(decoder.norm_out, decoder.silu, x, step)
    return torch.cat([convolved(decoder.conv_out, last, *strip) for strip in x.strips(step)], dim=2)


def residual_block(block: ResidualBlock, x: Rows, step: int) -> Tensor:
    """Compute a residual block in strips. The result is stored in the place of the activation between its layers."""
    first = normed(block.norm1, block.silu, x, step)
    h = stored(lambda *strip: convolved(block.conv1, first, *strip), x, step)
    second = normed(block.norm2, block.silu, Rows.of(h), step)
    late: tuple[int, int, Tensor] | None = None
    for top, bottom in x.strips(step):
        new = block.add(block.shortcut(x.read(top, bottom)), convolved(block.conv2, second, top, bottom))
        if late:  # the strip after it has read its last rows
            h[:, :, late[0] : late[1]] = late[2]
        late = top, bottom, new
    assert late
    h[:, :, late[0] : late[1]] = late[2]
    return h


def stored(read: Callable[[int, int], Tensor], like: Rows, step: int) -> Tensor:
    """Compute all strips of an activation that has the height and width of another one."""
    whole: Tensor | None = None
    for top, bottom in like.strips(step):
        part = read(top, bottom)
        if whole is None:
            last = part.is_contiguous(memory_format=torch.channels_last)
            layout = torch.channels_last if last else torch.contiguous_format
            size = 1, part.shape[1], like.height, like.width
            whole = torch.empty(size, dtype=part.dtype, device=part.device, memory_format=layout)
        whole[:, :, top:bottom] = part
    assert whole is not None
    return whole


def convolved(conv: nn.Module, x: Rows, top: int, bottom: int) -> Tensor:
    """Return some rows of a 3x3 convolution with padding 1."""
    first, last = max(0, top - HALO), min(x.height, bottom + HALO)
    return conv(x.read(first, last))[:, :, top - first : bottom - first]


def upsampled(upsample: nn.Module, x: Rows) -> Rows:
    """Return the rows of an `Upsample`, computed when they are read."""

    def read(top: int, bottom: int) -> Tensor:
        first, last = max(0, top // 2 - 1), min(x.height, (bottom + 1) // 2 + 1)
        return upsample(x.read(first, last))[:, :, top - 2 * first : bottom - 2 * first]

    return Rows(2 * x.height, 2 * x.width, read)


def normed(norm: nn.GroupNorm, silu: nn.Module, x: Rows, step: int) -> Rows:
    """Return the rows of silu(norm(x)), computed when they are read. The statistics are computed at once."""
    mean, variance = moments(norm, x, step)
    fixed = mean, variance, norm.weight.float(), norm.bias.float()

    def read(top: int, bottom: int) -> Tensor:
        return silu(F.batch_norm(x.read(top, bottom), *fixed, training=False, eps=norm.eps))

    return Rows(x.height, x.width, read)


def moments(norm: nn.GroupNorm, x: Rows, step: int) -> tuple[Tensor, Tensor]:
    """Return the mean and the variance of each channel's group over all rows, (C,) twice."""
    mean = square = torch.zeros((), dtype=torch.float64)
    for top, bottom in x.strips(step):
        rows = x.read(top, bottom).float()
        center = rows.mean((0, 2, 3))
        spread = (rows - center.view(1, -1, 1, 1)).square_().mean((0, 2, 3)).double()
        center, share = center.double(), (bottom - top) / x.height
        mean, square = mean + share * center, square + share * (spread + center.square())
    mean, square = (each.view(norm.num_groups, -1).mean(1) for each in (mean, square))
    size = norm.num_channels // norm.num_groups
    variance = square - mean.square()
    return mean.float().repeat_interleave(size), variance.float().repeat_interleave(size)
