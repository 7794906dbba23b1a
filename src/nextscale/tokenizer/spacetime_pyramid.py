"""The residual pyramids of a video, one for each clip, with two widths of tokens (InfinityStar, section 3).

A canvas has 64 channels. Semantic tokens have 16 bits, detail tokens 64. Between a token map and the canvas, the
channel axis is resized like height and width: each frame is a volume (channels, h, w). Time is never resized.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nextscale.scales.schedule import Visit
from nextscale.scales.spacetime import Schedule, SpacetimeSchedule
from nextscale.tokenizer.bsq import SignBits
from nextscale.tokenizer.pyramid import INFINITY_MOVES, ResidualPyramid

SEMANTIC_BITS = 16


class SpacetimePyramid(ResidualPyramid):
    """The pyramids of all clips.

    Tokens of a visit are in the order frame, row, column: (B, t h w, d) bool, d = 16 or 64. Canvases and features are
    (B, D, t, h_K, w_K).

    Args:
        schedule: the visits, unless a call has its own.
        channels: D, the number of bits of a detail token.
        semantic_bits: the number of bits of a semantic token.
    """

    schedule: SpacetimeSchedule  # type: ignore[assignment]

    def __init__(self, schedule: SpacetimeSchedule, channels: int = 64, semantic_bits: int = SEMANTIC_BITS):
        super().__init__(schedule, SignBits(channels), quant_resi=0.0, moves=INFINITY_MOVES)  # type: ignore[arg-type]
        self.semantic = SignBits(semantic_bits)

    def quantizer(self, visit: Visit) -> SignBits:
        return self.codebook if visit.quantizer else self.semantic

    def gain(self, codes: Tensor, visit: Visit, size: Sequence[int] | None = None) -> Tensor:
        """Resize code vectors trilinearly. (B, n, d) -> (B, D, t, h_K, w_K)."""
        with torch.autocast(codes.device.type, enabled=False):
            t, h, w = visit.size
            volumes = codes.float().view(len(codes), t, h, w, -1).movedim(-1, 2)
            size = (self.codebook.dim, *(size or self.schedule.final_size))
            return resize_volumes(volumes, size, "trilinear").transpose(1, 2)

    def residual(self, rest: Tensor, visit: Visit) -> Tensor:
        """Average the residual to the channels and the size of a visit. (B, D, t, h_K, w_K) -> (B, n, d)."""
        return self._average(rest, visit, self.quantizer(visit).dim)

    def look(self, canvas: Tensor, visit: Visit) -> Tensor:
        """Average the canvas to the size of a visit. (B, D, t, h_K, w_K) -> (B, n, D)."""
        return self._average(canvas, visit, self.codebook.dim)

    def _average(self, canvas: Tensor, visit: Visit, channels: int) -> Tensor:
        volumes = resize_volumes(canvas.transpose(1, 2), (channels, *visit.size[1:]), "area")
        return volumes.movedim(2, -1).flatten(1, 3)

    def empty_canvas(self, batch: int, device: torch.device | None = None, schedule: Schedule | None = None) -> Tensor:
        """Return the empty canvas of the first clip, (batch, D, 1, h_K, w_K) float32."""
        h, w = (schedule or self.schedule).final_size
        return torch.zeros(batch, self.codebook.dim, 1, h, w, device=device)

    def next_canvas(self, canvas: Tensor, visit: Visit) -> Tensor:
        b, channels, _, h, w = canvas.shape
        return canvas.new_zeros(b, channels, visit.size[0], h, w)

    def clip_features(self, features: Tensor, visit: Visit) -> Tensor:
        return features[:, :, visit.start : visit.start + visit.size[0]]


def resize_volumes(volumes: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """Resize the last three axes of (B, t, c, h, w) to ``size``."""
    if tuple(volumes.shape[2:]) == tuple(size):
        return volumes
    b, t = volumes.shape[:2]
    return F.interpolate(volumes.flatten(0, 1)[:, None], tuple(size), mode=mode)[:, 0].unflatten(0, (b, t))
