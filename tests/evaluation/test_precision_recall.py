"""Precision, recall, density and coverage: properties, and a NumPy implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import refused
from torch import Tensor

from nextscale.evaluation.distances import nearest, neighbour_distances, squared_distances
from nextscale.evaluation.precision_recall import PrecisionRecall, precision_recall

SHARES = ("precision", "recall", "density", "coverage")


def vectors(n: int, seed: int, d: int = 12, spread: float = 1.0, shift: float = 5.0) -> Tensor:
    return shift + spread * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def between(a: Tensor, b: Tensor) -> np.ndarray:
    """All distances, one by one."""
    return np.linalg.norm(a.double().numpy()[:, None] - b.double().numpy()[None], axis=-1)


def plain(real: Tensor, drawn: Tensor, k: int, cover_k: int) -> dict[str, float]:
    def reach(x: Tensor, k: int) -> np.ndarray:
        return np.sort(between(x, x), axis=1)[:, k]  # the 0-th is itself

    distances = between(real, drawn)
    inside = distances < reach(real, cover_k)[:, None]
    return {
        "precision": (distances <= reach(real, k)[:, None]).any(0).mean(),
        "recall": (distances <= reach(drawn, k)[None]).any(1).mean(),
        "density": inside.sum(0).mean() / cover_k,
        "coverage": inside.any(1).mean(),
    }


def shares(result: PrecisionRecall) -> dict[str, float]:
    return {name: getattr(result, name) for name in SHARES}


@pytest.mark.parametrize(("k", "cover_k"), [(3, 5), (1, 1), (7, 2)])
@pytest.mark.parametrize("spread", [0.5, 1.0, 1.5])
def test_as_in_numpy(k, cover_k, spread):
    real, drawn = vectors(150, 1), vectors(130, 2, spread=spread)
    result = precision_recall(real, drawn, k, cover_k)
    assert shares(result) == pytest.approx(plain(real, drawn, k, cover_k), abs=1e-12)
    assert (result.neighbours, result.cover_neighbours) == (k, cover_k)


@pytest.mark.parametrize("tile", [1, 100, 40**2, 10**9])
def test_tiles_make_no_difference(tile):
    n = 30 if tile == 1 else 150
    real, drawn = vectors(n, 1), vectors(n - 7, 2)
    assert precision_recall(real, drawn, tile=tile) == precision_recall(real, drawn)


def test_of_itself():
    real = vectors(100, 1)
    assert precision_recall(real, real) == PrecisionRecall(1, 1, 1, 1, 3, 5)


def test_of_something_else():
    assert shares(precision_recall(vectors(100, 1), vectors(90, 2, shift=50))) == dict.fromkeys(SHARES, 0)


def test_precision_one_way_is_recall_the_other():
    real, drawn = vectors(100, 1), vectors(90, 2, spread=0.7)
    there, back = precision_recall(real, drawn), precision_recall(drawn, real)
    assert (there.precision, there.recall) == (back.recall, back.precision)


def test_the_same_distribution():
    result = precision_recall(vectors(2000, 1, d=4), vectors(2000, 2, d=4))
    assert min(result.precision, result.recall) > 0.9
    assert result.density == pytest.approx(1, abs=0.05)
    assert result.coverage == pytest.approx(1 - 2**-5, abs=0.02)  # eq. 7 of the paper, n = m large


def test_images_of_one_kind():
    """Drawn from a corner of the real ones: precise, but most of the real ones are out of reach."""
    real = vectors(300, 1, d=4)
    drawn = real[:1] + 0.01 * vectors(300, 2, d=4, shift=0)
    result = precision_recall(real, drawn)
    assert result.precision == 1 and result.recall < 0.05 and result.coverage < 0.2


def test_images_many_times():
    """Balls without extent still hold what lies in their centre."""
    real = vectors(5, 1).repeat(8, 1)
    result = precision_recall(real, real[:20])
    assert result.precision == result.recall == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_kept_in_another_precision(dtype):
    real, drawn = vectors(100, 1).to(dtype), vectors(100, 2).to(dtype)
    assert shares(precision_recall(real, drawn)) == pytest.approx(plain(real, drawn, 3, 5))


def test_distances():
    a, b = vectors(40, 1, shift=1000), vectors(30, 2, shift=1000)
    np.testing.assert_allclose(squared_distances(a, b).sqrt(), between(a, b), rtol=1e-6)
    assert (squared_distances(a, a).diagonal() == 0).all() and (squared_distances(a, b) > 0).all()


@pytest.mark.parametrize("tile", [1, 90, 10**6])
def test_neighbours(tile):
    x = vectors(37, 1)
    expected = np.sort(between(x, x), axis=1)[:, [4, 1]]
    np.testing.assert_allclose(neighbour_distances(x, (4, 1), tile).sqrt(), expected, rtol=1e-10)


@pytest.mark.parametrize("tile", [1, 90, 10**6])
@pytest.mark.parametrize("parts", [False, True])
def test_the_nearest(tile, parts):
    queries, pool = vectors(25, 1), vectors(43, 2)
    distances, index = nearest(queries, iter(pool.split((20, 0, 23))) if parts else pool, tile)
    np.testing.assert_allclose(distances, between(queries, pool).min(1), rtol=1e-10)
    np.testing.assert_array_equal(index, between(queries, pool).argmin(1))


def test_the_first_of_two_as_near():
    pool = vectors(10, 1).repeat(2, 1)
    assert nearest(pool[12:15], pool, tile=9)[1].tolist() == [2, 3, 4]


@pytest.mark.parametrize(("real", "drawn"), [(5, 100), (100, 5), (0, 100), (100, 0)])
def test_too_few_images(real, drawn):
    with refused(f"{real} real and {drawn} sampled", "k = 3 and 5"):
        precision_recall(vectors(real, 1), vectors(drawn, 2))


@pytest.mark.parametrize("ks", [(0, 5), (3, 0)])
def test_no_neighbours(ks):
    with refused("k >= 1", *ks):
        precision_recall(vectors(20, 1), vectors(20, 2), *ks)


def test_bad_features():
    x = vectors(20, 1)
    with refused((20, 12), (20, 11)[1]):
        precision_recall(x[:, :11], x)
    broken = x.clone()
    broken[4] = torch.nan
    with refused("1 of 20", "not finite"):
        precision_recall(x, broken)
    with refused("at least 1"):
        nearest(x, x[:0])
    with refused("20 images", "20 nearest"):
        neighbour_distances(x, (20,))
