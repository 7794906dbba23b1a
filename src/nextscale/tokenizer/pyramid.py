"""The residual pyramid: feature grid <-> token maps, by way of the canvas (VAR, algorithms 1 and 2).

The canvas f_hat is the running sum of the up-sampled residuals. Next-scale prediction is two moves on it:
*add* the code vectors of scale k to the canvas, and *look* at the canvas at the size of scale k + 1. All that
handles tokens (encoding, quantizer training, teacher forcing, decoding, sampling, editing) is the one `walk` below
with its own answer to a single question: which code vectors does scale k get?
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.codebook import Codebook

Chooser = Callable[[int, Tensor], Tensor]
"""(k, canvas before scale k) -> code vectors of scale k, (B, n_k, D)."""


@dataclass(frozen=True)
class PyramidStep:
    """One scale added to the canvas."""

    index: int
    gain: Tensor
    """h_k, what the canvas gained, (B, D, h_K, w_K)."""
    canvas: Tensor
    """f_hat after scale k, (B, D, h_K, w_K)."""


class Quantized(NamedTuple):
    """What the quantizer's training pass gives."""

    tokens: list[Tensor]
    """K LongTensors (B, n_k)."""
    canvas: Tensor
    """The canvas to decode, with the straight-through gradient to the features, (B, D, h_K, w_K)."""
    loss: Tensor
    looks: Tensor
    """All vectors that a code was looked up for, (B L, D), without gradient."""


