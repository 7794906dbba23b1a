"""PSNR and SSIM of pairs of images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
"""Side and standard deviation of SSIM's Gaussian window, in pixels."""


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio in dB, 10 log10(255^2 / mse), of images rounded to 8 bits.

    (B, 3, H, W) in [-1, 1] twice -> (B,).
    """
    a, b = to_levels(a), to_levels(b)
    return 10 * torch.log10(255**2 / (a - b).square().flatten(1).mean(1).clamp_min(1e-10))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the structural similarity (Wang et al. 2004), averaged over pixels and channels, of 8-bit images.

    (2 m_a m_b + c1) (2 s_ab + c2) / ((m_a^2 + m_b^2 + c1) (s_a^2 + s_b^2 + c2)), with means m and (co)variances s under
    a Gaussian window of 11 pixels and sigma 1.5, at every position where the window lies inside the image;
    c1 = (0.01 255)^2, c2 = (0.03 255)^2. For a side below 11 pixels the window has that side.

    (B, 3, H, W) in [-1, 1] twice -> (B,), at most 1.
    """
    a, b = to_levels(a).double(), to_levels(b).double()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    likeness = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (likeness * (2 * covariance + c2) / (var_a + var_b + c2)).flatten(1).mean(1).float()


def blur(x: Tensor) -> Tensor:
    """Average with SSIM's window, without padding. (B, 3, H, W) -> (B, 3, H - window + 1, W - window + 1)."""
    channels = x.shape[1]
    for dim, side in ((2, x.shape[2]), (3, x.shape[3])):
        size = min(WINDOW, side)
        offsets = torch.arange(size, dtype=x.dtype, device=x.device) - (size - 1) / 2
        weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
        shape = (1, 1, size, 1) if dim == 2 else (1, 1, 1, size)
        kernel = (weights / weights.sum()).view(shape).expand(channels, *(-1,) * 3)
        x = F.conv2d(x, kernel, groups=channels)
    return x


def to_levels(images: Tensor) -> Tensor:
    """Round values in [-1, 1] to the levels 0, 1, ... 255."""
    return images.add(1).mul(127.5).round()
