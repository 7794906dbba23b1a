"""Zero-shot editing: keep some tokens of a given image, draw the others (VAR, section 5.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nextscale.errors import InputError
from nextscale.scales.schedule import ScaleSchedule

ALWAYS_KEPT = 3
"""Scales of at most so many tokens are kept whole by the official code: they set the image's composition."""


@dataclass(frozen=True)
class TokenEdit:
    """The given image's tokens, and where to keep them.

    The mask lives on the last scale's grid; on the other scales it is resized bilinearly and kept where > 0.5.
    """

    tokens: Sequence[Tensor]
    """K LongTensors (B, n_k), or (1, n_k) for all images."""
    keep: Tensor
    """(h_K, w_K) or (B, h_K, w_K): 1 keeps the given image's tokens, 0 draws new ones."""
    always_kept: int = ALWAYS_KEPT
    """Scales of at most so many tokens are kept whole, whatever the mask says."""
    scales_kept: int = 0
    """The first so many scales are kept whole, too."""

    def check(self, schedule: ScaleSchedule, batch: int) -> None:
        """Raises InputError if the mask, the scales or the number of images do not fit."""
        if not 0 <= self.scales_kept <= schedule.num_scales:
            raise InputError(f"scales to keep are 0 to {schedule.num_scales}, not {self.scales_kept}")
        if self.keep.ndim not in (2, 3) or tuple(self.keep.shape[-2:]) != schedule.final_size:
            raise InputError(
                f"the keep mask must have the size of the last scale, {schedule.final_size}, "
                f"not {tuple(self.keep.shape)}"
            )
        for name, count in (("tokens", len(self.tokens[0])), ("mask", 1 if self.keep.ndim == 2 else len(self.keep))):
            if count not in (1, batch):
                raise InputError(f"the edit's {name} is for {count} images, but {batch} are drawn")

    def kept(self, k: int, schedule: ScaleSchedule) -> Tensor:
        """True where scale k keeps the given token. -> (B or 1, n_k)."""
        keep = self.keep.float().reshape(-1, 1, *schedule.final_size)
        if k < self.scales_kept or schedule.tokens_per_scale[k] <= self.always_kept:
            keep = keep.new_ones(len(keep), 1, *schedule.sizes[k])
        else:
            keep = F.interpolate(keep, size=schedule.sizes[k], mode="bilinear", align_corners=False)
        return (keep > 0.5).flatten(1)

    def put(self, tokens: Sequence[Tensor], schedule: ScaleSchedule) -> list[Tensor]:
        """Drawn tokens, K of (B, n_k), with the kept ones in their places."""
        return [torch.where(self.kept(k, schedule).to(t.device), self.tokens[k].to(t), t) for k, t in enumerate(tokens)]


def box_mask(box: tuple[float, float, float, float], schedule: ScaleSchedule) -> Tensor:
    """A mask on the last scale's grid, 1 inside the box (y0, x0, y1, x1), given as fractions of the sides."""
    y0, x0, y1, x1 = box
    h, w = schedule.final_size
    if not (0 <= y0 < y1 <= 1 and 0 <= x0 < x1 <= 1):
        raise InputError(f"a box is y0,x0,y1,x1 with 0 <= y0 < y1 <= 1 and 0 <= x0 < x1 <= 1, not {box}")
    mask = torch.zeros(h, w)
    mask[round(y0 * h) : round(y1 * h), round(x0 * w) : round(x1 * w)] = 1
    return mask
