"""Mean and covariance do not depend on the division into batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import refused
from torch import Tensor

from nextscale.evaluation.statistics import Gaussian, Moments, check_features

D = 7


def vectors(n: int = 200, seed: int = 0, d: int = D) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=generator, dtype=torch.float64)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) @ mix + 3


def in_batches(x: Tensor, *sizes: int) -> Moments:
    moments = Moments(x.shape[1])
    for batch in x.split(sizes or len(x)):
        moments.add(batch)
    return moments


def assert_close(a: Moments, b: Moments, tolerance: float = 1e-10) -> None:
    assert a.count == b.count
    torch.testing.assert_close(a.mean, b.mean, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(a.covariance, b.covariance, rtol=tolerance, atol=tolerance)


def test_as_numpy():
    x = vectors()
    moments = in_batches(x, 64, 64, 72)
    np.testing.assert_allclose(moments.mean, x.numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(x.numpy(), rowvar=False), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sizes", [(50, 50, 50, 50), (1, 0, 2, 197), (1,) * 200, (199, 1)], ids=str)
def test_batches_make_no_difference(sizes):
    x = vectors()
    assert_close(in_batches(x, *sizes), in_batches(x))


@pytest.mark.parametrize("sizes", [(50, 50, 50, 50), (0, 1, 2, 197)], ids=str)
def test_four_parts_merged_are_one_pass(sizes):
    x = vectors()
    whole = Moments(D)
    for part in x.split(sizes):
        whole.merge(in_batches(part))
    assert_close(whole, in_batches(x))


def test_far_from_zero():
    x = vectors()
    assert_close(in_batches(x + 1e6, 90, 110), in_batches(x + 1e6), 1e-9)
    torch.testing.assert_close(in_batches(x + 1e6, 90, 110).covariance, in_batches(x).covariance, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_sums_are_in_double_precision(dtype):
    x = vectors().to(dtype)
    assert_close(in_batches(x, 120, 80), in_batches(x.double()))


def test_a_gaussian_stays_when_more_is_added():
    moments = in_batches(vectors())
    gaussian = moments.gaussian()
    mean, covariance = gaussian.mean.clone(), gaussian.covariance.clone()
    moments.add(vectors(10, seed=1))
    assert torch.equal(gaussian.mean, mean) and torch.equal(gaussian.covariance, covariance)


def test_too_few_images_are_warned_of():
    assert in_batches(vectors(D + 1)).warning() is None
    sentence = in_batches(vectors(D)).warning()
    assert sentence and f"{D} images" in sentence and f"{D} dimensions" in sentence and "\n" not in sentence


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_features_that_are_not_finite(value):
    x = vectors(10)
    x[3, 2] = x[3, 4] = x[8, 0] = value
    moments = in_batches(vectors())
    mean = moments.mean.clone()
    with refused("2 of 10", "not finite"):
        moments.add(x)
    assert moments.count == 200 and torch.equal(moments.mean, mean)


@pytest.mark.parametrize("shape", [(5,), (5, D + 1), (5, D, 1), (5, 0)])
def test_features_of_another_shape(shape):
    with refused(shape, D):
        Moments(D).add(torch.zeros(shape))


def test_parts_of_another_dimension():
    with refused("3 dimensions", D):
        Moments(D).merge(Moments(3))


@pytest.mark.parametrize("n", [0, 1])
def test_no_covariance_of_less_than_two(n):
    with refused("at least 2", n):
        in_batches(vectors(n)).gaussian()


def test_no_dimensions():
    with refused("at least 1", 0):
        Moments(0)
    with refused("(B, D)", (4, 0)):
        check_features(torch.zeros(4, 0))


def test_a_gaussian_that_does_not_fit():
    with refused((3,), (4, 4)):
        Gaussian(torch.zeros(3), torch.eye(4))
    with refused("1 of the 9", "covariance", "not finite"):
        Gaussian(torch.zeros(3), torch.eye(3).masked_fill(torch.tensor([[0, 1, 0]] + [[0] * 3] * 2).bool(), torch.inf))


def test_features_of_one_dimension():
    moments = Moments(1)
    with refused("at least 1 dimension", "0"):
        Moments(0)
    assert moments.mean.shape == (1,) and moments.scatter.shape == (1, 1)
