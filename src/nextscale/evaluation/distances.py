"""Distances between feature vectors, tile by tile, so that memory stays bounded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from nextscale.errors import InputError
from nextscale.evaluation.statistics import check_features

TILE = 2**23
"""Distances held at a time: 64 MiB."""
ROUNDING = 1e-12
"""Squared distances below so much of the squared norms are 0: float64 cannot tell such vectors apart."""


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """|a|^2 - 2 a b + |b|^2 in float64: (N, D), (M, D) -> (N, M), exactly 0 where vectors are equal."""
    a, b = a.double(), b.double()
    norms = a.square().sum(1, keepdim=True) + b.square().sum(1)
    distances = torch.addmm(norms, a, b.T, alpha=-2)
    return distances.masked_fill_(distances < ROUNDING * norms, 0)


def blocks(count: int, tile: int = TILE) -> Iterator[slice]:
    """0 .. count in blocks, so that a block times a block has at most ``tile`` entries."""
    step = max(1, math.isqrt(tile))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def neighbour_distances(features: Tensor, neighbours: Sequence[int], tile: int = TILE) -> Tensor:
    """Squared distances of vectors (N, D) to their k-th nearest other ones, (N, K) for K values of k.

    Raises:
        InputError: k below 1, or fewer than k + 1 vectors.
    """
    check_features(features)
    most, n = max(neighbours), len(features)
    if min(neighbours) < 1 or n <= most:
        raise InputError(f"{n} images have no {most} nearest others: expected more images than k, and k >= 1")
    radii = []
    for rows in blocks(n, tile):
        least = torch.full((rows.stop - rows.start, most), torch.inf, dtype=torch.float64, device=features.device)
        for columns in blocks(n, tile):
            distances = squared_distances(features[rows], features[columns])
            if rows == columns:
                distances.fill_diagonal_(torch.inf)  # itself
            least = torch.cat([least, distances], 1).topk(most, largest=False).values
        radii.append(least[:, [k - 1 for k in neighbours]])
    return torch.cat(radii)


def nearest(queries: Tensor, pool: Tensor | Iterable[Tensor], tile: int = TILE) -> tuple[Tensor, Tensor]:
    """The nearest vector of the pool to each query.

    Args:
        queries: (N, D).
        pool: (M, D), or parts of it one after the other: a large one need not be in memory as a whole.

    Returns:
        distances (N,), not squared, in float64, and indices (N,) into the pool, the lower one on ties.

    Raises:
        InputError: an empty pool, vectors of two dimensions, or not finite ones.
    """
    check_features(queries)
    best = torch.full((len(queries),), torch.inf, dtype=torch.float64, device=queries.device)
    index = torch.full((len(queries),), -1, device=queries.device)
    seen = 0
    for part in [pool] if isinstance(pool, Tensor) else pool:
        check_features(part, queries.shape[1])
        part = part.to(queries.device)
        for rows in blocks(len(queries), tile):
            for columns in blocks(len(part), tile):
                distances, found = squared_distances(queries[rows], part[columns]).min(1)
                closer = distances < best[rows]
                best[rows] = torch.where(closer, distances, best[rows])
                index[rows] = torch.where(closer, found + (seen + columns.start), index[rows])
        seen += len(part)
    if not seen:
        raise InputError("there is nothing to compare with: expected at least 1 feature vector")
    return best.sqrt(), index
