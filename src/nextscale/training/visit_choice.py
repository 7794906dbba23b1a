"""Which visits of a schedule a training step computes: one of each scale, of all scales or of a random subset.

A whole video of five seconds has 80,000 tokens at 480p. InfinityStar trains on some scales at a time (arXiv
2511.04675; the probabilities are those of the released scripts). A subset has the largest scale of a clip if a later
clip is in it, because that scale is what the later clip sees.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch

from nextscale.errors import InputError
from nextscale.scales.schedule import Visit
from nextscale.scales.spacetime import SpacetimeSchedule
from nextscale.training.recipes import Subsets


class Subset(NamedTuple):
    """Scales that are trained together."""

    scales: tuple[int, ...]
    """Counted through all clips."""
    weight: float
    """Its probability, up to a factor that all subsets share."""


SCALES_PER_CLIP: dict[Subsets, int] = {"480p": 14, "720p": 15, "720p-largest": 15}


def released_subsets(kind: Subsets, clips: int) -> list[Subset]:
    """Return the subsets of the released scripts for a video of several clips.

    Args:
        kind: see `VideoRecipe.subsets`.
        clips: number of clips, the first frame included.

    Raises:
        InputError: there are none for so many clips.
    """
    known = {"480p": (2, 3), "720p": (2,), "720p-largest": (2,)}[kind]
    if clips not in known:
        raise InputError(f"subsets {kind} are for {' or '.join(map(str, known))} clips, not {clips}")
    k = SCALES_PER_CLIP[kind]

    def first(count: int, *more: int) -> tuple[int, ...]:
        return (*range(k + count), *more)

    common = [first(0), first(8), first(11), first(11, k + 11), first(11, k + 12)]
    weights = (60, 20, 10, 6, 2) if kind != "480p" else (40, 30, 20, 6, 3)
    subsets = [Subset(scales, weight) for scales, weight in zip(common, weights, strict=True)]
    if kind == "720p-largest":
        return [*subsets, Subset((k - 1, k + 13), 1), Subset((k - 1, k + 14), 1)]
    if clips == 2:
        return [*subsets, Subset(first(8, k + 13), 1)]
    seen, third = (k - 1, 2 * k - 1), 2 * k
    last = [Subset((*seen, *range(third, third + 11)), 100)]
    last += [Subset((*seen, third + i), weight) for i, weight in ((11, 12), (12, 6), (13, 2))]
    return [*subsets, Subset(first(11, k + 13), 1), *last]


def choose_scales(schedule: SpacetimeSchedule, kind: Subsets, generator: torch.Generator) -> Iterable[int]:
    """Return the scales of a step, counted through all clips. All scales of an image are trained.

    Raises:
        InputError: the schedule has another number of scales or clips than the subsets are for.
    """
    if kind == "all" or len(schedule.clips) == 1:
        return range(schedule.num_scales)
    expected = SCALES_PER_CLIP[kind]
    if len(schedule.sizes) != expected:
        raise InputError(f"subsets {kind} are for {expected} scales, not {len(schedule.sizes)}")
    subsets = released_subsets(kind, len(schedule.clips))
    weights = torch.tensor([subset.weight for subset in subsets], dtype=torch.float64)
    return subsets[int(torch.multinomial(weights, 1, generator=generator))].scales


def one_of_each(
    schedule: SpacetimeSchedule, scales: Iterable[int], generator: torch.Generator | None = None
) -> list[Visit]:
    """Return one visit of each of these scales: a random one, or the last one without a generator."""
    visits: dict[int, list[Visit]] = {}
    for visit in schedule.visits:
        visits.setdefault(visit.scale, []).append(visit)
    chosen = [visits[scale] for scale in sorted(scales)]
    if generator is None:
        return [repeats[-1] for repeats in chosen]
    return [repeats[int(torch.randint(len(repeats), (), generator=generator))] for repeats in chosen]
