"""The Inception Score. It is high if each image clearly has one class, and all images together have many classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nextscale.errors import InputError

SPLIT_SIZE = 5000
"""Number of images per split in the ADM evaluator."""


@dataclass(frozen=True)
class Scores:
    """Inception Scores, between 1 and the number of classes.

    Attributes:
        shuffled: mean over splits of shuffled images. Compare this score with published ones.
        shuffled_std: population standard deviation over these splits, as in np.std.
        ordered: mean over splits of the images in their given order, as in the ADM evaluator. It is far too low if the
            images are sorted by class, because each split then has few classes.
        ordered_std: standard deviation over these splits.
        whole: score of all images as one split.
        splits: number of splits.
        seed: seed of the shuffling.
    """

    shuffled: float
    shuffled_std: float
    ordered: float
    ordered_std: float
    whole: float
    splits: int
    seed: int


class InceptionScore:
    """Accumulate IS = exp(mean over x of KL(p(y|x), p(y))) with p(y) the mean of p(y|x) in a split (arXiv 1606.03498).

    With the entropy H, mean KL = H(mean p) - mean H(p). Two sums per split are therefore sufficient, and memory grows
    with the number of splits, not of images. The index of an image and the seed determine its split. Computed in
    float64.

    Args:
        images: number of images.
        split_size: images per split; the last split may be smaller, as in the ADM evaluator.
        seed: seed of the shuffling.
    """

    def __init__(self, images: int, split_size: int = SPLIT_SIZE, seed: int = 0):
        if images < 1 or split_size < 1:
            raise InputError(
                f"expected at least 1 image and splits of at least 1, not {images} in splits of {split_size}"
            )
        self.images, self.split_size, self.seed = images, split_size, seed
        order = torch.arange(images)
        shuffled = torch.randperm(images, generator=torch.Generator().manual_seed(seed))
        self.split_of = torch.stack([shuffled, order]) // split_size
        """(2, N): the split of each image, for shuffled and for given order."""
        self.seen = torch.zeros(images, dtype=torch.int32)
        """(N,): how many times each image was added."""
        self.entropy = torch.zeros(2, -(-images // split_size), dtype=torch.float64)
        self.sums: Tensor | None = None
        """(2, splits, C), created when C is known."""

    @torch.no_grad()
    def add(self, indices: Tensor, probabilities: Tensor) -> InceptionScore:
        """Add images, in place.

        Args:
            indices: (B,) numbers of the images, 0 to N - 1. Each must be added exactly once.
            probabilities: (B, C), softmax over classes.

        Raises:
            InputError: a shape is wrong, an index lies outside 0 .. N - 1, or a row does not contain probabilities.
        """
        self._check(indices, probabilities)
        if self.sums is None:
            self.sums = torch.zeros(*self.entropy.shape, probabilities.shape[1], dtype=torch.float64)
        p = probabilities.cpu().double()
        entropy = torch.special.entr(p).sum(1)
        indices = indices.cpu()
        self.seen.index_add_(0, indices, torch.ones_like(indices, dtype=torch.int32))
        for which, split in enumerate(self.split_of[:, indices]):
            self.entropy[which].index_add_(0, split, entropy)
            self.sums[which].index_add_(0, split, p)
        return self

    def _check(self, indices: Tensor, p: Tensor) -> None:
        classes = None if self.sums is None else self.sums.shape[2]
        if p.ndim != 2 or not p.shape[1] or indices.shape != p.shape[:1] or classes not in (None, p.shape[1]):
            raise InputError(
                f"expected indices (B,) and probabilities (B, {classes or 'C'}), not {tuple(indices.shape)} and "
                f"{tuple(p.shape)}"
            )
        if not len(p):
            return
        if indices.min() < 0 or indices.max() >= self.images:
            raise InputError(
                f"numbers of images must lie in 0..{self.images - 1}, not in {int(indices.min())}..{int(indices.max())}"
            )
        fine = ((p.float().sum(1) - 1).abs() < 1e-2) & (p >= 0).all(1)
        if bad := int((~fine).sum()):
            raise InputError(f"{bad} of {len(p)} rows are not probabilities: expected numbers >= 0 with a sum of 1")

    def scores(self) -> Scores:
        """Return the scores.

        Raises:
            InputError: an image was not added, or more than once.
        """
        missing, repeated = int((self.seen == 0).sum()), int((self.seen > 1).sum())
        if self.sums is None or missing or repeated:
            raise InputError(
                f"of {self.images} images, {missing} are missing and {repeated} were added more than once: expected "
                "each once"
            )
        counts = torch.stack([split.bincount() for split in self.split_of]).double()
        (shuffled, shuffled_std), (ordered, ordered_std) = (
            (scores.mean().item(), scores.std(correction=0).item()) for scores in score(counts, self.entropy, self.sums)
        )
        whole = score(counts[1].sum(), self.entropy[1].sum(), self.sums[1].sum(0)).item()
        return Scores(shuffled, shuffled_std, ordered, ordered_std, whole, counts.shape[1], self.seed)


def score(count: Tensor, entropy: Tensor, total: Tensor) -> Tensor:
    """Return exp(H(mean p) - mean H(p)) from the number of images (...), the sum of H(p) (...) and of p (..., C)."""
    marginal = torch.special.entr(total / count.unsqueeze(-1)).sum(-1)
    return torch.exp(marginal - entropy / count)
