"""Are images drawn, or remembered?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nextscale.errors import InputError
from nextscale.evaluation.distances import TILE, nearest
from nextscale.evaluation.statistics import check_features

RESAMPLED = 1000
STRONG = 0.5
"""A check that finds a smaller share of what is known to be remembered says little."""
LEAST = 10
"""Held-out images that every class needs for distances to be measured by its own."""


class Labelled(NamedTuple):
    """Features (N, D) and classes (N,) of images; -1 for no class."""

    features: Tensor
    labels: Tensor


class Pair(NamedTuple):
    """A drawn image and the training image nearest to it, by their places, and their relative distance."""

    drawn: int
    training: int
    distance: float


@dataclass(frozen=True)
class Memorisation:
    """Distances are relative: 1 is the mean distance of held-out images, of the same class if classes are known.

    Attributes:
        share: of drawn images closer to training than the threshold. About ``percentile`` / 100 for a model that
            has learnt the distribution.
        interval: that holds the share with 95 % probability, as far as the choice of images goes (bootstrap).
        control: the share of the control images, which are known to be remembered: what the check would say of a
            model that plays its training images back.
        control_images: how many of these there were.
        percentile: of the held-out images that are so close to training by chance.
        threshold: the distance that belongs to it.
        drawn: mean distance of drawn images to the nearest training image.
        by_class: whether distances are relative to the class.
        per_class: (share of drawn, share of held-out images) below the threshold in each class, if by class.
        pairs: the closest ones, closest first: to be looked at.
        tokenized: whether the control images went through the tokenizer, as drawn ones do.
    """

    share: float
    interval: tuple[float, float]
    control: float
    control_images: int
    percentile: float
    threshold: float
    drawn: float
    by_class: bool
    per_class: Mapping[str, tuple[float, float]]
    pairs: tuple[Pair, ...]
    tokenized: bool = False

    def sentences(self) -> list[str]:
        """What it says, each in one line."""
        tokenized = " and given back by the tokenizer" if self.tokenized else ""
        weak = "" if self.control >= STRONG else ": this check misses most of what is remembered"
        low, high = (f"{100 * share:.1f}" for share in self.interval)
        measure = ", by the measure of their class" if self.by_class else ""
        most = ""
        if self.share and self.per_class:
            name, (drawn, held_out) = max(self.per_class.items(), key=lambda item: item[1])
            most = f"; most of {name}: {100 * drawn:.1f} %, and {100 * held_out:.1f} % of held-out ones"
        return [
            f"{100 * self.share:.1f} % of the drawn images (95 % interval {low} to {high}) are closer to a training "
            f"image than the closest {self.percentile:g} % of the held-out ones{measure}{most}",
            f"if all were remembered, it would be {100 * self.control:.1f} %: that many of {self.control_images} "
            f"training images, cut at random, mirrored{tokenized}, are so close{weak}",
        ]


@torch.no_grad()
def memorisation(
    drawn: Labelled,
    training: Tensor | Iterable[Tensor],
    held_out: Labelled,
    control: Labelled,
    class_names: tuple[str, ...] = (),
    percentile: float = 1.0,
    pairs: int = 16,
    seed: int = 0,
    tile: int = TILE,
) -> Memorisation:
    """How much closer drawn images come to training images than images never trained on do.

    The distance of an image is that of its features to the nearest training features, over the mean of these
    distances for held-out images of its class: some classes look more alike than others. If a class has fewer than
    `LEAST` held-out images, or an image has no class, all count as one. The threshold is the p-th percentile
    (between two, linear) of the distances of held-out images.

    Args:
        drawn: images with labels among ``class_names``.
        training: (T, D) features, or parts of them one after the other; several views of an image, to find it by.
        held_out: real images that are no training images.
        control: training images in views that are not in ``training``.
        percentile: p, above 0 and below 100.
        pairs: how many of the closest pairs to name.
        seed: of the bootstrap.
        tile: distances held at a time.

    Raises:
        InputError: no images in one of the four, features of two dimensions or not finite ones, held-out images
            that are training images, or a percentile that is none.
    """
    if not 0 < percentile < 100:
        raise InputError(f"the percentile must be above 0 and below 100, not {percentile:g}")
    if pairs < 0:
        raise InputError(f"the number of closest pairs must be at least 0, not {pairs}")
    sets, device = {"drawn": drawn, "held-out": held_out, "control": control}, drawn.features.device
    for name, (features, _) in sets.items():
        check_features(features, drawn.features.shape[1])
        if not len(features):
            raise InputError(f"there are no {name} images: expected at least 1")
    distances, index = nearest(torch.cat([each.features.to(device) for each in sets.values()]), training, tile)
    labels = torch.cat([each.labels for each in sets.values()]).to(device)
    enough = held_out.labels[held_out.labels >= 0].bincount(minlength=len(class_names)) >= LEAST
    by_class = bool(class_names) and bool((labels >= 0).all()) and bool(enough.to(device)[labels].all())
    labels = labels if by_class else torch.zeros_like(labels)
    sizes = [len(each.features) for each in sets.values()]
    (ours, others, known), (our_labels, other_labels, known_labels) = distances.split(sizes), labels.split(sizes)

    scale = class_means(others, other_labels)
    if (scale == 0).any():
        raise InputError("held-out images are training images: expected images that were not trained on")
    threshold = torch.quantile(others / scale[other_labels], percentile / 100)
    relative = ours / scale[our_labels]
    close, close_others = relative < threshold, others / scale[other_labels] < threshold

    def resampled(generator: torch.Generator) -> Tensor:
        """The share, had other drawn and held-out images come."""
        a, b = (torch.randint(n, (n,), generator=generator).to(device) for n in sizes[:2])
        means = class_means(others[b], other_labels[b], scale)
        limit = torch.quantile(others[b] / means[other_labels[b]], percentile / 100)
        return (ours[a] / means[our_labels[a]] < limit).double().mean()

    generator = torch.Generator().manual_seed(seed)
    shares = torch.stack([resampled(generator) for _ in range(RESAMPLED)])
    low, high = torch.quantile(shares, shares.new_tensor([0.025, 0.975])).tolist()

    def share(close: Tensor, labels: Tensor, label: int) -> float:
        return close[labels == label].double().mean().item()

    return Memorisation(
        share=close.double().mean().item(),
        interval=(low, high),
        control=(known / scale[known_labels] < threshold).double().mean().item(),
        control_images=len(known),
        percentile=percentile,
        threshold=threshold.item(),
        drawn=relative.mean().item(),
        by_class=by_class,
        per_class={
            name: (share(close, our_labels, i), share(close_others, other_labels, i))
            for i, name in enumerate(class_names)
            if by_class and (our_labels == i).any()
        },
        pairs=tuple(Pair(i, int(index[i]), relative[i].item()) for i in relative.argsort(stable=True)[:pairs].tolist()),
    )


def class_means(distances: Tensor, labels: Tensor, missing: Tensor | None = None) -> Tensor:
    """The mean of the distances of each class, (C,); of a class that has none, what ``missing`` says."""
    classes = int(labels.max()) + 1 if missing is None else len(missing)
    counts = labels.bincount(minlength=classes)
    sums = torch.zeros(classes, dtype=distances.dtype, device=distances.device).index_add_(0, labels, distances)
    return torch.where(counts > 0, sums / counts, 1.0 if missing is None else missing)
