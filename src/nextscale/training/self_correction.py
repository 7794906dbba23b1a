"""Bitwise self-correction (arXiv 2412.04431, section 3.3): train on canvases with flipped bits.

Bits of every scale are flipped at random before their codes are added to the canvas. The labels are the signs of the
current residual, which contains the errors of the coarser scales. The transformer learns to repair its own errors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nextscale.data.loader import BatchSlice
from nextscale.scales.schedule import ScaleSchedule, Visit
from nextscale.tokenizer.pyramid import Chooser, ResidualPyramid


def random_flips(
    schedule: ScaleSchedule, bits: int, most: float, scales: int, batch_slice: BatchSlice, generator: torch.Generator
) -> list[Tensor]:
    """Return the bits to flip at the first scales: tensors (B, n_k, bits) bool, on the CPU.

    The probability of each scale is random, one of 0, 0.01, ... ``most``, and the same for the whole batch. An image
    has random numbers of its own, which do not depend on the division of the batch.

    Args:
        bits: number of bits of a token.
        most: largest probability.
        scales: number of scales; flips at the last scale would change nothing, and are left out.
    """
    counts = schedule.tokens_per_scale[: min(scales, schedule.num_scales - 1)]
    if not counts:
        return []
    rates = torch.randint(round(100 * most) + 1, (len(counts),), generator=generator) / 100
    each = batch_slice.generators(generator)
    uniform = torch.stack([torch.rand(sum(counts), bits, generator=image) for image in each])
    return [part < rate for part, rate in zip(uniform.split(counts, dim=1), rates, strict=True)]


@torch.no_grad()
def corrected(
    pyramid: ResidualPyramid, features: Tensor, flips: Sequence[Tensor], schedule: ScaleSchedule
) -> tuple[list[Tensor], Tensor]:
    """Encode features while bits are flipped.

    Args:
        features: (B, D, h_K, w_K), from the encoder.
        flips: the bits to flip at the first scales, (B, n_k, bits) bool.

    Returns:
        The labels, K tensors (B, n_k, bits) bool, and the transformer's inputs, (B, L - n_0, bits).
    """

    def label(visit: Visit, canvas: Tensor) -> Tensor:
        return pyramid.codebook.nearest(pyramid.residual(features - canvas, visit))

    return _walk(pyramid, label, flips, pyramid.empty_canvas(len(features), features.device, schedule), schedule)


@torch.no_grad()
def corrected_tokens(
    pyramid: ResidualPyramid, tokens: Sequence[Tensor], flips: Sequence[Tensor], schedule: ScaleSchedule
) -> tuple[list[Tensor], Tensor]:
    """Return what `corrected` returns for the features of some bits, as far as the bits determine it.

    The canvas of all bits stands for the features. A label is the known bit, or its opposite if the flips change the
    sign of the residual to this canvas. Without flips, the labels are the bits.

    Args:
        tokens: K tensors (B, n_k, bits) bool.
    """
    empty = pyramid.empty_canvas(len(tokens[0]), tokens[0].device, schedule)
    canvases = [empty, *(step.canvas for step in pyramid.accumulate(tokens, schedule))]

    def label(visit: Visit, canvas: Tensor) -> Tensor:
        k, last = visit.index, canvases[-1]
        now, then = (pyramid.codebook.nearest(pyramid.residual(last - c, visit)) for c in (canvas, canvases[k]))
        return tokens[k] ^ now ^ then

    return _walk(pyramid, label, flips, empty, schedule)


def _walk(
    pyramid: ResidualPyramid, label: Chooser, flips: Sequence[Tensor], canvas: Tensor, schedule: ScaleSchedule
) -> tuple[list[Tensor], Tensor]:
    """Visit all scales with the labels of each, flipped. Return the labels and the inputs."""
    labels: list[Tensor] = []
    looks = [canvas.new_zeros(len(canvas), 0, pyramid.codebook.dim)]

    def choose(visit: Visit, canvas: Tensor) -> Tensor:
        if visit.index:
            looks.append(pyramid.look(canvas, visit))
        bits = label(visit, canvas)
        labels.append(bits)
        return pyramid.codebook.codes(bits ^ flips[visit.index] if visit.index < len(flips) else bits)

    for _ in pyramid.walk(choose, canvas, schedule):
        pass
    return labels, torch.cat(looks, dim=1)
