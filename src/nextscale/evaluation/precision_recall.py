"""Precision, recall, density and coverage of sampled images, based on nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nextscale.errors import InputError
from nextscale.evaluation.distances import TILE, blocks, neighbour_distances, squared_distances
from nextscale.evaluation.statistics import check_features


@dataclass(frozen=True)
class PrecisionRecall:
    """Fractions in [0, 1], except density, which is about 1 for images of the same distribution and may be higher.

    Attributes:
        neighbours: k of precision and recall.
        cover_neighbours: k of density and coverage.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    neighbours: int
    cover_neighbours: int


@torch.no_grad()
def precision_recall(
    real: Tensor, sampled: Tensor, neighbours: int = 3, cover_neighbours: int = 5, tile: int = TILE
) -> PrecisionRecall:
    """Return improved precision and recall (arXiv 1904.06991), density and coverage (arXiv 2002.09797).

    Each image has a ball whose radius is the distance to the k-th nearest image of the same set.

    - precision: fraction of sampled images inside the ball of at least one real image
    - recall: fraction of real images inside the ball of at least one sampled image
    - density: mean number of balls of real images that contain a sampled image, divided by k
    - coverage: fraction of real images whose ball contains at least one sampled image

    As in the papers' code and the ADM evaluator (which has precision and recall with k = 3), a ball includes its
    surface for precision and recall, but not for density and coverage. Distances are Euclidean, in float64. The ADM
    evaluator computes them in float16 if that does not overflow, so its last digits differ.

    Args:
        real: (N, D) features.
        sampled: (M, D) features.
        neighbours: k of precision and recall.
        cover_neighbours: k of density and coverage.
        tile: number of distances in memory at a time; the result does not depend on it.

    Raises:
        InputError: the features have different dimensions, are not finite, or are too few for k.
    """
    check_features(real)
    check_features(sampled, real.shape[1])
    if min(neighbours, cover_neighbours) < 1 or min(len(real), len(sampled)) <= max(neighbours, cover_neighbours):
        raise InputError(
            f"{len(real)} real and {len(sampled)} sampled images are too few for k = {neighbours} and "
            f"{cover_neighbours}: expected more images than k, and k >= 1"
        )
    sampled = sampled.to(real.device)
    ball, cover_ball = neighbour_distances(real, (neighbours, cover_neighbours), tile).unbind(1)
    (drawn_ball,) = neighbour_distances(sampled, (neighbours,), tile).unbind(1)
    looks_real = torch.zeros(len(sampled), dtype=torch.bool, device=real.device)
    recalled, covered = (torch.zeros(len(real), dtype=torch.bool, device=real.device) for _ in range(2))
    memberships = 0
    for rows in blocks(len(real), tile):
        for columns in blocks(len(sampled), tile):
            distances = squared_distances(real[rows], sampled[columns])
            looks_real[columns] |= (distances <= ball[rows, None]).any(0)
            recalled[rows] |= (distances <= drawn_ball[columns]).any(1)
            inside = distances < cover_ball[rows, None]
            covered[rows] |= inside.any(1)
            memberships += int(inside.sum())
    return PrecisionRecall(
        precision=share(looks_real),
        recall=share(recalled),
        density=memberships / (cover_neighbours * len(sampled)),
        coverage=share(covered),
        neighbours=neighbours,
        cover_neighbours=cover_neighbours,
    )


def share(of: Tensor) -> float:
    """Return the fraction of true values in a bool tensor."""
    return int(of.sum()) / len(of)
