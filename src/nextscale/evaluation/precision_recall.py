"""How much of what is drawn looks real, and how much of what is real can be drawn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nextscale.errors import InputError
from nextscale.evaluation.distances import TILE, blocks, neighbour_distances, squared_distances
from nextscale.evaluation.statistics import check_features


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares in [0, 1], but for density, which is about 1 for images of the same distribution and may be more.

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
    real: Tensor, drawn: Tensor, neighbours: int = 3, cover_neighbours: int = 5, tile: int = TILE
) -> PrecisionRecall:
    """Improved precision and recall (arXiv 1904.06991), density and coverage (arXiv 2002.09797).

    Around each image lies a ball that reaches to its k-th nearest other image of the same set.

    - precision: share of drawn images inside the ball of some real one
    - recall: share of real images inside the ball of some drawn one
    - density: mean number of balls of real images that a drawn one is inside, over k
    - coverage: share of real images that have a drawn one inside their ball

    As in the code of the papers, and in the ADM evaluator, which has the first two with k = 3: for precision and
    recall a ball includes its surface, for density and coverage it does not. Distances are Euclidean, in float64;
    the ADM evaluator takes them in float16 unless that overflows, so its last digits differ.

    Args:
        real: (N, D) features.
        drawn: (M, D) features.
        tile: distances held at a time; the result does not depend on it.

    Raises:
        InputError: features of two dimensions, not finite, or too few for k.
    """
    check_features(real)
    check_features(drawn, real.shape[1])
    if min(neighbours, cover_neighbours) < 1 or min(len(real), len(drawn)) <= max(neighbours, cover_neighbours):
        raise InputError(
            f"{len(real)} real and {len(drawn)} drawn images are too few for k = {neighbours} and "
            f"{cover_neighbours}: expected more images than k, and k >= 1"
        )
    drawn = drawn.to(real.device)
    ball, cover_ball = neighbour_distances(real, (neighbours, cover_neighbours), tile).unbind(1)
    (drawn_ball,) = neighbour_distances(drawn, (neighbours,), tile).unbind(1)
    looks_real = torch.zeros(len(drawn), dtype=torch.bool, device=real.device)
    recalled, covered = (torch.zeros(len(real), dtype=torch.bool, device=real.device) for _ in range(2))
    memberships = 0
    for rows in blocks(len(real), tile):
        for columns in blocks(len(drawn), tile):
            distances = squared_distances(real[rows], drawn[columns])
            looks_real[columns] |= (distances <= ball[rows, None]).any(0)
            recalled[rows] |= (distances <= drawn_ball[columns]).any(1)
            inside = distances < cover_ball[rows, None]
            covered[rows] |= inside.any(1)
            memberships += int(inside.sum())
    return PrecisionRecall(
        precision=share(looks_real),
        recall=share(recalled),
        density=memberships / (cover_neighbours * len(drawn)),
        coverage=share(covered),
        neighbours=neighbours,
        cover_neighbours=cover_neighbours,
    )


def share(of: Tensor) -> float:
    """How much of a bool tensor is true."""
    return int(of.sum()) / len(of)
