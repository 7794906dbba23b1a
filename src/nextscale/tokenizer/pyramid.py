"""The residual pyramid: feature grid to token maps and back, over the canvas (VAR, algorithms 1 and 2).

The canvas f_hat is the running sum of the up-sampled code vectors. Next-scale prediction is two moves on it:
*add* the code vectors of scale k to the canvas, then *look* at the canvas at the size of scale k + 1. Encoding,
quantizer training, teacher forcing, decoding, sampling and editing all use the one `walk` below. They differ only in
how they choose the code vectors of a scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.scales.schedule import ScaleSchedule, Visit
from nextscale.tokenizer.codebook import Codebook

Chooser = Callable[[Visit, Tensor], Tensor]
"""(visit, canvas before it) -> code vectors of the visit, (B, n_k, D)."""


@dataclass(frozen=True)
class PyramidStep:
    """The canvas after one visit."""

    visit: Visit
    gain: Tensor
    """h_k, what the visit added, (B, D, h_K, w_K)."""
    canvas: Tensor
    """f_hat after the visit, (B, D, h_K, w_K)."""

    @property
    def index(self) -> int:
        """k."""
        return self.visit.index


class Quantized(NamedTuple):
    """Result of the quantizer's training pass."""

    tokens: list[Tensor]
    """K LongTensors (B, n_k)."""
    canvas: Tensor
    """The canvas to decode, with the straight-through gradient to the features, (B, D, h_K, w_K)."""
    loss: Tensor
    looks: Tensor
    """All quantized vectors, (B L, D), without gradient."""


class ResidualConv(nn.Conv2d):
    """phi(x) = (1 - a) x + a conv3x3(x), with a = |quant_resi|. It corrects the blur of up-sampling."""

    def __init__(self, dim: int, ratio: float):
        super().__init__(dim, dim, kernel_size=3, padding=1)
        self.ratio = abs(ratio)

    def forward(self, input: Tensor) -> Tensor:
        return input.mul(1 - self.ratio) + self.convolve(input).mul_(self.ratio)

    def convolve(self, input: Tensor) -> Tensor:
        """The convolution. On the CPU one image is computed as two: a batch of one would round differently."""
        if len(input) == 1 and input.device.type == "cpu":
            return super().forward(input.expand(2, -1, -1, -1))[:1]
        return super().forward(input)


