"""Memorisation: the fraction of sampled images that are copies of training images."""

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
"""The check is weak if it finds a smaller fraction of known copies."""
LEAST = 10
"""Minimum number of held-out images of every class for distances relative to the class."""


class Labelled(NamedTuple):
    """Features (N, D) and labels (N,) of images; -1 for no class."""

    features: Tensor
    labels: Tensor


class Pair(NamedTuple):
    """The numbers of a sampled image and of its nearest training image, and their relative distance."""

    sampled: int
    training: int
    distance: float


@dataclass(frozen=True)
class Memorisation:
    """Result of `memorisation`.

    Distances are relative to the mean distance of held-out images, of the same class if known.

    Attributes:
        share: fraction of the sampled images whose distance to a training image is below the threshold. It is about
            ``percentile`` / 100 for a model that has learnt the distribution.
        interval: 95 % confidence interval of ``share``, for the choice of images (bootstrap).
        control: fraction of the control images, which are known copies, below the threshold. A model that reproduces
            its training images would have this result.
        control_images: number of control images.
        percentile: percentile of the distances of held-out images that defines the threshold.
        threshold: the distance below which an image counts as close.
        sampled: mean distance of sampled images to the nearest training image.
        by_class: whether distances are relative to the class.
        per_class: (share of sampled, share of held-out images) below the threshold in each class, if by class.
        pairs: the closest pairs, closest first.
        tokenized: whether the control images were encoded and decoded by the tokenizer, as sampled images are.
    """

    share: float
    interval: tuple[float, float]
    control: float
    control_images: int
    percentile: float
    threshold: float
    sampled: float
    by_class: bool
    per_class: Mapping[str, tuple[float, float]]
    pairs: tuple[Pair, ...]
    tokenized: bool = False

    def sentences(self) -> list[str]:
        """Return the result as a list of sentences."""
        low, high = (f"{100 * share:.1f}" for share in self.interval)
        of_class = " of its class" if self.by_class else ""
        share = (
            f"{100 * self.share:.1f} % of the samples are unusually close to a training image (95 % interval: {low} to "
            f"{high} %). To measure this, the distance to the nearest training image is computed for samples and for "
            "held-out images. The distance of a sample is divided by the mean distance of the held-out images"
            f"{of_class}. A sample is unusually close if this ratio is below a limit, which is chosen so that "
            f"{self.percentile:g} % of the held-out images are below it."
        )
        if self.share and self.per_class:
            name, (sampled, held_out) = max(self.per_class.items(), key=lambda item: item[1])
            share += (
                f" The class with the highest share is {name}: {100 * sampled:.1f} % of its samples and "
                f"{100 * held_out:.1f} % of its held-out images are this close."
            )
        views = ", mirrored and reconstructed by the tokenizer" if self.tokenized else " and mirrored"
        copies = f"Of {self.control_images} known copies (training images, cropped at random{views}), "
        found = f"{100 * self.control:.1f} %."
        if self.control < STRONG:
            return [share, f"This check misses most copies. {copies}it finds only {found}"]
        return [share, f"{copies}this check finds {found}"]


@torch.no_grad()
def memorisation(
    sampled: Labelled,
    training: Tensor | Iterable[Tensor],
    held_out: Labelled,
    control: Labelled,
    class_names: tuple[str, ...] = (),
    percentile: float = 1.0,
    pairs: int = 16,
    seed: int = 0,
    tile: int = TILE,
) -> Memorisation:
    """Compare the distance of sampled images to training images with that of held-out images.

    The distance of an image is the distance of its features to the nearest training features, divided by the mean of
    these distances over the held-out images of its class, because some classes vary less than others. If a class has
    fewer than `LEAST` held-out images, or an image has no class, all images count as one class. The threshold is the
    p-th percentile (linear interpolation) of the distances of held-out images.

    Args:
        sampled: images with labels among ``class_names``.
        training: (T, D) features, or an iterable of parts of them. They may include several views of each image.
        held_out: real images that the model was not trained on.
        control: training images in views that are not in ``training``.
        percentile: p, above 0 and below 100.
        pairs: number of closest pairs to return.
        seed: seed of the bootstrap.
        tile: number of distances in memory at a time.

    Raises:
        InputError: a set of images is empty, features have different dimensions or are not finite, held-out images are
            training images, or the percentile is out of range.
    """
    if not 0 < percentile < 100:
        raise InputError(f"the percentile must be above 0 and below 100, not {percentile:g}")
    if pairs < 0:
        raise InputError(f"the number of closest pairs must be at least 0, not {pairs}")
    sets, device = {"sampled": sampled, "held-out": held_out, "control": control}, sampled.features.device
    for name, (features, _) in sets.items():
        check_features(features, sampled.features.shape[1])
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
        raise InputError("held-out images are training images: expected images that the model was not trained on")
    threshold = torch.quantile(others / scale[other_labels], percentile / 100)
    relative = ours / scale[our_labels]
    close, close_others = relative < threshold, others / scale[other_labels] < threshold

    def resampled(generator: torch.Generator) -> Tensor:
        """Return ``share`` for a resample of the sampled and held-out images."""
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
        sampled=relative.mean().item(),
        by_class=by_class,
        per_class={
            name: (share(close, our_labels, i), share(close_others, other_labels, i))
            for i, name in enumerate(class_names)
            if by_class and (our_labels == i).any()
        },
        pairs=tuple(Pair(i, int(index[i]), relative[i].item()) for i in relative.argsort(stable=True)[:pairs].tolist()),
    )


def class_means(distances: Tensor, labels: Tensor, missing: Tensor | None = None) -> Tensor:
    """Return the mean distance of each class, (C,); for a class without distances, the value in ``missing``."""
    classes = int(labels.max()) + 1 if missing is None else len(missing)
    counts = labels.bincount(minlength=classes)
    sums = torch.zeros(classes, dtype=distances.dtype, device=distances.device).index_add_(0, labels, distances)
    return torch.where(counts > 0, sums / counts, 1.0 if missing is None else missing)
