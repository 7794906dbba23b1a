"""The Frechet distance between two Gaussians: FID for Inception's pool features, sFID for its spatial features."""

from __future__ import annotations

import torch
from torch import Tensor

from nextscale.errors import InputError
from nextscale.evaluation.statistics import Gaussian


@torch.no_grad()
def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Return |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) (Dowson and Landau 1982; FID: arXiv 1706.08500, eq. 6).

    The trace of the root is the sum of the singular values of A^T B with S_a = A A^T and S_b = B B^T. Their squares are
    the eigenvalues of S_a^(1/2) S_b S_a^(1/2), which are those of S_a S_b. With singular values and without the null
    spaces, the rounding error is about 1e-16 of the variance. With a root of the product it is 1e-8. Computed in
    float64.

    Returns:
        The distance, at least 0. Negative rounding errors become 0.

    Raises:
        InputError: the Gaussians have different dimensions.
    """
    if a.dimensions != b.dimensions:
        raise InputError(
            f"features of {a.dimensions} dimensions cannot be compared with features of {b.dimensions}: "
            "both must come from one extractor"
        )
    mean_a, mean_b = a.mean.double(), b.mean.double().to(a.mean.device)
    cov_a, cov_b = a.covariance.double(), b.covariance.double().to(a.mean.device)
    root = torch.linalg.svdvals(factor(cov_a).T @ factor(cov_b)).sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * root
    return max(0.0, distance.item())


def factor(covariance: Tensor) -> Tensor:
    """Return A with A A^T = covariance: (D, D) of rank r -> (D, r), in float64.

    Eigenvalues below D eps times the largest one count as 0.
    """
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    least = len(values) * torch.finfo(values.dtype).eps * values.abs().max()
    kept = values > least
    return vectors[:, kept] * values[kept].sqrt()
