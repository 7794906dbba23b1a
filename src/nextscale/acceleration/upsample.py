"""Up-sampling with 4 of 9 products: nearest neighbour and 3x3 convolution as four 2x2 convolutions of the small grid.

There are four kinds of new pixels, in even or odd rows and columns. Each kind is a 2x2 convolution of the small grid,
whose weights are sums of the 3x3 weights that meet copies of the same pixel.
"""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.tokenizer.autoencoder import Upsample

KINDS = tuple(product((0, 1), (0, 1)))
"""The four kinds of pixels on a doubled grid: in even or odd rows, in even or odd columns."""


class FourKernelUpsample(nn.Module):
    """An equivalent of `Upsample`, up to rounding, without gradients. It shares the convolution."""

    def __init__(self, upsample: Upsample):
        super().__init__()
        self.conv = upsample.conv
        self.kernels: list[Tensor] | None = None

    def keep_kernels(self) -> None:
        """Compute and store the four kernels. Do not change the weights afterwards."""
        self.kernels = four_kernels(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Up-sample (B, C, h, w) -> (B, C, 2h, 2w). The result is channels last if the input is."""
        height, width = x.shape[-2:]
        large = None
        kernels = self.kernels or four_kernels(self.conv.weight)
        for (row, column), weight in zip(KINDS, kernels, strict=True):
            y = F.conv2d(x, weight, self.conv.bias, padding=1)[:, :, row : row + height, column : column + width]
            if large is None:
                last = x.is_contiguous(memory_format=torch.channels_last)
                layout = torch.channels_last if last else torch.contiguous_format
                size = len(y), y.shape[1], 2 * height, 2 * width
                large = torch.empty(size, dtype=y.dtype, device=y.device, memory_format=layout)
            large[:, :, row::2, column::2] = y
        assert large is not None
        return large


def four_kernels(weight: Tensor) -> list[Tensor]:
    """Return the 2x2 kernel of each of `KINDS`, summed in float32, channels last. (O, C, 3, 3) -> 4 x (O, C, 2, 2)."""
    return [
        _share(_share(weight.float(), row, 2), column, 3).to(weight.dtype).contiguous(memory_format=torch.channels_last)
        for row, column in KINDS
    ]


def _share(weight: Tensor, odd: int, dim: int) -> Tensor:
    """Return the two taps on the small grid that equal three taps on the doubled grid, for its even or odd pixels."""
    first, second, third = weight.unbind(dim)
    return torch.stack((first + second, third) if odd else (first, second + third), dim)
