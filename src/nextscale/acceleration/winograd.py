"""3x3 convolution with 36 products where the plain way has 144 (Winograd's F(4x4, 3x3); Lavin and Gray, 1509.09308).

A tile of 6 x 6 pixels gives 4 x 4 new ones. Correlation becomes a product, point by point, once both factors are
written as values of polynomials at five numbers and at infinity:

    y = A^T [(G w G^T) * (B^T x B)] A

All three steps are matrix products: over the pixels of a tile, over channels at each of the 36 points, over the points.
A strip of tiles is done at a time, so that nothing leaves the processor's cache in between.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEP = 4
"""New pixels along each side of a tile."""
TILE = STEP + 2
POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)
"""Where the polynomials are evaluated. With these the error is half that of the customary 0, +-1, +-2."""
STRIP = 256
"""Tiles at a time: some megabytes. With fewer, threads wait for one another more often than they need to."""
LEAST_TILES = 256
"""In an image. With fewer, transforming the weights costs more than is gained."""
LEAST_CHANNELS = 128
"""With fewer, transforming the tiles does."""


class WinogradConv3x3(nn.Module):
    """What a 3x3 convolution of stride 1 and padding 1 computes on the CPU, without gradients.

    Equal up to rounding, which is about five times as large as that of the plain way: 1e-6 beside values of 1 in
    float32, 0.015 in bfloat16. (There the decoder's error hardly grows: it comes from the sums between convolutions.)
    No bit of an image depends on the others of its batch. Small grids, and sides no multiples of 4, take the plain
    way.

    Args:
        keep: whether to keep the transformed weights, four times as large as the weights, once they are needed.
        overwrite: whether the result may take the place of what comes in: fresh memory costs as much as a transform.
    """

    def __init__(self, conv: nn.Conv2d, keep: bool = False, overwrite: bool = False):
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.keep, self.overwrite = keep, overwrite
        self.kernel: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H, W)."""
        height, width = x.shape[-2:]
        if height % STEP or width % STEP or height * width < LEAST_TILES * STEP**2:
            return F.conv2d(x, self.weight, self.bias, padding=1)
        kernel = transform_kernel(self.weight) if self.kernel is None else self.kernel
        if self.keep:
            self.kernel = kernel
        return winograd_conv3x3(x, kernel, self.bias, self.overwrite)


def is_worth_it(conv: nn.Conv2d) -> bool:
    """Whether a convolution is of the kind that `WinogradConv3x3` computes, and has channels enough to gain from it."""
    form = conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups
    return form == ((3, 3), (1, 1), (1, 1), (1, 1), 1) and min(conv.in_channels, conv.out_channels) >= LEAST_CHANNELS


@torch.no_grad()
@torch.autocast("cpu", enabled=False)
def transform_kernel(weight: Tensor) -> Tensor:
    """G w G^T. (O, C, 3, 3) -> (36, C, O)."""
    _, into_kernel, _ = transforms()
    kernel = into_kernel @ weight.permute(2, 3, 0, 1).reshape(9, -1).float()
    return kernel.to(weight.dtype).view(-1, *weight.shape[:2]).transpose(1, 2)


@torch.no_grad()
@torch.autocast("cpu", enabled=False)
def winograd_conv3x3(x: Tensor, kernel: Tensor, bias: Tensor | None, overwrite: bool = False) -> Tensor:
    """(B, C, H, W) with (36, C, O) and (O,) -> (B, O, H, W), channels last. H and W are multiples of 4.

    To ``overwrite`` x, it must be channels last, and C = O; else the result is new.
    """
    (batch, channels, height, width), out_channels = x.shape, kernel.shape[-1]
    into_tiles, _, out_of_tiles = transforms()
    into_tiles, out_of_tiles = into_tiles.to(x.dtype), out_of_tiles.to(x.dtype)
    tall, wide = height // STEP, width // STEP
    rows = max(r for r in range(1, tall + 1) if r == 1 or (tall % r == 0 and r * wide <= STRIP))

    strip = x.new_zeros(STEP * rows + 2, width + 2, channels)
    pixels = x.new_empty(TILE, TILE, rows, wide, channels)
    points = x.new_empty(len(kernel), rows * wide, channels)
    products = x.new_empty(len(kernel) + 1, rows * wide, out_channels)
    products[-1] = 0 if bias is None else bias  # its part in every new pixel is 1
    fresh = x.new_empty(STEP, STEP, rows, wide, out_channels)
    images = x.permute(0, 2, 3, 1)
    in_place = overwrite and channels == out_channels and images.is_contiguous()
    result = images if in_place else x.new_empty(batch, height, width, out_channels)

    for image, new in zip(images, result, strict=True):
        for top in range(0, height, STEP * rows):
            bottom = top + STEP * rows
            strip[0] = strip[-2] if top > 0 else 0  # the last row before, which may be overwritten by now
            strip[-1] = 0  # below the image
            rest = image[top : bottom + 1]
            strip[1 : len(rest) + 1, 1:-1] = rest
            pixels.copy_(strip.unfold(0, TILE, STEP).unfold(1, TILE, STEP).permute(3, 4, 0, 1, 2))
            torch.mm(into_tiles, pixels.flatten(2).flatten(0, 1), out=points.flatten(1))
            torch.bmm(points, kernel, out=products[:-1])
            torch.mm(out_of_tiles, products.flatten(1), out=fresh.flatten(2).flatten(0, 1))
            new[top:bottom].view(rows, STEP, wide, STEP, -1).copy_(fresh.permute(2, 0, 3, 1, 4))
    return result.permute(0, 3, 1, 2)


@cache
def transforms() -> tuple[Tensor, Tensor, Tensor]:
    """For both dimensions at once: B^T (36, 36); G (36, 9); A^T with a column of ones for the bias (16, 37)."""
    outer, taps, inner = toom_cook(POINTS, STEP, 3)
    outer, taps, inner = (np.kron(m, m) for m in (outer, taps, inner))
    outer = np.hstack((outer, np.ones((len(outer), 1))))
    inner, taps, outer = (torch.from_numpy(m).float() for m in (inner, taps, outer))
    return inner, taps, outer


def toom_cook(points: tuple[float, ...], outputs: int, taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T (m, n), G (n, r) and B^T (n, n) of F(m, r), n = m + r - 1, for n - 1 distinct points; infinity is the last.

    The product of two polynomials, from its values; transposed, this is a correlation.
    """
    values = np.array(points)
    size = outputs + taps - 1
    outer, kernel, inner = np.zeros((outputs, size)), np.zeros((size, taps)), np.zeros((size, size))
    for i, point in enumerate(values):
        others = np.delete(values, i)
        outer[:, i] = point ** np.arange(outputs)
        kernel[i] = point ** np.arange(taps) / np.prod(point - others)
        inner[i, :-1] = np.poly(others)[::-1]
    outer[-1, -1] = kernel[-1, -1] = 1
    inner[-1] = np.poly(values)[::-1]
    return outer, kernel, inner