class ResidualConv(nn.Conv2d):
    """phi(x) = (1 - a) x + a conv3x3(x), with a = |quant_resi|: mends what up-sampling blurs."""

    def __init__(self, dim: int, ratio: float):
        super().__init__(dim, dim, kernel_size=3, padding=1)
        self.ratio = abs(ratio)

    def forward(self, input: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, D, h, w)."""
        return input.mul(1 - self.ratio) + super().forward(input).mul_(self.ratio)


class ResidualPyramid(nn.Module):
    """Codebook and phi convolutions over a scale schedule.

    Args:
        schedule: sizes of the K token maps.
        codebook: V codes of dimension D.
        quant_resi: weight a of the phi convolutions; 0 leaves them out.
        num_phi: P, how many phi convolutions the K scales share; 0 means one for each scale.
    """

    def __init__(self, schedule: ScaleSchedule, codebook: Codebook, quant_resi: float = 0.5, num_phi: int = 4):
        super().__init__()
        self.schedule = schedule
        self.codebook = codebook
        count = (num_phi or schedule.num_scales) if quant_resi else 0
        self.phi = nn.ModuleList(ResidualConv(codebook.dim, quant_resi) for _ in range(count))
        self.phi_of_scale = assign_phi(schedule, count)

    # ---- the two moves -------------------------------------------------------------------------------------------

    def gain(self, codes: Tensor, k: int) -> Tensor:
        """h_k = phi_k(upsample(e_k)), what scale k adds to the canvas. (B, n_k, D) -> (B, D, h_K, w_K)."""
        with torch.autocast(codes.device.type, enabled=False):  # the canvas is float32 throughout
            grid = codes.float().transpose(1, 2).unflatten(2, self.schedule.sizes[k])
            if k < self.schedule.num_scales - 1:
                grid = F.interpolate(grid, size=self.schedule.final_size, mode="bicubic")
            return self.phi[self.phi_of_scale[k]](grid.contiguous()) if self.phi else grid.contiguous()

    def look(self, canvas: Tensor, k: int) -> Tensor:
        """The canvas as scale k sees it: area interpolation. (B, D, h_K, w_K) -> (B, n_k, D)."""
        if k < self.schedule.num_scales - 1:
            canvas = F.interpolate(canvas, size=self.schedule.sizes[k], mode="area")
        return canvas.flatten(2).transpose(1, 2)

    def walk(self, choose: Chooser, canvas: Tensor) -> Iterator[PyramidStep]:
        """Go through the scales, coarse to fine: ask for code vectors, add them to the canvas.

        Args:
            choose: gives the code vectors of scale k; sees the canvas before scale k.
            canvas: where to start, usually `empty_canvas`.
        """
        for k in range(self.schedule.num_scales):
            gain = self.gain(choose(k, canvas), k)
            canvas = canvas + gain
            yield PyramidStep(k, gain, canvas)

    def empty_canvas(self, batch: int) -> Tensor:
        """f_hat = 0, (batch, D, h_K, w_K), in the codebook's type and on its device."""
        return self.codebook.weight.new_zeros(batch, self.codebook.dim, *self.schedule.final_size)

    # ---- the walks -----------------------------------------------------------------------------------------------

    def encode(self, features: Tensor) -> list[Tensor]:
        """Algorithm 1: quantize what the canvas still lacks, scale by scale. (B, D, h_K, w_K) -> K tensors (B, n_k)."""
        tokens: list[Tensor] = []
        for _ in self._encode(features, tokens):
            pass
        return tokens

    def accumulate(self, tokens: Sequence[Tensor]) -> Iterator[PyramidStep]:
        """Algorithm 2: the canvas of given tokens, scale by scale."""
        return self.walk(lambda k, _: self.codebook(tokens[k]), self.empty_canvas(len(tokens[0])))

    def canvas(self, tokens: Sequence[Tensor]) -> Tensor:
        """The full canvas of K token maps, (B, D, h_K, w_K)."""
        *_, step = self.accumulate(tokens)
        return step.canvas

    def next_inputs(self, tokens: Sequence[Tensor]) -> Tensor:
        """What the transformer sees under teacher forcing: the canvas after scale k, looked at at scale k + 1.

        Returns:
            (B, L - n_0, D); scale 0 has no input of its own.
        """
        canvases = [step.canvas for step in self.accumulate(tokens)]
        looks = [self.look(canvas, k + 1) for k, canvas in enumerate(canvases[:-1])]
        return torch.cat(looks, dim=1) if looks else canvases[0].new_zeros(len(tokens[0]), 0, self.codebook.dim)

    def quantize(self, features: Tensor, beta: float = 0.25, depths: Tensor | None = None) -> Quantized:
        """The quantizer's training pass: encoding whose canvases keep their gradient.

        loss = mean_k [ beta * mse(sg(f_hat_k), f) + mse(f_hat_k, sg(f)) ]

        Args:
            depths: (B,) in 1..K, how many scales of each image reach the canvas that is given; None is all.
        """
        tokens: list[Tensor] = []
        looks: list[Tensor] = []
        canvases: list[Tensor] = []
        losses: list[Tensor] = []
        for step in self._encode(features, tokens, looks):
            canvas = step.canvas
            canvases.append(canvas.detach())
            losses.append(beta * F.mse_loss(canvas.detach(), features) + F.mse_loss(canvas, features.detach()))
        canvas = canvases[-1]
        if depths is not None:
            canvas = torch.stack(canvases)[depths - 1, torch.arange(len(depths), device=depths.device)]
        straight_through = features + (canvas - features).detach()
        return Quantized(tokens, straight_through, torch.stack(losses).mean(), torch.cat(looks, dim=1).flatten(0, 1))

    def _encode(
        self, features: Tensor, tokens: list[Tensor], looks: list[Tensor] | None = None
    ) -> Iterator[PyramidStep]:
        """The walk of encoding: each scale gets the codes nearest to what is left of the features.

        Appends each scale's tokens to ``tokens``, and what they were looked up for to ``looks``.
        """
        rest = features.detach()

        def nearest(k: int, _: Tensor) -> Tensor:
            look = self.look(rest, k)
            tokens.append(self.codebook.nearest(look))
            if looks is not None:
                looks.append(look)
            return self.codebook(tokens[k])

        for step in self.walk(nearest, self.empty_canvas(len(features))):
            rest = rest - step.gain.detach()
            yield step


def assign_phi(schedule: ScaleSchedule, count: int) -> list[int]:
    """Which of ``count`` phi convolutions each scale uses: the one whose tick mark is nearest to k / (K - 1).

    The ticks are evenly spaced from 1/(3P) to 1 - 1/(3P) when P is 4, else from 1/(2P) to 1 - 1/(2P).
    """
    if count <= 1:
        return [0] * schedule.num_scales
    margin = 1 / 3 / count if count == 4 else 1 / 2 / count
    ticks = np.linspace(margin, 1 - margin, count)
    return [int(np.argmin(np.abs(ticks - schedule.position(k)))) for k in range(schedule.num_scales)]
