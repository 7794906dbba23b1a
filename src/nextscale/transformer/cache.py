"""The KV cache: keys and values of the scales sampled so far. The sampler owns it and allocates it once.

`plan_cache` computes the position of each scale from the schedule's visits. A scale is stored only if a later visit
sees it, and its place is reused after the last such visit. For VAR, the scales are stored one after the other, and
the last scale, which no other scale sees, is not stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from nextscale.scales.schedule import Visit
from nextscale.transformer.visibility import last_uses

Range = tuple[int, int]
"""(start, end) in the cache, in tokens."""


@dataclass(frozen=True)
class VisitPlan:
    """Positions at which one visit writes its keys and values, and reads those of the visits that it sees."""

    index: int
    write: Range | None
    """The range of this visit, or None if no later visit sees it."""
    read: tuple[Range, ...]
    """The ranges that the visit sees, including its own if ``write`` is not None. Adjacent ranges are joined."""


def plan_cache(visits: Sequence[Visit], lengths: Sequence[int]) -> list[VisitPlan]:
    """Return the plan of each visit. Each visit is written to the lowest free range that is long enough.

    Args:
        visits: the visits in sampling order.
        lengths: number of tokens of each visit.
    """
    last = last_uses(visits)
    stored: dict[int, Range] = {}
    plans = []
    for k, visit in enumerate(visits):
        stored = {j: where for j, where in stored.items() if last[j] >= k}
        write = None
        if last[k] > k:
            start = 0
            for left, right in sorted(stored.values()):
                if left - start >= lengths[k]:
                    break
                start = right
            write = stored[k] = start, start + lengths[k]
        seen = [stored[j] for j in visit.sees] + ([write] if write else [])
        plans.append(VisitPlan(k, write, _joined(seen)))
    return plans


def cache_length(plans: Sequence[VisitPlan]) -> int:
    """Return the number of tokens that a cache stores."""
    return max((plan.write[1] for plan in plans if plan.write), default=0)


def _joined(ranges: list[Range]) -> tuple[Range, ...]:
    joined: list[Range] = []
    for start, end in sorted(ranges):
        if joined and joined[-1][1] == start:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    return tuple(joined)


class KVCache:
    """The keys and values of every layer.

    Args:
        plans: from `plan_cache`.
        depth: number of layers.
        batch: number of sequences (twice the images under guidance).
        heads, head_dim: H and d.
    """

    def __init__(
        self,
        plans: Sequence[VisitPlan],
        depth: int,
        batch: int,
        heads: int,
        head_dim: int,
        device: torch.device,
        dtype: torch.dtype,
    ):
        self.plans = list(plans)
        length = cache_length(plans)
        self.keys = torch.empty(depth, batch, heads, length, head_dim, device=device, dtype=dtype)
        self.values = torch.empty_like(self.keys)

    def first(self, count: int) -> KVCache:
        """Return the cache of the first ``count`` sequences, which shares its tensors with this one."""
        part = copy(self)
        part.keys, part.values = self.keys[:, :count], self.values[:, :count]
        return part

    def layer(self, layer: int, visit: int) -> LayerCache:
        """Return the view of the cache for one layer and one visit."""
        return LayerCache(self.keys[layer], self.values[layer], self.plans[visit])


@dataclass(frozen=True)
class LayerCache:
    """One layer's keys and values, (B, H, length, d), and the plan of a visit."""

    keys: Tensor
    values: Tensor
    plan: VisitPlan

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add the keys and values of this visit, and return all keys and values that it sees, each (B, H, m, d).

        The result is a view of the cache if the visit and all visits that it sees lie in one range.

        Args:
            keys, values: (B, H, n, d).
        """
        if self.plan.write is not None:
            start, end = self.plan.write
            self.keys[:, :, start:end] = keys
            self.values[:, :, start:end] = values
        seen_keys = [self.keys[:, :, start:end] for start, end in self.plan.read]
        seen_values = [self.values[:, :, start:end] for start, end in self.plan.read]
        if self.plan.write is None:
            seen_keys.append(keys.to(self.keys.dtype))
            seen_values.append(values.to(self.values.dtype))
        if len(seen_keys) == 1:
            return seen_keys[0], seen_values[0]
        return torch.cat(seen_keys, 2), torch.cat(seen_values, 2)
