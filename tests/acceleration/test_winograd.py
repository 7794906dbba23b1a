"""Winograd convolution has the same results as direct 3x3 convolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nextscale.acceleration.winograd import WinogradConv3x3, is_worth_it, toom_cook, transform_kernel, winograd_conv3x3


@pytest.mark.parametrize(("outputs", "points"), [(2, (0, 1, -1)), (4, (0, 0.5, -0.5, 2, -2)), (3, (0, 1, -1, 3))])
def test_the_transforms_make_a_correlation(outputs, points):
    generator = np.random.default_rng(0)
    outer, kernel, inner = toom_cook(points, outputs, 3)
    signal, taps = generator.normal(size=outputs + 2), generator.normal(size=3)
    expected = np.correlate(signal, taps, "valid")
    np.testing.assert_allclose(outer @ ((kernel @ taps) * (inner @ signal)), expected, atol=1e-12)


@pytest.mark.parametrize("size", [(4, 4), (8, 20), (32, 32), (64, 4), (12, 600)], ids=str)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=["last", "first"])
@pytest.mark.parametrize("biased", [True, False])
def test_it_is_the_plain_convolution(size, layout, biased):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, *size, generator=generator).contiguous(memory_format=layout)
    weight = torch.randn(7, 5, 3, 3, generator=generator) / 45**0.5
    bias = torch.randn(7, generator=generator) if biased else None
    y = winograd_conv3x3(x, transform_kernel(weight), bias)
    expected = F.conv2d(x.double(), weight.double(), None if bias is None else bias.double(), padding=1)
    torch.testing.assert_close(y.double(), expected, atol=2e-5, rtol=0)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(winograd_conv3x3(x[1:], transform_kernel(weight), bias), y[1:]), "depends on the batch"


def test_in_bfloat16_it_is_as_near_as_the_precision_lets_it():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 32, 32, 32, generator=generator).bfloat16()
    weight = torch.randn(32, 32, 3, 3, generator=generator).div(288**0.5).bfloat16()
    y = winograd_conv3x3(x, transform_kernel(weight), None)
    error = (y.float() - F.conv2d(x.float(), weight.float(), padding=1)).square().mean().sqrt()
    assert y.dtype == torch.bfloat16 and error < 0.02


@pytest.mark.parametrize("size", [(60, 60), (66, 64), (64, 66)], ids=str)
def test_small_and_odd_grids_take_the_plain_way(size):
    conv = nn.Conv2d(4, 6, 3, padding=1).requires_grad_(False)
    x = torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(WinogradConv3x3(conv)(x), conv(x))


@pytest.mark.parametrize("keep", [False, True])
def test_large_grids_do_not(keep):
    conv = nn.Conv2d(4, 6, 3, padding=1).requires_grad_(False)
    x = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    layer = WinogradConv3x3(conv, keep)
    y = layer(x)
    assert (layer.kernel is not None) == keep and torch.equal(layer(x), y)
    assert torch.equal(y, winograd_conv3x3(x, transform_kernel(conv.weight), conv.bias))
    torch.testing.assert_close(y, conv(x), atol=2e-5, rtol=0)


def test_which_convolutions_gain():
    assert is_worth_it(nn.Conv2d(128, 160, 3, padding=1))
    for other in (
        nn.Conv2d(128, 3, 3, padding=1),
        nn.Conv2d(64, 160, 3, padding=1),
        nn.Conv2d(128, 128, 3, stride=2, padding=1),
        nn.Conv2d(128, 128, 3),
        nn.Conv2d(128, 128, 1),
        nn.Conv2d(128, 128, 3, padding=1, groups=2),
        nn.Conv2d(128, 128, 3, padding=1, dilation=2),
    ):
        assert not is_worth_it(other), other


def test_autocast_leaves_it_in_its_input_s_precision():
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(size, generator=generator) for size in ((1, 4, 8, 8), (6, 4, 3, 3)))
    with torch.autocast("cpu", torch.bfloat16):
        within = winograd_conv3x3(x, transform_kernel(weight), None)
    assert torch.equal(within, winograd_conv3x3(x, transform_kernel(weight), None))
