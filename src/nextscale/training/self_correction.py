"""Bitwise self-correction (arXiv 2412.04431, section 3.3): train on canvases with flipped bits.

Bits of every scale are flipped at random before their codes are added to the canvas. The labels are the signs of the
current residual, which contains the errors of the coarser scales. The transformer learns to repair its own errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor

from nextscale.data.loader import BatchSlice
from nextscale.scales.schedule import ScaleSchedule, Visit
from nextscale.scales.spacetime import Schedule
from nextscale.tokenizer.pyramid import Chooser, ResidualPyramid


def random_flips(
    schedule: Schedule,
    bits: int | Sequence[int],
    most: float,
    scales: int,
    batch_slice: BatchSlice,
    generator: torch.Generator,
) -> list[Tensor]:
    """Return the bits to flip at the visits of the first scales: tensors (B, n, bits) bool, on the CPU.

    The probability of each visit is random, one of 0, 0.01, ... ``most``, and the same for the whole batch. An image
    has random numbers of its own, which do not depend on the division of the batch.

    Args:
        bits: number of bits of a token, or of a token of each visit.
        most: largest probability.
        scales: number of scales; flips at the last scale would change nothing, and are left out.
    """
    visits = [visit for visit in schedule.visits if visit.scale < min(scales, schedule.num_scales - 1)]
    if not visits:
        return []
    shapes = [(v.num_tokens, bits if isinstance(bits, int) else bits[v.index]) for v in visits]
    counts = [tokens * width for tokens, width in shapes]
    rates = torch.randint(round(100 * most) + 1, (len(visits),), generator=generator) / 100
    each = batch_slice.generators(generator)
    uniform = torch.stack([torch.rand(sum(counts), generator=image) for image in each])
    parts = zip(uniform.split(counts, dim=1), rates, shapes, strict=True)
    return [(part < rate).unflatten(1, shape) for part, rate, shape in parts]


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
    labels, looks = corrected_visits(pyramid, features, flips, schedule, schedule.visits)
    return labels, later_inputs(looks)


@torch.no_grad()
def corrected_visits(
    pyramid: ResidualPyramid, features: Tensor, flips: Sequence[Tensor], schedule: Schedule, chosen: Sequence[Visit]
) -> tuple[list[Tensor], list[Tensor]]:
    """Encode features while bits are flipped, and return what the transformer is trained on at some visits.

    Args:
        features: (B, D, h_K, w_K), or (B, D, N, h_K, w_K) for videos.
        flips: the bits to flip at the first visits, (B, n, bits) bool.
        chosen: visits in the order of the schedule. The others only change the canvas.

    Returns:
        The labels (B, n, bits) bool and the transformer's inputs (B, n, D) of each chosen visit.
    """

    def label(visit: Visit, canvas: Tensor) -> Tensor:
        rest = pyramid.clip_features(features, visit) - canvas
        return pyramid.quantizer(visit).nearest(pyramid.residual(rest, visit))

    empty = pyramid.empty_canvas(len(features), features.device, schedule)
    return _walk(pyramid, label, flips, empty, schedule, chosen)


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

    labels, looks = _walk(pyramid, label, flips, empty, schedule, schedule.visits)
    return labels, later_inputs(looks)


def later_inputs(looks: Sequence[Tensor]) -> Tensor:
    """Return the inputs of all visits but the first, which has none in image models. (B, L - n_0, D)."""
    return torch.cat([looks[0][:, :0], *looks[1:]], dim=1)


def _walk(
    pyramid: ResidualPyramid,
    label: Chooser,
    flips: Sequence[Tensor],
    canvas: Tensor,
    schedule: Schedule,
    chosen: Sequence[Visit],
) -> tuple[list[Tensor], list[Tensor]]:
    """Visit all scales with the labels of each, flipped. Return the labels and the inputs of the chosen visits."""
    labels: list[Tensor] = []
    looks: list[Tensor] = []
    indices = {visit.index for visit in chosen}

    def choose(visit: Visit, canvas: Tensor) -> Tensor:
        bits = label(visit, canvas)
        if visit.index in indices:
            looks.append(pyramid.look(canvas, visit))
            labels.append(bits)
        flipped = bits ^ flips[visit.index] if visit.index < len(flips) else bits
        return pyramid.quantizer(visit).codes(flipped)

    for _ in islice(pyramid.walk(choose, canvas, schedule), max(indices) + 1):
        pass
    return labels, looks
