"""Mean and covariance of features, accumulated batch by batch in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nextscale.errors import InputError


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean and covariance, for the Frechet distance.

    Attributes:
        mean: (D,) float64.
        covariance: (D, D) float64, unbiased.
    """

    mean: Tensor
    covariance: Tensor

    def __post_init__(self) -> None:
        check_shapes(tuple(self.mean.shape), tuple(self.covariance.shape))
        for name, tensor in (("mean", self.mean), ("covariance", self.covariance)):
            if bad := int((~tensor.isfinite()).sum()):
                raise InputError(f"{bad} of the {tensor.numel()} numbers of the {name} are not finite")

    @property
    def dimensions(self) -> int:
        """D."""
        return len(self.mean)


def check_shapes(mean: tuple[int, ...], covariance: tuple[int, ...]) -> None:
    """Raise InputError unless the shapes are (D,) and (D, D)."""
    if len(mean) != 1 or not mean[0] or covariance != mean * 2:
        raise InputError(f"expected a mean of shape (D,) and a covariance of shape (D, D), not {mean} and {covariance}")


class Moments:
    """Count, mean and scatter matrix of vectors, S = sum of (x - mean)(x - mean)^T.

    Two sets are merged with the formula of Chan, Golub and LeVeque (1983), which does not subtract large sums:
    with d = mean_b - mean_a, mean = mean_a + d n_b / n and S = S_a + S_b + d d^T n_a n_b / n.
    """

    count: int
    mean: Tensor
    """(D,) float64."""
    scatter: Tensor
    """(D, D) float64."""

    def __init__(self, dimensions: int, device: torch.device | str = "cpu"):
        if dimensions < 1:
            raise InputError(f"features need at least 1 dimension, not {dimensions}")
        self.count = 0
        self.mean = torch.zeros(dimensions, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(dimensions, dimensions, dtype=torch.float64, device=device)

    @property
    def dimensions(self) -> int:
        """D."""
        return len(self.mean)

    @torch.no_grad()
    def add(self, batch: Tensor) -> Moments:
        """Add vectors (B, D), in place. B may be 0.

        Raises:
            InputError: the vectors have another shape, or are not finite.
        """
        check_features(batch, self.dimensions)
        if not len(batch):
            return self
        x = batch.to(self.mean.device, torch.float64)
        mean = x.mean(0)
        x = x - mean
        self.scatter.addmm_(x.T, x)
        self._shift(len(x), mean)
        return self

    def merge(self, other: Moments) -> Moments:
        """Add another set, in place.

        Raises:
            InputError: the dimensions differ.
        """
        if other.dimensions != self.dimensions:
            raise InputError(
                f"features of {other.dimensions} dimensions cannot be merged with features of {self.dimensions}"
            )
        if other.count:
            self.scatter += other.scatter.to(self.scatter.device)
            self._shift(other.count, other.mean.to(self.mean.device))
        return self

    def _shift(self, count: int, mean: Tensor) -> None:
        """Add the scatter between this set and one of the given count and mean, and update the mean and the count."""
        total = self.count + count
        delta = mean - self.mean
        self.scatter.addr_(delta, delta, alpha=self.count * count / total)
        self.mean.add_(delta, alpha=count / total)
        self.count = total

    @property
    def covariance(self) -> Tensor:
        """Return the unbiased estimate S / (n - 1), (D, D), as np.cov does.

        Raises:
            InputError: there are fewer than 2 vectors.
        """
        if self.count < 2:
            raise InputError(f"a covariance needs at least 2 images, not {self.count}")
        return self.scatter / (self.count - 1)

    def gaussian(self) -> Gaussian:
        """Return the current mean and covariance.

        Raises:
            InputError: there are fewer than 2 vectors.
        """
        return Gaussian(self.mean.clone(), self.covariance)

    def warning(self) -> str | None:
        """Return a warning if there are too few images for a covariance of full rank, else None."""
        if self.count > self.dimensions:
            return None
        return (
            f"{self.count} images are too few for features of {self.dimensions} dimensions: their covariance is "
            "singular, so compare a Frechet distance only with others of as many images"
        )


def check_features(features: Tensor, dimensions: int | None = None) -> None:
    """Raise InputError unless features are finite and have shape (B, D), with D = ``dimensions`` if given."""
    if features.ndim != 2 or not features.shape[1] or dimensions not in (None, features.shape[1]):
        raise InputError(
            f"expected features of shape (B, {'D' if dimensions is None else dimensions}), not {tuple(features.shape)}"
        )
    if bad := int((~features.isfinite().all(1)).sum()):
        raise InputError(f"{bad} of {len(features)} feature vectors are not finite (NaN or infinite)")
