"""The residual pyramid, which maps feature grids to token maps and back (VAR, algorithms 1 and 2).

The canvas f_hat is the running sum of the up-sampled code vectors. Next-scale prediction alternates two operations:
*add* the code vectors of scale k to the canvas, then *look* at the canvas at the size of scale k + 1. Encoding,
quantizer training, teacher forcing, decoding, sampling and editing all use `ResidualPyramid.walk`. They differ only in
how they choose the code vectors of a scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.scales.schedule import ScaleSchedule, Visit
from nextscale.tokenizer.bsq import SignBits
from nextscale.tokenizer.codebook import Codebook

if TYPE_CHECKING:
    from nextscale.scales.spacetime import Schedule

Chooser = Callable[[Visit, Tensor], Tensor]
"""Function (visit, canvas before the visit) -> code vectors of the visit, (B, n_k, D)."""


@dataclass(frozen=True)
class PyramidStep:
    """The canvas after one visit."""

    visit: Visit
    gain: Tensor
    """h_k, the term that the visit added to the canvas, (B, D, h_K, w_K)."""
    canvas: Tensor
    """f_hat after the visit, (B, D, h_K, w_K)."""
    finished: tuple[Tensor, ...] = ()
    """The canvases of the clips before, for videos."""

    @property
    def all_clips(self) -> Tensor:
        """The canvases of all clips so far as one: (B, D, h_K, w_K), or (B, D, t, h_K, w_K) for videos."""
        return torch.cat((*self.finished, self.canvas), 2) if self.finished else self.canvas

    @property
    def index(self) -> int:
        """k."""
        return self.visit.index


class Quantized(NamedTuple):
    """Result of `ResidualPyramid.quantize`."""

    tokens: list[Tensor]
    """K LongTensors (B, n_k)."""
    canvas: Tensor
    """The canvas to decode, with the straight-through gradient to the features, (B, D, h_K, w_K)."""
    loss: Tensor
    looks: Tensor
    """All quantized vectors, (B L, D), without gradient."""


class ResidualConv(nn.Conv2d):
    """Compute phi(x) = (1 - a) x + a conv3x3(x) with a = |quant_resi|. It corrects the blur of up-sampling."""

    def __init__(self, dim: int, ratio: float):
        super().__init__(dim, dim, kernel_size=3, padding=1)
        self.ratio = abs(ratio)

    def forward(self, input: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, D, h, w)."""
        return input.mul(1 - self.ratio) + super().forward(input).mul_(self.ratio)


@dataclass(frozen=True)
class Moves:
    """How token maps and canvases are resized."""

    up: Literal["bicubic", "bilinear"]
    """Code vectors to the size of the canvas."""
    residual: Literal["area", "bilinear"]
    """The residual to the size of a scale, for encoding."""
    look: Literal["area", "bilinear"]
    """The canvas to the size of a scale, for the transformer."""
    patch: int = 1
    """Side of the square of canvas positions that one token covers."""


VAR_MOVES = Moves(up="bicubic", residual="area", look="area")
INFINITY_MOVES = Moves(up="bilinear", residual="area", look="bilinear")


