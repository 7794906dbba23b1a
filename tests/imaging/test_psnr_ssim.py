"""PSNR and SSIM: closed forms, and a direct implementation of SSIM."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from nextscale.imaging.psnr_ssim import psnr, ssim

C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def noise(h: int, w: int, seed: int = 0) -> Tensor:
    return torch.rand(2, 3, h, w, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def grey(level: float) -> Tensor:
    """An image of one of 256 levels."""
    return torch.full((1, 3, 12, 15), level / 127.5 - 1)


def plain_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Window by window, of one colour, in levels."""
    sides = [min(11, side) for side in a.shape]
    rows, columns = (np.exp(-((np.arange(side) - (side - 1) / 2) ** 2) / (2 * 1.5**2)) for side in sides)
    weights = np.outer(rows, columns) / np.outer(rows, columns).sum()
    values = []
    for i in range(a.shape[0] - sides[0] + 1):
        for j in range(a.shape[1] - sides[1] + 1):
            x, y = (p[i : i + sides[0], j : j + sides[1]] for p in (a, b))
            mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
            var_x, var_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
            both = (weights * (x - mean_x) * (y - mean_y)).sum()
            above = (2 * mean_x * mean_y + C1) * (2 * both + C2)
            values.append(above / ((mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2)))
    return float(np.mean(values))


def test_a_image_is_like_itself():
    images = noise(16, 20)
    assert (psnr(images, images) > 140).all()
    assert ssim(images, images).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("levels", [1, 10, 255])
def test_psnr_of_a_known_offset(levels):
    assert psnr(grey(0), grey(levels)).item() == pytest.approx(20 * math.log10(255 / levels), abs=1e-4)


def test_psnr_where_some_pixels_are_off():
    images = grey(100).repeat(2, 1, 1, 1)
    changed = images.clone()
    changed[1, :, :6] = 120 / 127.5 - 1
    assert psnr(images, changed)[1].item() == pytest.approx(10 * math.log10(255**2 / (20**2 / 2)), abs=1e-4)
    assert psnr(images, changed)[0] > 140


def test_what_8_bits_cannot_tell_does_not_count():
    assert psnr(grey(100), grey(100.4)) > 140
    assert psnr(grey(100), grey(100.6)).item() == pytest.approx(20 * math.log10(255), abs=1e-4)
    assert ssim(grey(100), grey(100.4)).item() == pytest.approx(1)


@pytest.mark.parametrize(("a", "b"), [(0, 255), (100, 110), (7, 200)])
def test_ssim_of_two_greys(a, b):
    assert ssim(grey(a), grey(b)).item() == pytest.approx((2 * a * b + C1) / (a**2 + b**2 + C1), abs=1e-6)


@pytest.mark.parametrize("size", [(14, 17), (11, 11), (5, 7), (4, 13), (1, 1)])
def test_ssim_written_out(size):
    a = noise(*size)
    b = (0.6 * a + 0.4 * noise(*size, seed=1)).clamp(-1, 1)
    levels = [((x + 1) * 127.5).round().double().numpy() for x in (a, b)]
    expected = [np.mean([plain_ssim(x, y) for x, y in zip(*pair, strict=True)]) for pair in zip(*levels, strict=True)]
    assert ssim(a, b).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_symmetric_and_each_image_by_itself(measure):
    a, b = noise(12, 16), noise(12, 16, seed=1)
    assert measure(a, b).shape == (2,)
    assert torch.equal(measure(a, b), measure(b, a))
    torch.testing.assert_close(measure(a, b)[1:], measure(a[1:], b[1:]))


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_more_noise_is_worse(measure):
    image, other = noise(16, 16), noise(16, 16, seed=1)
    values = torch.stack([measure(image, torch.lerp(image, other, share)) for share in (0.02, 0.1, 0.3, 1)])
    assert (values[1:] < values[:-1]).all() and (values[:, 0] < measure(image, image)[0]).all()
