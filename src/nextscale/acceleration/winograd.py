"""Winograd convolution F(4x4, 3x3): 36 instead of 144 products per tile (Lavin and Gray, arXiv 1509.09308).

A tile of 6 x 6 input pixels gives 4 x 4 output pixels. Kernel and tile are transformed to the values of polynomials at
five numbers and at infinity, where the correlation is an elementwise product:

    y = A^T [(G w G^T) * (B^T x B)] A

All three steps are matrix products: over the pixels of a tile, over the channels at each of the 36 points, and over the
points. One strip of tiles is computed at a time, so that intermediate results stay in the processor's cache.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEP = 4
"""Output pixels along each side of a tile."""
TILE = STEP + 2
POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)
"""Points at which the polynomials are evaluated. Their error is half that of the usual points 0, +-1, +-2."""
STRIP = 256
"""Number of tiles computed at a time, which take some megabytes. With fewer tiles, threads wait more for each other."""
LEAST_TILES = 256
"""Minimum number of tiles of an image. With fewer tiles, transforming the weights takes longer than it saves."""
LEAST_CHANNELS = 128
"""Minimum number of channels. With fewer channels, transforming the tiles takes longer than it saves."""
MOST_KEPT = 2**24
"""Largest transformed weights that are kept, in bytes. Transforming larger ones again takes about 5 % of the time of
Infinity's decoder at 256 x 256 pixels. Keeping them would take 245 MB. VAR's official decoder has smaller ones."""


class WinogradConv3x3(nn.Module):
    """A 3x3 convolution of stride 1 and padding 1 on the CPU, without gradients.

    The rounding error is about five times that of direct convolution: 1e-6 for values of about 1 in float32, 0.015 in
    bfloat16. In bfloat16 the decoder's error hardly grows, because most of it comes from the sums between convolutions.
    The result for an image does not depend, bit for bit, on the other images of its batch. Small grids, and grids whose
    sides are not multiples of 4, use direct convolution.

    Args:
        keep: keep the transformed weights after the first use, unless they are larger than `MOST_KEPT`. They are four
            times as large as the weights.
        overwrite: allow the result to overwrite the input, because allocating memory takes as long as a transform.
    """

    def __init__(self, conv: nn.Conv2d, keep: bool = False, overwrite: bool = False):
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.keep, self.overwrite = keep and transformed_bytes(conv) <= MOST_KEPT, overwrite
        self.kernel: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Compute the convolution. (B, C, H, W) -> (B, O, H, W)."""
        height, width = x.shape[-2:]
        if not has_enough_tiles(height, width):
            return F.conv2d(x, self.weight, self.bias, padding=1)
        kernel = transform_kernel(self.weight) if self.kernel is None else self.kernel
        if self.keep:
            self.kernel = kernel
        return winograd_conv3x3(x, kernel, self.bias, self.overwrite)


def transformed_bytes(conv: nn.Conv2d) -> int:
    """Return the size of the transformed weights."""
    return conv.weight.nbytes * TILE**2 // 9


def is_worth_it(conv: nn.Conv2d) -> bool:
    """Return whether `WinogradConv3x3` supports a convolution, and the convolution has enough channels to be faster."""
    form = conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups
    return form == ((3, 3), (1, 1), (1, 1), (1, 1), 1) and min(conv.in_channels, conv.out_channels) >= LEAST_CHANNELS


def has_enough_tiles(height: int, width: int) -> bool:
    """Return whether `WinogradConv3x3` computes a grid of this size by tiles."""
    return not (height % STEP or width % STEP or height * width < LEAST_TILES * STEP**2)


@torch.no_grad()
@torch.autocast("cpu", enabled=False)
def transform_kernel(weight: Tensor) -> Tensor:
    """Return the transformed weights G w G^T. (O, C, 3, 3) -> (36, C, O)."""
    _, into_kernel, _ = transforms()
    kernel = into_kernel @ weight.permute(2, 3, 0, 1).reshape(9, -1).float()
    return kernel.to(weight.dtype).view(-1, *weight.shape[:2]).transpose(1, 2)


@torch.no_grad()
@torch.autocast("cpu", enabled=False)
def winograd_conv3x3(x: Tensor, kernel: Tensor, bias: Tensor | None, overwrite: bool = False) -> Tensor:
    """Convolve with transformed weights. (B, C, H, W) with (36, C, O) and (O,) -> (B, O, H, W), channels last.

    H and W must be multiples of 4. ``overwrite`` reuses the memory of x if x is channels last and C = O.
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
    products[-1] = 0 if bias is None else bias  # the bias is added to every output pixel
    fresh = x.new_empty(STEP, STEP, rows, wide, out_channels)
    images = x.permute(0, 2, 3, 1)
    in_place = overwrite and channels == out_channels and images.is_contiguous()
    result = images if in_place else x.new_empty(batch, height, width, out_channels)

    for image, new in zip(images, result, strict=True):
        for top in range(0, height, STEP * rows):
            bottom = top + STEP * rows
            strip[0] = strip[-2] if top > 0 else 0  # the row above the strip, possibly overwritten in x
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
    """Return the matrices of the 2-D transforms: B^T (36, 36), G (36, 9), A^T with a column for the bias (16, 37)."""
    outer, taps, inner = toom_cook(POINTS, STEP, 3)
    outer, taps, inner = (np.kron(m, m) for m in (outer, taps, inner))
    outer = np.hstack((outer, np.ones((len(outer), 1))))
    inner, taps, outer = (torch.from_numpy(m).float() for m in (inner, taps, outer))
    return inner, taps, outer


def toom_cook(points: tuple[float, ...], outputs: int, taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A^T (m, n), G (n, r) and B^T (n, n) of F(m, r) with n = m + r - 1.

    The Toom-Cook algorithm computes the product of two polynomials from their values at n points: the n - 1 given
    points, which must differ, and infinity. Its transpose computes a correlation.
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
