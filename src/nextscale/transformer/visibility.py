"""The attention pattern, derived from the schedule's visits.

A token sees its own scale and the scales in `Visit.sees`.

Teacher forcing computes all scales at once. `make_spans` divides the queries into spans, each with the range of keys
that its queries see. This computes few hidden pairs. With a mask over all L x L pairs, 38 % of the scores would be
unused for VAR at 256 pixels. Sampling visits one scale after another. `last_uses` returns the last visit that needs
the keys and values of each scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nextscale.scales.schedule import Visit

MAX_MERGED_TOKENS = 128
"""Consecutive small scales are merged into one masked span of up to this many tokens."""


@dataclass(frozen=True)
class Span:
    """A range of queries, and the range of keys that they see, in full or under a mask."""

    queries: slice
    keys: slice
    mask: Tensor | None = None
    """(number of queries, number of keys) bool, True where a query sees a key; None if every query sees every key."""


def make_spans(visits: Sequence[Visit], slices: Sequence[slice], device: torch.device) -> list[Span]:
    """Return the spans of a whole sequence.

    Args:
        visits, slices: the scales and their positions in the sequence of L tokens.
        device: device of the masks.
    """
    groups: list[list[int]] = []
    for k, where in enumerate(slices):
        if groups and where.stop - slices[groups[-1][0]].start <= MAX_MERGED_TOKENS:
            groups[-1].append(k)
        else:
            groups.append([k])
    return [_make_span(group, visits, slices, device) for group in groups]


def last_uses(visits: Sequence[Visit]) -> list[int]:
    """Return the index of the last visit that sees each visit. It is the visit's own index if no other sees it."""
    last = list(range(len(visits)))
    for k, visit in enumerate(visits):
        for j in visit.sees:
            last[j] = max(last[j], k)
    return last


def _make_span(group: list[int], visits: Sequence[Visit], slices: Sequence[slice], device: torch.device) -> Span:
    seen = {k: {k, *visits[k].sees} for k in group}
    first, last = min(map(min, seen.values())), max(map(max, seen.values()))
    keys = range(first, last + 1)
    mask = None
    if any(len(seen[k]) < len(keys) for k in group):
        sees = torch.tensor([[j in seen[k] for j in keys] for k in group], device=device)
        rows, columns = (
            torch.tensor([i for i, k in enumerate(ks) for _ in range(slices[k].start, slices[k].stop)], device=device)
            for ks in (group, keys)
        )
        mask = sees[rows][:, columns]
    queries = slice(slices[group[0]].start, slices[group[-1]].stop)
    return Span(queries, slice(slices[first].start, slices[last].stop), mask)
