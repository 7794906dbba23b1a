"""Are pictures drawn, or remembered?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nextscale.errors import InputError
from nextscale.evaluation.distances import TILE, nearest
from nextscale.evaluation.statistics import check_features


class Pair(NamedTuple):
    """A drawn picture and the training picture nearest to it, by their places among the features."""

    drawn: int
    training: int
    distance: float


@dataclass(frozen=True)
class Memorisation:
    """
    Attributes:
        share: of drawn pictures closer to training than the threshold. About ``percentile`` / 100 for a model that
            has learnt the distribution, 1 for one that plays its training pictures back.
        percentile: of the held-out pictures that are so close to training by chance.
        threshold: the distance that belongs to it.
        drawn: mean distance of drawn pictures to the nearest training picture.
        held_out: the same for held-out pictures.
        pairs: the closest ones, closest first: to be looked at.
    """

    share: float
    percentile: float
    threshold: float
    drawn: float
    held_out: float
    pairs: tuple[Pair, ...]

    def sentence(self) -> str:
        """What it says, in one line."""
        return (
            f"{100 * self.share:.2f} % of the drawn pictures are closer to a training picture than the closest "
            f"{self.percentile:g} % of the held-out ones"
        )


@torch.no_grad()
def memorisation(
    drawn: Tensor,
    training: Tensor | Iterable[Tensor],
    held_out: Tensor,
    percentile: float = 1.0,
    pairs: int = 16,
    tile: int = TILE,
) -> Memorisation:
    """How much closer drawn pictures come to training pictures than pictures never trained on do.

    The distance of a picture is that of its features to the nearest training features. The threshold is the
    p-th percentile (between two, linear) of the distances of held-out pictures.

    Args:
        drawn: (N, D) features.
        training: (T, D) features, or parts of them one after the other.
        held_out: (M, D) features of real pictures that are no training pictures.
        percentile: p, above 0 and below 100.
        pairs: how many of the closest pairs to name.
        tile: distances held at a time.

    Raises:
        InputError: no pictures in one of the three, features of two dimensions or not finite ones, or a percentile
            that is none.
    """
    if not 0 < percentile < 100:
        raise InputError(f"the percentile must be above 0 and below 100, not {percentile:g}")
    if pairs < 0:
        raise InputError(f"the number of closest pairs must be at least 0, not {pairs}")
    check_features(drawn)
    check_features(held_out, drawn.shape[1])
    for name, features in (("drawn", drawn), ("held-out", held_out)):
        if not len(features):
            raise InputError(f"there are no {name} pictures: expected at least 1")
    queries = torch.cat([drawn, held_out.to(drawn.device)])
    distances, index = nearest(queries, training, tile)
    ours, others = distances[: len(drawn)], distances[len(drawn) :]
    threshold = torch.quantile(others, percentile / 100)
    order = ours.argsort(stable=True)[:pairs].tolist()
    return Memorisation(
        share=(ours < threshold).double().mean().item(),
        percentile=percentile,
        threshold=threshold.item(),
        drawn=ours.mean().item(),
        held_out=others.mean().item(),
        pairs=tuple(Pair(i, int(index[i]), ours[i].item()) for i in order),
    )