class ResidualPyramid(nn.Module):
    """Codebook and phi convolutions over a scale schedule.

    Args:
        schedule: sizes of the K token maps.
        codebook: V codes of dimension D.
        quant_resi: weight a of the phi convolutions; 0 leaves them out.
        num_phi: P, the number of phi convolutions that the K scales share; 0 means one for each scale.
    """

    def __init__(self, schedule: ScaleSchedule, codebook: Codebook, quant_resi: float = 0.5, num_phi: int = 4):
        super().__init__()
        self.schedule = schedule
        self.codebook = codebook
        count = (num_phi or schedule.num_scales) if quant_resi else 0
        self.phi = nn.ModuleList(ResidualConv(codebook.dim, quant_resi) for _ in range(count))
        self.phi_of_scale = assign_phi(schedule, count)

    # ---- moves on the canvas -------------------------------------------------------------------------------------

    def gain(self, codes: Tensor, visit: Visit) -> Tensor:
        """h_k = phi_k(upsample(e_k)), added to the canvas by a visit. (B, n_k, D) -> (B, D, h_K, w_K)."""
        with torch.autocast(codes.device.type, enabled=False):  # the canvas is float32 throughout
            grid = codes.float().transpose(1, 2).unflatten(2, visit.size[1:])
            if not self._is_last(visit):
                grid = F.interpolate(grid, size=self.schedule.final_size, mode="bicubic")
            return self.phi[self.phi_of_scale[visit.index]](grid.contiguous()) if self.phi else grid.contiguous()

    def residual(self, rest: Tensor, visit: Visit) -> Tensor:
        """What encoding quantizes: the features minus the canvas, at the visit's size. (B, D, h_K, w_K) -> (B, n_k, D).

        VAR shrinks residuals and canvases alike, by area.
        """
        return self.look(rest, visit)

    def look(self, canvas: Tensor, visit: Visit) -> Tensor:
        """The transformer's view of the canvas: shrunk by area to the visit's size. (B, D, h_K, w_K) -> (B, n_k, D)."""
        if not self._is_last(visit):
            canvas = F.interpolate(canvas, size=visit.size[1:], mode="area")
        return canvas.flatten(2).transpose(1, 2)

    def walk(self, choose: Chooser, canvas: Tensor) -> Iterator[PyramidStep]:
        """Visit the scales, coarse to fine: choose code vectors, add them to the canvas.

        Args:
            choose: gives the code vectors of a visit; sees the canvas before it.
            canvas: the initial canvas, usually `empty_canvas`.
        """
        for visit in self.schedule.visits:
            gain = self.gain(choose(visit, canvas), visit)
            canvas = canvas + gain
            yield PyramidStep(visit, gain, canvas)

    def empty_canvas(self, batch: int) -> Tensor:
        """f_hat = 0, (batch, D, h_K, w_K), with the codebook's type and device."""
        return self.codebook.weight.new_zeros(batch, self.codebook.dim, *self.schedule.final_size)

    def _is_last(self, visit: Visit) -> bool:
        """Whether the visit is of the last scale, which is neither up-sampled nor shrunk."""
        return visit.index == self.schedule.num_scales - 1

    # ---- walks ---------------------------------------------------------------------------------------------------

    def encode(self, features: Tensor) -> list[Tensor]:
        """Algorithm 1: quantize the residual, scale by scale. (B, D, h_K, w_K) -> K LongTensors (B, n_k)."""
        tokens: list[Tensor] = []
        for _ in self._encode(features, tokens):
            pass
        return tokens

    def accumulate(self, tokens: Sequence[Tensor]) -> Iterator[PyramidStep]:
        """Algorithm 2: the canvas of given tokens, scale by scale."""
        return self.walk(lambda visit, _: self.codebook.codes(tokens[visit.index]), self.empty_canvas(len(tokens[0])))

    def canvas(self, tokens: Sequence[Tensor]) -> Tensor:
        """The full canvas of K token maps, (B, D, h_K, w_K)."""
        *_, step = self.accumulate(tokens)
        return step.canvas

    def next_inputs(self, tokens: Sequence[Tensor]) -> Tensor:
        """The transformer's inputs under teacher forcing: the canvas after each scale, at the size of the next.

        Returns:
            (B, L - n_0, D); scale 0 has no input.
        """
        canvases = [step.canvas for step in self.accumulate(tokens)]
        looks = [self.look(canvas, visit) for canvas, visit in zip(canvases, self.schedule.visits[1:], strict=False)]
        return torch.cat(looks, dim=1) if looks else canvases[0].new_zeros(len(tokens[0]), 0, self.codebook.dim)

    def quantize(self, features: Tensor, beta: float = 0.25, depths: Tensor | None = None) -> Quantized:
        """The quantizer's training pass: encoding whose canvases keep their gradient.

        loss = mean_k [ beta * mse(sg(f_hat_k), f) + mse(f_hat_k, sg(f)) ]

        Args:
            depths: (B,) in 1..K, the number of scales of each image that the returned canvas contains; None is all.
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
        """The walk of encoding: each visit gets the codes nearest to the residual.

        Appends the tokens of each visit to ``tokens``, and the quantized vectors to ``looks``.
        """
        rest = features.detach()

        def nearest(visit: Visit, _: Tensor) -> Tensor:
            residual = self.residual(rest, visit)
            tokens.append(self.codebook.nearest(residual))
            if looks is not None:
                looks.append(residual)
            return self.codebook.codes(tokens[-1])

        for step in self.walk(nearest, self.empty_canvas(len(features))):
            rest = rest - step.gain.detach()
            yield step


def assign_phi(schedule: ScaleSchedule, count: int) -> list[int]:
    """The index of the phi convolution of each scale: the one whose tick mark is nearest to k / (K - 1).

    The ``count`` ticks are evenly spaced from 1/(3P) to 1 - 1/(3P) when P is 4, else from 1/(2P) to 1 - 1/(2P).
    """
    if count <= 1:
        return [0] * schedule.num_scales
    margin = 1 / 3 / count if count == 4 else 1 / 2 / count
    ticks = np.linspace(margin, 1 - margin, count)
    return [int(np.argmin(np.abs(ticks - schedule.position(k)))) for k in range(schedule.num_scales)]
