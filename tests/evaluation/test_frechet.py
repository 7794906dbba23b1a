"""The Frechet distance: closed forms, properties, and a NumPy implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import refused
from torch import Tensor

from nextscale.evaluation.frechet import factor, frechet_distance
from nextscale.evaluation.statistics import Gaussian, Moments


def vectors(n: int = 2000, d: int = 32, seed: int = 0, rank: int | None = None) -> Tensor:
    """Correlated, of very different variances, in ``rank`` dimensions."""
    generator = torch.Generator().manual_seed(seed)
    rank = rank or d
    mix = torch.randn(rank, d, generator=generator, dtype=torch.float64) * torch.logspace(0, -3, d, dtype=torch.float64)
    return torch.randn(n, rank, generator=generator, dtype=torch.float64) @ mix + 0.1 * seed


def gaussian(x: Tensor) -> Gaussian:
    return Moments(x.shape[1]).add(x).gaussian()


def plain(x: Tensor, y: Tensor) -> float:
    """With the eigenvalues of the product, as they are."""
    a, b = x.numpy(), y.numpy()
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.real(np.sqrt(np.linalg.eigvals(s @ t).astype(complex)))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s) + np.trace(t) - 2 * roots.sum())


@pytest.mark.parametrize("ranks", [(None, None), (10, None), (None, 20), (12, 12), (5, 30)], ids=str)
def test_as_in_numpy(ranks):
    x, y = (vectors(seed=seed, rank=rank) for seed, rank in enumerate(ranks))
    assert frechet_distance(gaussian(x), gaussian(y)) == pytest.approx(plain(x, y), rel=1e-6)


def test_fewer_images_than_dimensions():
    x, y = vectors(20, 64, seed=1), vectors(30, 64, seed=2)
    assert frechet_distance(gaussian(x), gaussian(y)) == pytest.approx(plain(x, y), rel=1e-6)


@pytest.mark.parametrize("rank", [None, 1, 10])
@pytest.mark.parametrize("n", [2000, 16])
def test_nothing_to_itself(n, rank):
    x = 10 * vectors(n, rank=rank)
    assert frechet_distance(gaussian(x), gaussian(x)) < 1e-6


def test_a_negative_rounding_error_counts_as_nothing():
    """The distance is at least 0, and a rounding error below 0 does not become one above."""
    rounded = []
    for seed in range(24):
        a = gaussian(vectors(50, 16, seed=seed))
        half = factor(a.covariance)
        trace, root = a.covariance.trace(), torch.linalg.svdvals(half.T @ half).sum()
        rounded.append(((trace + trace - 2 * root).item(), frechet_distance(a, a)))
    assert min(error for error, _ in rounded) < 0 < max(error for error, _ in rounded)
    assert all(distance == (error if error > 0 else 0) for error, distance in rounded)


def test_symmetric():
    x, y = gaussian(vectors(seed=1)), gaussian(vectors(seed=2, rank=8))
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-10)


def test_between_means():
    s = gaussian(vectors()).covariance
    a, b = torch.zeros(32, dtype=torch.float64), torch.full((32,), 0.5, dtype=torch.float64)
    assert frechet_distance(Gaussian(a, s), Gaussian(b, s)) == pytest.approx(32 * 0.25, rel=1e-10)


def test_between_variances():
    """Of diagonal covariances: the sum of (s_a - s_b)^2 of the standard deviations."""
    a, b = torch.tensor([1.0, 2, 0, 3]).double(), torch.tensor([2.0, 2, 5, 0]).double()
    mean = torch.zeros(4, dtype=torch.float64)
    distance = frechet_distance(Gaussian(mean, torch.diag(a**2)), Gaussian(mean, torch.diag(b**2)))
    assert distance == pytest.approx(1 + 0 + 25 + 9, rel=1e-10)


@pytest.mark.parametrize("rank", [None, 1, 10])
@pytest.mark.parametrize("n", [2000, 16])
def test_scaled(n, rank):
    """From S to c^2 S: (c - 1)^2 tr S."""
    mean, s = torch.zeros(32, dtype=torch.float64), gaussian(vectors(n, rank=rank)).covariance
    assert frechet_distance(Gaussian(mean, s), Gaussian(mean, 9 * s)) == pytest.approx(4 * s.trace().item(), rel=1e-10)


def test_turned_together():
    x, y = vectors(seed=1), vectors(seed=2)
    turn = torch.linalg.qr(torch.randn(32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(5)))[0]
    turned = frechet_distance(gaussian(x @ turn), gaussian(y @ turn))
    assert turned == pytest.approx(frechet_distance(gaussian(x), gaussian(y)), rel=1e-9)


def test_from_a_point():
    mean, s = torch.ones(32, dtype=torch.float64), gaussian(vectors()).covariance
    assert frechet_distance(Gaussian(mean, s), Gaussian(0 * mean, 0 * s)) == pytest.approx(32 + s.trace().item())


def test_of_one_dimension():
    one = torch.ones(1, dtype=torch.float64)
    assert frechet_distance(Gaussian(one, 4 * one[None]), Gaussian(3 * one, 9 * one[None])) == pytest.approx(5)


def test_a_factor_multiplies_to_the_covariance():
    s = gaussian(vectors(rank=10)).covariance
    half = factor(s)
    assert half.shape == (32, 10)
    torch.testing.assert_close(half @ half.T, s)


def test_two_dimensions():
    with refused("32 dimensions", "31"):
        frechet_distance(gaussian(vectors()), gaussian(vectors(d=31)))
