"""Statistics for the metrics, collected in one pass over a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nextscale.evaluation.agreement import Agreement, AgreementCounts
from nextscale.evaluation.inception_score import InceptionScore, Scores
from nextscale.evaluation.reference import KEPT, Origin, Reference, kept_images
from nextscale.evaluation.statistics import Moments
from nextscale.evaluation.store import INDEX, LABEL, FeatureStore


@dataclass(frozen=True, eq=False)
class Summary:
    """Statistics of a store. Only the size of ``kept`` depends on the number of images, up to a limit.

    Attributes:
        count: number of images.
        moments: moments of the pool features.
        spatial: moments of the spatial features; None if the extractor returns none.
        scores: the Inception Score; None if the extractor returns no probabilities.
        agreement: agreement of the classifier with the labels; None if it does not know the names of all classes.
        kept: (n, D) float32, pool features of randomly chosen images.
        kept_indices: (n,), the numbers of these images in the gallery.
        kept_labels: (n,), their classes.
    """

    count: int
    moments: Moments
    spatial: Moments | None
    scores: Scores | None
    agreement: Agreement | None
    kept: Tensor
    kept_indices: Tensor
    kept_labels: Tensor

    def as_reference(self, name: str, origin: Origin) -> Reference:
        """Return these statistics as a reference for other images."""
        spatial = self.spatial.gaussian() if self.spatial else None
        return Reference(name, self.moments.gaussian(), spatial, self.kept, origin)


class Kept:
    """Collect the features of randomly chosen images.

    Args:
        count: number of images in the store.
        seed: seed of the choice.
        most: largest number of images to choose.
    """

    def __init__(self, count: int, seed: int = 0, most: int = KEPT):
        self.chosen, self.seen = kept_images(count, seed, most), 0
        self.vectors: list[Tensor] = []
        self.numbers: list[Tensor] = []
        self.labels: list[Tensor] = []

    def add(self, shard: Mapping[str, Tensor]) -> Kept:
        """Add the chosen images of the next shard of a store."""
        pool = shard["pool"]
        rows = self.chosen[(self.chosen >= self.seen) & (self.chosen < self.seen + len(pool))] - self.seen
        self.vectors.append(pool[rows])
        self.numbers.append(shard[INDEX][rows])
        self.labels.append(shard[LABEL][rows])
        self.seen += len(pool)
        return self

    def result(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return features (n, D), the numbers (n,) of their images in the gallery, and their classes (n,)."""
        return torch.cat(self.vectors), torch.cat(self.numbers), torch.cat(self.labels)


@torch.no_grad()
def summarise(store: FeatureStore, device: torch.device, seed: int = 0, keep: int = KEPT) -> Summary:
    """Collect the statistics of a complete store.

    Args:
        device: device of the sums, which are in float64.
        seed: seed for shuffling images for the Inception Score, and for choosing the kept features.
        keep: largest number of kept features.
    """
    count = store.count()
    kept = Kept(count, seed, keep)
    moments: Moments | None = None
    spatial: Moments | None = None
    score: InceptionScore | None = None
    labels = AgreementCounts.of(store.gallery.class_names, store.extractor)
    for shard in store:
        pool = shard["pool"]
        moments = (moments or Moments(pool.shape[1], device)).add(pool)
        if "spatial" in shard:
            spatial = (spatial or Moments(shard["spatial"].shape[1], device)).add(shard["spatial"])
        if "probabilities" in shard:
            score = score or InceptionScore(count, seed=seed)
            score.add(torch.arange(kept.seen, kept.seen + len(pool)), shard["probabilities"])
            if labels:
                labels.add(shard[LABEL], shard["probabilities"])
        kept.add(shard)
    assert moments
    features, numbers, classes = kept.result()
    return Summary(
        count=count,
        moments=moments,
        spatial=spatial,
        scores=score.scores() if score else None,
        agreement=labels.result() if labels else None,
        kept=features,
        kept_indices=numbers,
        kept_labels=classes,
    )
