"""Distances between feature vectors, computed in tiles to bound memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from nextscale.errors import InputError
from nextscale.evaluation.statistics import check_features

TILE = 2**23
"""Number of distances in memory at a time: 64 MiB."""
ROUNDING = 1e-12
"""Squared distances below this fraction of the squared norms count as 0, because of float64 rounding errors."""


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return |a|^2 - 2 a b + |b|^2 in float64: (N, D), (M, D) -> (N, M). Equal vectors have distance 0 exactly."""
    a, b = a.double(), b.double()
    norms = a.square().sum(1, keepdim=True) + b.square().sum(1)
    distances = torch.addmm(norms, a, b.T, alpha=-2)
    return distances.masked_fill_(distances < ROUNDING * norms, 0)


def blocks(count: int, tile: int = TILE) -> Iterator[slice]:
    """Split 0 .. count into blocks of at most sqrt(``tile``) items."""
    step = max(1, math.isqrt(tile))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def neighbour_distances(features: Tensor, neighbours: Sequence[int], tile: int = TILE) -> Tensor:
    """Return the squared distance of each vector (N, D) to its k-th nearest other one: (N, K) for K values of k.

    Raises:
        InputError: k is below 1, or there are fewer than k + 1 vectors.
    """
    check_features(features)
    most, n = max(neighbours), len(features)
    if min(neighbours) < 1 or n <= most:
        raise InputError(
            f"{n} images are too few for k = {most} nearest neighbours: expected more images than k, and k >= 1"
        )
    radii = []
    for rows in blocks(n, tile):
        least = torch.full((rows.stop - rows.start, most), torch.inf, dtype=torch.float64, device=features.device)
        for columns in blocks(n, tile):
            distances = squared_distances(features[rows], features[columns])
            if rows == columns:
                distances.fill_diagonal_(torch.inf)  # the vector itself
            least = torch.cat([least, distances], 1).topk(most, largest=False).values
        radii.append(least[:, [k - 1 for k in neighbours]])
    return torch.cat(radii)


def nearest(queries: Tensor, pool: Tensor | Iterable[Tensor], tile: int = TILE) -> tuple[Tensor, Tensor]:
    """Find the nearest vector of a pool for each query.

    Args:
        queries: (N, D).
        pool: (M, D), or an iterable of parts of it, so that a large pool does not have to fit into memory.

    Returns:
        Distances (N,), not squared, in float64, and indices (N,) into the pool. Ties give the lower index.

    Raises:
        InputError: the pool is empty, or vectors have different dimensions or are not finite.
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
