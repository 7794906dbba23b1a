"""Quantize features to sign bits for training: straight-through gradients, commitment and entropy losses.

Source: binary spherical quantization (arXiv 2406.07548) on the residual pyramid of Infinity (arXiv 2412.04431).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nextscale.scales.schedule import ScaleSchedule, Visit
from nextscale.tokenizer.bsq import SignBits
from nextscale.tokenizer.pyramid import INFINITY_MOVES, ResidualPyramid

SHARPNESS = 400.0
"""The probability of a bit is sigmoid(SHARPNESS u / sqrt(d)) in the entropy losses."""
EPS = 1e-8


@dataclass(frozen=True)
class BitQuantization:
    """How the bits of one training step are made."""

    schedule: ScaleSchedule
    """Sizes of the scales on the feature grid. A token covers one position here, with patchify as well."""
    entropy: float = 0.0
    """Weight of the entropy of single bits; 0 computes neither of the two entropies."""
    diversity: float = 1.0
    """Weight of the entropy of the mean bit, relative to ``entropy``."""
    groups: int = 1
    """Number of equal groups of images; the mean bit is that of a group."""


class QuantizedBits(NamedTuple):
    """Result of `quantize_bits`."""

    tokens: list[Tensor]
    """K bool tensors (B, n_k, d)."""
    canvas: Tensor
    """The canvas to decode, (B, d, h_K, w_K)."""
    loss: Tensor
    figures: dict[str, Tensor]
    """Scalars to log."""


def quantize_bits(
    features: Tensor, how: BitQuantization, beta: float = 0.25, depths: Tensor | None = None
) -> QuantizedBits:
    """Encode features (B, d, h, w) as bits, with gradients through all scales.

    For the residual x of a scale, u = x / |x| and q = (2 [u > 0] - 1) / sqrt(d), the code vector is u + sg(q - u).
    loss = mean over the scales of [ beta * mse(u, sg(q)) + entropy * (E - diversity * G) ] with `bit_entropies`.

    Args:
        beta: weight of the commitment loss.
        depths: (B,) in 1..K, the number of scales of each image in the returned canvas; None means all.
    """
    bits = SignBits(features.shape[1])
    pyramid = ResidualPyramid(how.schedule, bits, 0.0, moves=INFINITY_MOVES)
    tokens: list[Tensor] = []
    commitments: list[Tensor] = []
    entropies: list[Tensor] = []

    def code(_: Visit, residual: Tensor) -> Tensor:
        unit = F.normalize(residual, dim=-1)
        tokens.append(bits.nearest(residual))
        codes = bits.codes(tokens[-1])
        commitments.append(F.mse_loss(unit, codes))
        if how.entropy:
            entropies.append(bit_entropies(unit, how.groups))
        return unit + (codes - unit).detach()

    canvases = [step.canvas for step in pyramid.encode_with(features, code, through=True)]
    canvas = canvases[-1]
    commitment = torch.stack(commitments).mean()
    loss = beta * commitment
    figures = {"commitment": commitment, "quantization_error": F.mse_loss(canvas.detach(), features.detach())}
    if how.entropy:
        of_bits, of_mean = torch.stack(entropies).mean(dim=0)
        loss = loss + how.entropy * (of_bits - how.diversity * of_mean)
        figures |= {"entropy": of_bits, "diversity": of_mean}
    if depths is not None:
        canvas = torch.stack(canvases)[depths - 1, torch.arange(len(depths), device=depths.device)]
    return QuantizedBits(tokens, canvas, loss, figures)


def bit_entropies(unit: Tensor, groups: int = 1) -> Tensor:
    """Return (E, G), the entropy of single bits and that of the mean bit, in nats, summed over the d bits.

    A bit is 1 with the probability p = sigmoid(400 u / sqrt(d)). E is the mean over all positions of H(p). G is H of
    the mean p over the positions of a group of images, averaged over the groups.

    Args:
        unit: u, (B, n, d).
        groups: number of equal groups of images; B must be a multiple of it.
    """
    p = torch.sigmoid(unit * (SHARPNESS / unit.shape[-1] ** 0.5))
    of_groups = p.unflatten(0, (groups, -1)).mean(dim=(1, 2))
    return torch.stack([entropy(p).sum(dim=-1).mean(), entropy(of_groups).sum(dim=-1).mean()])


def entropy(p: Tensor) -> Tensor:
    """Return -p ln p - (1 - p) ln(1 - p), with `EPS` added in the logarithms."""
    return -p * torch.log(p + EPS) - (1 - p) * torch.log(1 - p + EPS)
