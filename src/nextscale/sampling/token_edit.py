"""Zero-shot editing: keep some tokens of a given image and sample the others (VAR, section 5.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nextscale.errors import InputError
from nextscale.protocols import Quantizer, Schedule

ALWAYS_KEPT = 3
"""The official code keeps all tokens of scales with at most this many: they determine the composition."""


@dataclass(frozen=True)
class TokenEdit:
    """The tokens of a given image, and where to keep them.

    The mask has the size of the last scale. It is resized bilinearly to the other scales; values > 0.5 keep a token.
    """

    tokens: Sequence[Tensor]
    """K token maps (B, n_k, *token_shape), or (1, ...) for all. The first ones are enough if only they are kept."""
    keep: Tensor
    """(h_K, w_K) or (B, h_K, w_K): 1 keeps the given image's tokens, 0 samples new ones."""
    always_kept: int = ALWAYS_KEPT
    """All tokens of scales with at most this many are kept, regardless of the mask."""
    scales_kept: int = 0
    """All tokens of this many first scales are kept as well."""

    @classmethod
    def of_scales(cls, tokens: Sequence[Tensor], schedule: Schedule) -> TokenEdit:
        """Keep the tokens of the first scales, as many as are given."""
        return cls(tokens, torch.zeros(schedule.final_size), always_kept=0, scales_kept=len(tokens))

    def check(self, schedule: Schedule, batch: int) -> None:
        """Raises InputError if mask, scales or number of images do not fit."""
        if not 0 <= self.scales_kept <= len(schedule.visits):
            raise InputError(f"scales to keep are 0 to {len(schedule.visits)}, not {self.scales_kept}")
        if self.keep.ndim not in (2, 3) or tuple(self.keep.shape[-2:]) != schedule.final_size:
            raise InputError(
                f"the keep mask must have the size of the last scale, {schedule.final_size}, "
                f"not {tuple(self.keep.shape)}"
            )
        for name, count in (("tokens", len(self.tokens[0])), ("mask", 1 if self.keep.ndim == 2 else len(self.keep))):
            if count not in (1, batch):
                raise InputError(
                    f"the {name} to keep (edit or keep_scales) {'is' if name == 'mask' else 'are'} for {count} images, "
                    f"but {batch} are sampled"
                )

    def kept(self, k: int, schedule: Schedule) -> Tensor:
        """Bool mask (B or 1, n_k) of the tokens of scale k to keep."""
        keep = self.keep.float().reshape(-1, 1, *schedule.final_size)
        frames, *size = schedule.visits[k].size
        if k < self.scales_kept or schedule.visits[k].num_tokens <= self.always_kept:
            keep = keep.new_ones(len(keep), 1, *size)
        else:
            keep = F.interpolate(keep, size=size, mode="bilinear", align_corners=False)
        return (keep > 0.5).expand(-1, frames, -1, -1).flatten(1)

    def put(self, tokens: Sequence[Tensor], schedule: Schedule) -> list[Tensor]:
        """Sampled tokens, K of (B, n_k, *token_shape), with the kept ones put in their places."""
        put = list(tokens)
        for k, sampled in enumerate(tokens[: len(self.tokens)]):
            kept = self.kept(k, schedule).to(sampled.device)
            kept = kept.reshape(*kept.shape, *[1] * (sampled.ndim - 2))
            put[k] = torch.where(kept, self.tokens[k].to(sampled), sampled)
        return put

    def replace(self, codes: Tensor, k: int, codebook: Quantizer, schedule: Schedule) -> Tensor:
        """Code vectors of scale k with those of the kept tokens put in their places. (B, n_k, D) -> (B, n_k, D)."""
        if k >= len(self.tokens):
            return codes
        kept = self.kept(k, schedule).to(codes.device)
        return torch.where(kept.unsqueeze(-1), codebook.codes(self.tokens[k].to(codes.device)), codes)


def box_mask(box: tuple[float, float, float, float], schedule: Schedule) -> Tensor:
    """A mask of the size of the last scale, 1 inside the box (y0, x0, y1, x1). The box is in fractions of the sides."""
    y0, x0, y1, x1 = box
    h, w = schedule.final_size
    if not (0 <= y0 < y1 <= 1 and 0 <= x0 < x1 <= 1):
        raise InputError(f"a box is y0,x0,y1,x1 with 0 <= y0 < y1 <= 1 and 0 <= x0 < x1 <= 1, not {box}")
    mask = torch.zeros(h, w)
    mask[round(y0 * h) : round(y1 * h), round(x0 * w) : round(x1 * w)] = 1
    return mask