class ResidualPyramid(nn.Module):
    """The quantizer and the phi convolutions of a scale schedule.

    A token covers one position of the canvas, or a square of p x p positions ("patchify" in Infinity). The canvas then
    has D / p^2 channels and the size (p h_K, p w_K); channel c at the offset (y, x) in the square is entry
    p^2 c + p y + x of a code vector.

    Args:
        schedule: sizes of the K token maps.
        codebook: the quantizer, for VAR a codebook of V codes of dimension D.
        quant_resi: weight a of the phi convolutions; 0 removes them.
        num_phi: P, the number of phi convolutions that the K scales share; 0 means one for each scale.
        moves: how maps are resized.
    """

    def __init__(
        self,
        schedule: ScaleSchedule,
        codebook: Codebook | SignBits,
        quant_resi: float = 0.5,
        num_phi: int = 4,
        moves: Moves = VAR_MOVES,
    ):
        super().__init__()
        self.schedule = schedule
        self.codebook: Any = codebook
        self.moves = moves
        count = (num_phi or schedule.num_scales) if quant_resi else 0
        self.phi = nn.ModuleList(ResidualConv(codebook.dim, quant_resi) for _ in range(count))
        self.phi_of_scale = assign_phi(schedule, count)

    def quantizer(self, visit: Visit) -> Any:
        """Return the quantizer of a visit's tokens."""
        return self.codebook

    # ---- operations on the canvas --------------------------------------------------------------------------------

    def gain(self, codes: Tensor, visit: Visit, size: Sequence[int] | None = None) -> Tensor:
        """Return h_k = phi_k(upsample(e_k)), which a visit adds to the canvas. (B, n_k, D) -> (B, D, h_K, w_K).

        Args:
            size: (h_K, w_K) of the canvas; None means that of the pyramid's schedule.
        """
        with torch.autocast(codes.device.type, enabled=False):  # the canvas is float32 throughout
            grid = codes.float().transpose(1, 2).unflatten(2, visit.size[1:])
            if self.moves.patch > 1:
                grid = F.pixel_shuffle(grid, self.moves.patch)
            grid = resize(grid, size or self.canvas_size(self.schedule), self.moves.up)
            return self.phi[self.phi_of_scale[visit.index]](grid.contiguous()) if self.phi else grid.contiguous()

    def residual(self, rest: Tensor, visit: Visit) -> Tensor:
        """Return the residual (features minus canvas) at the size of a visit. (B, D, h_K, w_K) -> (B, n_k, D).

        VAR resizes residuals and canvases in the same way; Infinity resizes residuals by area.
        """
        return self._tokens(rest, visit, self.moves.residual)

    def look(self, canvas: Tensor, visit: Visit) -> Tensor:
        """Return the canvas at the size of a visit. (B, D, h_K, w_K) -> (B, n_k, D)."""
        return self._tokens(canvas, visit, self.moves.look)

    def _tokens(self, canvas: Tensor, visit: Visit, mode: str) -> Tensor:
        """Resize a map to a visit, and return it as a sequence of tokens."""
        h, w = visit.size[1:]
        patch = self.moves.patch
        canvas = resize(canvas, (patch * h, patch * w), mode)
        if patch > 1:
            canvas = F.pixel_unshuffle(canvas, patch)
        return canvas.flatten(2).transpose(1, 2)

    def walk(self, choose: Chooser, canvas: Tensor, schedule: Schedule | None = None) -> Iterator[PyramidStep]:
        """Visit the scales from coarse to fine, and add the chosen code vectors of each to the canvas.

        Args:
            choose: returns the code vectors of a visit, given the visit and the canvas before it.
            canvas: the initial canvas, usually `empty_canvas`.
            schedule: the scales to visit; None means the pyramid's own.
        """
        clip, finished = 0, ()
        for visit in (schedule or self.schedule).visits:
            if visit.clip != clip:
                clip, finished, canvas = visit.clip, (*finished, canvas), self.next_canvas(canvas, visit)
            gain = self.gain(choose(visit, canvas), visit, canvas.shape[-2:])
            canvas = canvas + gain
            yield PyramidStep(visit, gain, canvas, finished)

    def empty_canvas(self, batch: int, device: torch.device | None = None, schedule: Schedule | None = None) -> Tensor:
        """Return f_hat = 0, (batch, D, h_K, w_K) float32."""
        size = self.canvas_size(schedule or self.schedule)
        return torch.zeros(batch, self.codebook.dim // self.moves.patch**2, *size, device=device)

    def next_canvas(self, canvas: Tensor, visit: Visit) -> Tensor:
        """Return the empty canvas of a visit's clip, given that of the clip before it. Images have one clip."""
        return torch.zeros_like(canvas)

    def clip_features(self, features: Tensor, visit: Visit) -> Tensor:
        """Return the features of a visit's clip."""
        return features

    def canvas_size(self, schedule: Schedule) -> tuple[int, int]:
        """Return the height and width of the canvas of a schedule."""
        h, w = schedule.final_size
        return self.moves.patch * h, self.moves.patch * w

    def flat_schedule(self) -> ScaleSchedule:
        """Return the scales in positions of the canvas instead of tokens. They differ if a token covers a square."""
        patch = self.moves.patch
        return ScaleSchedule(tuple((patch * h, patch * w) for h, w in self.schedule.sizes))

    # ---- walks ---------------------------------------------------------------------------------------------------

    def encode(self, features: Tensor, schedule: Schedule | None = None) -> list[Tensor]:
        """Quantize the residual of each scale (algorithm 1). (B, D, h_K, w_K) -> K token maps (B, n_k, ...)."""
        tokens: list[Tensor] = []
        for _ in self._encode(features, tokens, schedule=schedule):
            pass
        return tokens

    def accumulate(self, tokens: Sequence[Tensor], schedule: Schedule | None = None) -> Iterator[PyramidStep]:
        """Yield the canvas of given tokens after each scale (algorithm 2)."""
        canvas = self.empty_canvas(len(tokens[0]), tokens[0].device, schedule)
        return self.walk(lambda visit, _: self.quantizer(visit).codes(tokens[visit.index]), canvas, schedule)

    def canvas(self, tokens: Sequence[Tensor], schedule: Schedule | None = None) -> Tensor:
        """Return the canvas of K token maps, (B, D, h_K, w_K). With fewer maps, the canvas after the last one."""
        *_, step = islice(self.accumulate(tokens, schedule), len(tokens))
        return step.all_clips

    def next_inputs(self, tokens: Sequence[Tensor], schedule: Schedule | None = None) -> Tensor:
        """Return the transformer's inputs under teacher forcing: the canvas after each scale at the size of the next.

        Returns:
            (B, L - n_0, D); scale 0 has no input.
        """
        canvases = [step.canvas for step in self.accumulate(tokens, schedule)]
        visits = (schedule or self.schedule).visits[1:]
        looks = [self.look(canvas, visit) for canvas, visit in zip(canvases, visits, strict=False)]
        return torch.cat(looks, dim=1) if looks else canvases[0].new_zeros(len(tokens[0]), 0, self.codebook.dim)

    def quantize(self, features: Tensor, beta: float = 0.25, depths: Tensor | None = None) -> Quantized:
        """Encode features for training, with gradients through the canvases.

        loss = mean_k [ beta * mse(sg(f_hat_k), f) + mse(f_hat_k, sg(f)) ]

        Args:
            depths: (B,) in 1..K, the number of scales of each image in the returned canvas; None means all.
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
        self,
        features: Tensor,
        tokens: list[Tensor],
        looks: list[Tensor] | None = None,
        schedule: Schedule | None = None,
    ) -> Iterator[PyramidStep]:
        """Walk over the scales with the codes nearest to the residual of each.

        Appends the tokens of each visit to ``tokens``, and the quantized vectors to ``looks``.
        """

        def nearest(visit: Visit, residual: Tensor) -> Tensor:
            tokens.append(self.quantizer(visit).nearest(residual))
            if looks is not None:
                looks.append(residual)
            return self.quantizer(visit).codes(tokens[-1])

        return self.encode_with(features.detach(), nearest, schedule)

    def encode_with(
        self, features: Tensor, code: Chooser, schedule: Schedule | None = None, through: bool = False
    ) -> Iterator[PyramidStep]:
        """Walk over the scales, and subtract what each adds to the canvas from the features.

        Args:
            code: returns the code vectors of a visit, given the visit and the residual at its size, (B, n_k, D).
            through: let gradients pass from the residual to the earlier scales.
        """
        rest, clip = features, -1

        def choose(visit: Visit, _: Tensor) -> Tensor:
            nonlocal rest, clip
            if visit.clip != clip:
                rest, clip = self.clip_features(features, visit), visit.clip
            return code(visit, self.residual(rest, visit))

        for step in self.walk(choose, self.empty_canvas(len(features), features.device, schedule), schedule):
            rest = rest - (step.gain if through else step.gain.detach())
            yield step


def resize(grid: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """Resize (B, C, h, w) to (B, C, *size). A map that has this size is returned unchanged."""
    return grid if tuple(grid.shape[-2:]) == tuple(size) else F.interpolate(grid, size=tuple(size), mode=mode)


def assign_phi(schedule: ScaleSchedule, count: int) -> list[int]:
    """Return the index of the phi convolution of each scale, whose tick is nearest to k / (K - 1).

    The P = ``count`` ticks are evenly spaced from 1/(3P) to 1 - 1/(3P) if P is 4, else from 1/(2P) to 1 - 1/(2P).
    """
    if count <= 1:
        return [0] * schedule.num_scales
    margin = 1 / 3 / count if count == 4 else 1 / 2 / count
    ticks = np.linspace(margin, 1 - margin, count)
    return [int(np.argmin(np.abs(ticks - schedule.position(k)))) for k in range(schedule.num_scales)]
